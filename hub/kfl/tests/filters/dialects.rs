//! What filters in each dialect are read as, shown by their canonical form.

use wiretape_kfl::{FIELDS, Field, MACROS, compile};

/// 2026-01-31T12:00:00Z.
const NOW: u64 = 1_769_860_800_000_000_000;

#[track_caller]
fn check(text: &str, expect: &str) {
    let filter = compile(text, NOW).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string(), expect);
    assert_eq!(
        compile(expect, NOW),
        Ok(filter),
        "the canonical form means something else"
    );
}

#[test]
fn empty_filter_is_everything() {
    for text in ["", "  \n", "# nothing", "// nothing"] {
        assert_eq!(compile(text, NOW).unwrap().expr, None);
    }
    check("", "");
}

#[test]
fn the_pages_mixture() {
    check(
        r#"src.pod contains "frontend""#,
        r#"src.pod.name.contains("frontend")"#,
    );
    check(r#"dst.svc=="frontend""#, r#"dst.service.name == "frontend""#);
    check(
        r#"request.path=="/api/v1/checkout" and response.status==503"#,
        r#"path == "/api/v1/checkout" && status_code == 503"#,
    );
    check("http and response.status >= 400", "http && status_code >= 400");
    check("http and status >= 400", "http && status_code >= 400");
    check(
        r#"src.ns == "frontend" and dst.ns == "backend""#,
        r#"src.namespace == "frontend" && dst.namespace == "backend""#,
    );
    check(r#"dst.pod == "database""#, r#"dst.pod.name == "database""#);
    check(
        r#"request.headers["Authorization"] == """#,
        r#"request.headers["authorization"] == """#,
    );
    check("response.latency > 1000", "elapsed_time > 1000000");
    check(
        r#"request.path contains "/api/v1""#,
        r#"path.contains("/api/v1")"#,
    );
    check(
        r#"dns and response.code == "NXDOMAIN""#,
        r#"dns && dns_response_code == "NXDOMAIN""#,
    );
    check(
        r#"src.pod.name == "frontend-.*""#,
        r#"src.pod.name == "frontend-.*""#,
    );
    check(
        "timestamp >= now()",
        r#"timestamp >= timestamp("2026-01-31T12:00:00Z")"#,
    );
    check("not response.status == 200", "!(status_code == 200)");
}

#[test]
fn kfl1() {
    check(
        r#"request.path == r"/api/.*""#,
        r#"path.matches("^(?:/api/.*)$")"#,
    );
    check(
        r#"response.status == r"4.*""#,
        r#"string(status_code).matches("^(?:4.*)$")"#,
    );
    check(
        r#"request.path != r"/h.*""#,
        r#"http && !path.matches("^(?:/h.*)$")"#,
    );
    check(
        r#"response.status != r"2.*" and http"#,
        r#"(http || dns) && !string(status_code).matches("^(?:2.*)$") && http"#,
    );
    check(
        r#"request.path.startsWith("/a") or dns"#,
        r#"path.startsWith("/a") || dns"#,
    );
    check("response.status == nil", "status_code == null");
    check("request.method != nil", r#"method != """#);
    check("namespaces == nil", "size(namespaces) == 0");
    check(
        "timestamp > minutes(-5)",
        r#"timestamp > timestamp("2026-01-31T11:55:00Z")"#,
    );
    check(
        "timestamp > 1769860800000",
        r#"timestamp > timestamp("2026-01-31T12:00:00Z")"#,
    );
    check(
        r#"timestamp < datetime("1/31/2026, 3:04:05 PM")"#,
        r#"timestamp < timestamp("2026-01-31T15:04:05Z")"#,
    );
    check("elapsedTime < 0.5", "elapsed_time < 500");
    check(r#"request.query.a == "1""#, r#"query_string["a"] == "1""#);
    check(r#"protocol.name == "HTTP""#, r#"protocol == "http""#);
    check(r#"response.status == "503""#, "status_code == 503");
}

#[test]
fn kfl2() {
    check(
        r#"http && !(method == "GET") || dns"#,
        r#"http && !(method == "GET") || dns"#,
    );
    check(
        r#"status_code in [502, 503, "504"] && path.contains("y")"#,
        r#"status_code in [502, 503, 504] && path.contains("y")"#,
    );
    check(r#"path.matches("^/a/\\d+$")"#, r#"path.matches("^/a/\\d+$")"#);
    check(r#"path.matches(r"^/a/\d+$")"#, r#"path.matches("^/a/\\d+$")"#);
    check(
        r#"size(path) > 5 && namespaces.size() > 1"#,
        "size(path) > 5 && size(namespaces) > 1",
    );
    check(r#""default" in namespaces"#, r#""default" in namespaces"#);
    check(r#"namespaces contains "default""#, r#""default" in namespaces"#);
    check(r#"src.pod.name in pods"#, "src.pod.name in pods");
    check(r#""X-Id" in request.headers"#, r#""x-id" in request.headers"#);
    check(r#""App" in local_labels"#, r#""App" in local_labels"#);
    check(
        r#"timestamp > now() - duration("5m")"#,
        r#"timestamp > timestamp("2026-01-31T11:55:00Z")"#,
    );
    check(r#"elapsed_time / 1000 >= 1.5 * 2"#, "elapsed_time / 1000 >= 3");
    check("src.port % 2 == 0", "src.port % 2 == 0");
    check(
        "1 - (src.port - (dst.port - 1)) * 2 > 0",
        "1 - (src.port - (dst.port - 1)) * 2 > 0",
    );
    check("-src.port < -1", "0 - src.port < -1");
    check("status_code != null", "status_code != null");
    check("src.port == dst.port", "src.port == dst.port");
    check("dns_request == false", "dns_request == false");
    check("(http && tls) != true", "!(http && tls)");
}

#[test]
fn bare_field_is_a_condition() {
    check("status_code", "http || dns");
    check("!status_code and tls", "!(http || dns) && tls");
    check("path", "http");
    check("src.pod", r#"src.pod.name != """#);
    check(r#"request.headers["x"]"#, r#"request.headers["x"] != """#);
    check("conn_id", "conn_id != 0");
    check("services", "size(services) != 0");
    check("response.latency", "elapsed_time != 0");
    check("true or http", "true || http");
}

#[test]
fn literal_on_the_left_moves_to_the_right() {
    check("500 <= response.status", "status_code >= 500");
    check("1000 < response.latency", "elapsed_time > 1000000");
    check("true == http", "http == true");
}

#[test]
fn latency_in_milliseconds_is_scaled_at_the_literal() {
    check(
        "response.latency in [1, 2.5, 1.005]",
        "elapsed_time in [1000, 2500, 1005]",
    );
    check("latency_ms >= 0.0001", "elapsed_time >= 0.1");
    check(r#"response.latency > "250""#, "elapsed_time > 250000");
    check(r#"elapsed_time > duration("1.5s")"#, "elapsed_time > 1500000");
    check(r#"response.latency > duration("1.5s")"#, "elapsed_time > 1500000");
    check(
        "response.latency > 2 * src.port",
        "elapsed_time / 1000 > 2 * src.port",
    );
    check("response.latency == nil", "elapsed_time == null");
}

#[test]
fn protocol_names_match_in_any_case() {
    check(r#"proto == "HTTP""#, r#"protocol == "http""#);
    check(
        r#"protocol in ["DNS", "Redis"]"#,
        r#"protocol in ["dns", "redis"]"#,
    );
    check(r#"protocol.startsWith("HT")"#, r#"protocol.startsWith("ht")"#);
    check(
        r#"protocol matches "^HT\\S""#,
        r#"protocol.matches("(?i)^HT\\S")"#,
    );
    check(r#"protocol == r"HT.*""#, r#"protocol.matches("(?i)^(?:HT.*)$")"#);
}

#[test]
fn groups_of_one_kind_are_one_group() {
    check(
        "http and (dns and tls) and (tcp or (udp or icmp))",
        "http && dns && tls && (tcp || udp || icmp)",
    );
    check("((http))", "http");
}

#[test]
fn texts_are_quoted_again() {
    check(r#"path == 'a"b\\c'"#, r#"path == "a\"b\\c""#);
    check(
        "path == \"\\x00\\n\\u0085\\U0001F600\"",
        "path == \"\\u0000\\n\\u0085\u{1f600}\"",
    );
}

#[test]
fn every_field_and_alias_compiles_and_prints_its_name() {
    for info in FIELDS {
        for name in info.aliases.iter().chain([&info.name]) {
            let filter = compile(&format!("{name} == {name}"), NOW);
            match info.kind {
                wiretape_kfl::Kind::List | wiretape_kfl::Kind::Map => {
                    let size = compile(&format!("size({name}) == 0"), NOW).unwrap();
                    assert_eq!(size.to_string(), format!("size({}) == 0", info.name));
                    assert!(filter.is_err(), "{name}");
                }
                _ => assert_eq!(filter.unwrap().to_string(), format!("{0} == {0}", info.name)),
            }
        }
    }
}

#[test]
fn every_macro_compiles() {
    for found in MACROS {
        assert_eq!(compile(found.name, NOW), compile(found.filter, NOW));
        assert!(compile(found.filter, NOW).unwrap().expr.is_some());
    }
    check("not http2", r#"!(http && http_version.startsWith("HTTP/2"))"#);
}

#[test]
fn fields_of_a_filter_include_flags_of_owners() {
    let filter = compile(
        r#"status_code == 200 and "x" in pods and not size(path) > 3"#,
        NOW,
    )
    .unwrap();
    let fields: Vec<_> = filter.fields().into_iter().collect();
    assert_eq!(
        fields,
        [
            Field::Pods,
            Field::Http,
            Field::Dns,
            Field::StatusCode,
            Field::Path
        ]
    );
    assert!(compile("", NOW).unwrap().fields().is_empty());
}
