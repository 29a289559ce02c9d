//! What KFL2 and KFL1 have beyond comparisons: choices, loops, maps, wildcards, documents. Shown by the canonical form.

use wiretape_kfl::{Field, Redaction, compile};

/// 2026-01-31T12:00:00Z.
const NOW: u64 = 1_769_860_800_000_000_000;

#[track_caller]
fn check(text: &str, expect: &str) {
    let filter = compile(text, NOW).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string(), expect);
    let again = compile(expect, NOW).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, filter, "the canonical form means something else");
}

/// It also needs nothing that a store could not say.
#[track_caller]
fn check_plain(text: &str, expect: &str) {
    check(text, expect);
    assert_eq!(compile(text, NOW).unwrap().computed().len(), 0, "{text}");
}

#[test]
fn choice_becomes_two_conditions() {
    check_plain(
        "http ? status_code >= 500 : outcome == 'timeout'",
        r#"http && status_code >= 500 || !http && outcome == "timeout""#,
    );
    check_plain(
        "(grpc ? grpc_status : status_code) != 0",
        "grpc && grpc_status != 0 || !grpc && status_code != 0",
    );
    check_plain(
        "500 < (tls ? 1 : dns ? 2 : src.port)",
        "tls && 1 > 500 || !tls && (dns && 2 > 500 || !dns && src.port > 500)",
    );
    check_plain(
        "(tls ? path : url) contains '/a'",
        r#"tls && path.contains("/a") || !tls && url.contains("/a")"#,
    );
    check_plain(
        "(tls ? src.ns : dst.ns) in ['a', 'b']",
        r#"tls && src.namespace in ["a", "b"] || !tls && dst.namespace in ["a", "b"]"#,
    );
    check(
        "(tls ? 'a' : src.ns) + 'x' == 'ax'",
        r#"(tls ? "a" : src.namespace) + "x" == "ax""#,
    );
}

#[test]
fn conditions_compare_with_each_other() {
    check_plain(
        "(src.ns == 'a') == (dst.ns == 'a')",
        r#"src.namespace == "a" && dst.namespace == "a" || !(src.namespace == "a") && !(dst.namespace == "a")"#,
    );
    check_plain(
        "http != (src.port == 80)",
        "!(http && src.port == 80 || !http && !(src.port == 80))",
    );
}

#[test]
fn loop_over_a_written_list_becomes_what_it_would_be_without() {
    check_plain(
        "['/a', '/b'].exists(p, path.startsWith(p))",
        r#"path.startsWith("/a") || path.startsWith("/b")"#,
    );
    check_plain(
        "[src.ns, dst.ns].all(n, n != 'shop')",
        r#"src.namespace != "shop" && dst.namespace != "shop""#,
    );
    check_plain("[].all(x, x == 1)", "true");
    check_plain("[].exists(x, x == 1)", "false");
    check_plain("src.port in [1, 2].map(x, x * 1000)", "src.port in [1000, 2000]");
    check_plain(
        "[1, 2].exists(x, [10, 20].exists(y, src.port == x * y))",
        "src.port == 10 || src.port == 20 || src.port == 20 || src.port == 40",
    );
    check_plain("src.port > size([1, 2].map(x, x))", "src.port > 2");
}

