//! Which entries a filter finds.

use crate::row::Entry;
use wiretape_kfl::{Field, Value, compile, evaluate};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_769_860_800 * SECOND;

/// A checkout that failed, a minute ago.
fn checkout() -> Entry {
    Entry::default()
        .flag(Field::Http)
        .text(Field::Protocol, "http")
        .text(Field::SrcPodName, "frontend-abc123")
        .text(Field::DstServiceName, "checkout")
        .text(Field::Method, "POST")
        .text(Field::Path, "/api/v1/checkout")
        .text(Field::HttpVersion, "HTTP/1.1")
        .int(Field::StatusCode, 503)
        .int(Field::ElapsedTime, 4_200_000)
        .int(Field::SrcPort, 40_000)
        .int(Field::DstPort, 8080)
        .text(Field::Outcome, "server_error")
        .list(Field::Namespaces, &["shop", "default"])
        .with(Field::Timestamp, Value::Time(NOW - 60 * SECOND))
        .in_map(Field::RequestHeaders, "X-Request-Id", "7")
        .in_map(Field::RequestHeaders, "Host", "checkout")
        .in_map(Field::QueryString, "Page", "2")
}

/// A request that nobody answered.
fn unanswered() -> Entry {
    Entry::default()
        .flag(Field::Http)
        .text(Field::Path, "/slow")
        .text(Field::Outcome, "no_response")
}

fn dns() -> Entry {
    Entry::default()
        .flag(Field::Dns)
        .text(Field::Protocol, "dns")
        .int(Field::StatusCode, 3)
        .text(Field::DnsResponseCode, "NXDOMAIN")
}

#[track_caller]
fn check(entry: &Entry, expect: bool, filters: &[&str]) {
    for filter in filters {
        let compiled = compile(filter, NOW).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(evaluate(&compiled, entry), expect, "{filter}");
    }
}

#[test]
fn failing_checkout_is_found() {
    check(
        &checkout(),
        true,
        &[
            "",
            r#"src.pod contains "frontend""#,
            r#"dst.svc=="checkout""#,
            r#"request.path=="/api/v1/checkout" and response.status==503"#,
            "http and response.status >= 500",
            r#"response.status == r"5.*""#,
            "status in [502, 503]",
            "response.latency > 4199.9 and response.latency <= 4200",
            "elapsed_time / 1000 == 4200",
            r#"proto == "HTTP""#,
            r#"path.matches("v\\d") and path.startsWith("/api") and path.endsWith("out")"#,
            r#"timestamp > now() - duration("5m") and timestamp < seconds(-30)"#,
            "error",
            r#""shop" in namespaces and size(namespaces) == 2"#,
            "src.port == dst.port + 31920 and src.port % 2 == 0",
            "size(path) == 16",
            "not http2",
        ],
    );
    check(
        &checkout(),
        false,
        &[
            r#"src.pod contains "Frontend""#,
            "http and response.status >= 504",
            r#"response.status == r"5""#,
            "status in [200, 404]",
            "response.latency > 4200",
            "timestamp >= now()",
            r#""kube-system" in namespaces"#,
            "dns",
            "false",
        ],
    );
}

#[test]
fn and_binds_tighter_than_or() {
    check(&checkout(), true, &["http or dns and dns", "not dns and http"]);
    check(
        &checkout(),
        false,
        &["(http or dns) and dns", "not (dns or http)"],
    );
}

#[test]
fn header_names_match_in_any_case_and_other_keys_do_not() {
    check(
        &checkout(),
        true,
        &[
            r#"request.headers["x-REQUEST-id"] == "7""#,
            r#"request.headers.host == "checkout""#,
            r#""HOST" in request.headers"#,
            r#"request.query.Page == "2""#,
            "size(request.headers) == 2",
        ],
    );
    check(
        &checkout(),
        false,
        &[r#"request.query.page == "2""#, r#""page" in query_string"#],
    );
}

#[test]
fn key_that_a_map_lacks_is_empty() {
    check(
        &checkout(),
        true,
        &[
            r#"request.headers["Authorization"] == """#,
            r#"not request.headers["Authorization"]"#,
            r#"response.headers["x"] == """#,
            "size(response.headers) == 0",
        ],
    );
}

#[test]
fn field_of_another_protocol_is_false_whatever_the_operator() {
    check(
        &dns(),
        false,
        &[
            "path == \"\"",
            "path != \"/\"",
            "path contains \"\"",
            "path in [\"\"]",
            r#"path != r"x""#,
            "size(path) == 0",
            "elapsed_time + request_body_size > 0 or request_body_size == null",
            r#"request.headers["x"] == """#,
            "path",
            "kafka_request == false",
        ],
    );
    check(
        &dns(),
        true,
        &[
            "not (path == \"\")",
            "!path",
            "not kafka_request",
            "status_code == 3",
            "status_code",
        ],
    );
}

#[test]
fn number_that_was_not_recorded_compares_with_nothing() {
    check(
        &unanswered(),
        false,
        &[
            "status == 200",
            "status != 200",
            "status < 400",
            "status in [0]",
            "elapsed_time + 1 > 0",
            "elapsed_time == elapsed_time",
            "status != null",
            r#"status == r"\d+""#,
        ],
    );
    check(
        &unanswered(),
        true,
        &[
            "status == null",
            "not (status == 200)",
            r#"string(status) == """#,
            r#"status != r"\d+""#,
            "error",
        ],
    );
}

#[test]
fn text_that_was_not_recorded_is_empty() {
    check(
        &unanswered(),
        true,
        &[
            "src.pod == \"\"",
            "src.pod != \"x\"",
            "size(src.pod) == 0",
            "src.pod < \"a\"",
        ],
    );
    check(
        &unanswered(),
        false,
        &["src.pod", "src.pod contains \"x\"", "\"x\" in pods", "outgoing"],
    );
}

#[test]
fn numbers_compare_exactly_when_whole() {
    let huge = Entry::default().int(Field::ConnId, 9_007_199_254_740_993);
    check(
        &huge,
        true,
        &["conn_id == 9007199254740993", "conn_id > 9007199254740992"],
    );
    check(&huge, false, &["conn_id == 9007199254740992"]);
}

#[test]
fn division_by_zero_has_no_value() {
    let entry = Entry::default().int(Field::SrcPort, 1).int(Field::DstPort, 0);
    check(
        &entry,
        false,
        &[
            "src.port / dst.port > 0",
            "src.port / dst.port != 0",
            "dst.port / dst.port == dst.port / dst.port",
            "src.port % dst.port == 0",
        ],
    );
    check(
        &entry,
        true,
        &["3 / 2 == 1.5", "-7 % 3 == -1", "(src.port + 2) / 2 == 1.5"],
    );
}

#[test]
fn characters_are_counted_not_bytes() {
    let entry = Entry::default().text(Field::SrcName, "h\u{e9}\u{1f600}");
    check(&entry, true, &["size(src.name) == 3"]);
}

#[test]
fn value_of_another_kind_than_its_field_is_missing() {
    let entry = Entry::default()
        .int(Field::SrcPodName, 5)
        .text(Field::SrcPort, "x")
        .text(Field::Outgoing, "true");
    check(
        &entry,
        true,
        &["src.pod == \"\"", "not outgoing", "src.port == null"],
    );
    check(&entry, false, &["src.port != 1", "outgoing == true"]);
}