#[test]
fn loop_over_a_field() {
    check_plain("namespaces.exists(n, n == 'shop')", r#""shop" in namespaces"#);
    check_plain(
        "dns_questions.exists(q, q == dst.dns)",
        "dst.dns in dns_questions",
    );
    check(
        "namespaces.exists(n, n.startsWith('shop-') and n != src.ns)",
        r#"namespaces.exists(v0, v0.startsWith("shop-") && v0 != src.namespace)"#,
    );
    check(
        "request.headers.all(k, request.headers[k] != '' || k in ['te', 'x'])",
        r#"request.headers.all(v0, request.headers[v0] != "" || v0 in ["te", "x"])"#,
    );
    check(
        "pods.exists_one(p, services.existsOne(s, p.startsWith(s)))",
        "pods.exists_one(v0, services.exists_one(v1, v0.startsWith(v1)))",
    );
    check(
        "size(pods.filter(p, p matches '^web')) > 1",
        r#"size(pods.filter(v0, v0.matches("^web"))) > 1"#,
    );
    check(
        "'WEB' in pods.map(p, p.size() > 2, p.upperAscii())",
        r#""WEB" in pods.map(v0, size(v0) > 2, v0.upperAscii())"#,
    );
    check(
        "dns_question_types == ['A', 'AAAA']",
        r#"dns_question_types == ["A", "AAAA"]"#,
    );
    check(
        "[[1, 2], [3]].exists(l, size(l) == 1 && src.port in l)",
        "[[1, 2], [3]].exists(v0, size(v0) == 1 && src.port in v0)",
    );
}

#[test]
fn fields_on_both_sides() {
    check(
        "request.path.contains(dst.svc)",
        "path.contains(dst.service.name)",
    );
    check("url startsWith path + '?'", r#"url.startsWith(path + "?")"#);
    check_plain(
        "status in [200, dst.port]",
        "status_code == 200 || status_code == dst.port",
    );
    check(
        r#"{"GET": 1000, "POST": 5000}[method] < elapsed_time"#,
        r#"{"GET": 1000, "POST": 5000}[method] < elapsed_time"#,
    );
    check("path.split('/')[1] == 'api'", r#"path.split("/")[1] == "api""#);
    check(
        "string(src.port) + ':' + string(dst.port) == '1:2'",
        r#"string(src.port) + ":" + string(dst.port) == "1:2""#,
    );
    check(
        "int(request.headers['content-length']) > request_body_size",
        r#"int(request.headers["content-length"]) > request_body_size"#,
    );
    check("size(path + url) % 2 == 0", "size(path + url) % 2 == 0");
}

#[test]
fn maps_and_presence() {
    check_plain(
        "map_get(request.headers, 'X-Id', '') == '7'",
        r#"request.headers["x-id"] == "7""#,
    );
    check_plain(
        "map_get(local_labels, 'tier', 'none') == 'none'",
        r#""tier" in local_labels && local_labels["tier"] == "none" || !("tier" in local_labels) && "none" == "none""#,
    );
    check_plain(
        "map_get(request.headers, 'a', 'none') != 'b'",
        r#"http && ("a" in request.headers && request.headers["a"] != "b" || !("a" in request.headers) && "none" != "b")"#,
    );
    check(
        "map_get(request.headers, 'a', 'x') + 'y' == 'xy'",
        r#"map_get(request.headers, "a", "x") + "y" == "xy""#,
    );
    check(
        "request.headers[dst.svc] == 'x'",
        r#"request.headers[dst.service.name] == "x""#,
    );
    check_plain("has(request.headers.Host)", r#""host" in request.headers"#);
    check_plain("has(request.query['a'])", r#""a" in query_string"#);
    check_plain("has(status_code)", "status_code != null");
    check_plain("!has(src.pod.name)", r#"!(src.pod.name != "")"#);
    check_plain("has(pods) and has(http)", "size(pods) != 0 && http");
    check(
        "{'a': 1}.exists(k, k == path)",
        r#"{"a": 1}.exists(v0, v0 == path)"#,
    );
    check(
        "method in {'GET': 1, 'PUT': 2}",
        r#"method in {"GET": 1, "PUT": 2}"#,
    );
}

#[test]
fn wildcards() {
    check_plain(
        "src.service.* == 'x'",
        r#"src.service.name == "x" || src.service.namespace == "x""#,
    );
    check("node.* == 'n1'", r#"node.* == "n1""#);
    check(
        "request.headers.* == 'secret'",
        r#"request.headers.* == "secret""#,
    );
    check(
        "request.headers[*] contains 'secret'",
        r#"request.headers.*.contains("secret")"#,
    );
    check("namespaces.* != 'shop'", r#"namespaces.* != "shop""#);
    check(
        r#"request.query.* == r"\d+""#,
        r#"query_string.*.matches("^(?:\\d+)$")"#,
    );
    check("'x' == request.cookies.*", r#"request.cookies.* == "x""#);
    check("request.cookies.*", "size(request.cookies.*) != 0");
    let filter = compile("dst.* contains 'front'", NOW).unwrap();
    assert!(filter.computed().is_empty());
    let fields = filter.fields();
    for field in [
        Field::DstPodName,
        Field::DstServiceName,
        Field::DstName,
        Field::DstIp,
    ] {
        assert!(fields.contains(&field), "{}", field.name());
    }
    let none = compile("src.* != 'x'", NOW).unwrap().to_string();
    assert!(none.contains(r#"src.ip != "x" && "#), "{none}");
}

#[test]
fn documents() {
    check(
        r#"response.body.json().brand.name == "Chevrolet""#,
        r#"response.body.json()["brand"]["name"] == "Chevrolet""#,
    );
    check(
        "response.body.json().items[0].id > 5 and request.body.xml().order['@id'] == '7'",
        r#"response.body.json()["items"][0]["id"] > 5 && request.body.xml()["order"]["@id"] == "7""#,
    );
    check(
        "response.body.json().items.*.id == 5",
        r#"response.body.json()["items"].*["id"] == 5"#,
    );
    check(
        "response.body.json().items.exists(i, i.id == 5 && has(i.name))",
        r#"response.body.json()["items"].exists(v0, v0["id"] == 5 && has(v0["name"]))"#,
    );
    check(
        "response.body.json().ok and response.body.json().error == null",
        r#"response.body.json()["ok"] && http && !has(response.body.json()["error"])"#,
    );
}

#[test]
fn times_on_either_side() {
    let at = |offset: &str| format!(r#"timestamp > timestamp("2026-01-31T{offset}Z")"#);
    check_plain("timestamp - duration('5m') > now()", &at("12:05:00"));
    check_plain("timestamp + duration('5m') > now()", &at("11:55:00"));
    check_plain("now() - timestamp < duration('5m')", &at("11:55:00"));
    check_plain("duration('5m') > now() - timestamp", &at("11:55:00"));
    check_plain(
        "timestamp - timestamp('2026-01-31T11:00:00Z') > duration('1h')",
        &at("12:00:00"),
    );
}

#[test]
fn constants_are_put_together() {
    check_plain("path == '/api' + '/v' + string(1)", r#"path == "/api/v1""#);
    check_plain(
        "src.pod == ' WEB '.trim().lowerAscii()",
        r#"src.pod.name == "web""#,
    );
    check_plain("src.port in [1] + [2]", "src.port in [1, 2]");
    check_plain("src.port == [7, 8][1]", "src.port == 8");
    check_plain("src.port == 0x1F90", "src.port == 8080");
}

#[test]
fn limit_and_redaction_stand_beside_the_condition() {
    let filter = compile(
        r#"http and redact("request.headers.Authorization", "path") and limit(100)"#,
        NOW,
    )
    .unwrap();
    assert_eq!(filter.limit, Some(100));
    let authorization = Redaction::Entry {
        map: Field::RequestHeaders,
        key: "authorization".to_owned(),
    };
    assert_eq!(filter.redactions, [authorization, Redaction::Field(Field::Path)]);
    check(
        "(http or dns) and limit(5) and limit(7) and redact('request.path', 'path')",
        r#"(http || dns) && limit(5) && redact("path")"#,
    );
    check("limit(5)", "limit(5)");
}
