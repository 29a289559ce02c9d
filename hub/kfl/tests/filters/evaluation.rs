//! Which entries a filter finds.

use crate::row::Entry;
use wiretape_kfl::{DOCUMENT_NESTING, EVALUATION_STEPS, Field, GaveUp, Value, compile, decide, evaluate};

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

/// A call with these bodies.
fn bodies(request: &'static str, response: &'static str) -> Entry {
    checkout()
        .text(Field::RequestBody, request)
        .text(Field::ResponseBody, response)
}

#[test]
fn json_in_a_body() {
    let entry = bodies(
        r#"{"user": {"name": "Ann", "tags": ["a", "b"]}, "items": [{"id": 5, "price": 1.5}, {"id": 7}]}"#,
        r#"{"ok": true, "error": null, "nested": "{\"x\": 1}"}"#,
    );
    check(
        &entry,
        true,
        &[
            r#"request.body.json().user.name == "Ann""#,
            r#"request.body.json()["user"]["tags"][1] == "b""#,
            "request.body.json().items.*.id == 7",
            "request.body.json().items.*.id != 8",
            "request.body.json().items.exists(i, i.id == 5 and i.price > 1)",
            "size(request.body.json().items.filter(i, has(i.price))) == 1",
            "size(request.body.json().user) == 2",
            r#"request.body.json().user.map(k, k) == ["name", "tags"]"#,
            r#"request.body.json().user.tags == ["a", "b"]"#,
            r#""name" in request.body.json().user"#,
            "response.body.json().ok",
            "response.body.json().error == null",
            r#""error" in response.body.json()"#,
            "response.body.json().nested.json().x == 1",
            r#"request.body.json().user.name == r"A.n""#,
            r#"string(request.body.json().items[0].id) == "5""#,
        ],
    );
    check(
        &entry,
        false,
        &[
            r#"request.body.json().nobody.name == "Ann""#,
            r#"request.body.json().nobody != "Ann""#,
            "request.body.json().items[2].id == 5",
            "request.body.json().items[-1].id == 5",
            "request.body.json().user.name > 5",
            "request.body.json().items == 5",
            "path.json().x == 1",
            "has(request.body.json().user.age)",
            "response.body.json().error",
        ],
    );
}

#[test]
fn xml_in_a_body() {
    let entry = bodies(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE order><!-- one --><order id='7' a=\"&lt;\">\n\
         <item>tea &amp; <![CDATA[<milk>]]></item><item n=\"2\">cup&#x41;&nbsp;</item><empty/></order>",
        "<a><b></a>",
    );
    check(
        &entry,
        true,
        &[
            r#"request.body.xml().order["@id"] == "7" and request.body.xml().order["@a"] == "<""#,
            r#"request.body.xml().order.item[0] == "tea & <milk>""#,
            r##"request.body.xml().order.item[1]["#text"] == "cupA&nbsp;""##,
            r#"request.body.xml().order.empty == """#,
            "response.body.xml() == null",
        ],
    );
    check(
        &entry,
        false,
        &[
            r#"request.body.xml().order == "x""#,
            r#"request.body.xml().item == "tea""#,
            "has(request.body.xml().order.nothing)",
        ],
    );
}

#[test]
fn xml_that_is_cut_anywhere_is_no_document() {
    const WHOLE: &str = "<a b='c&amp;'><!--d--><e><![CDATA[f]]>g</e><h i=\"j\"/>&lt;</a>";
    for end in 0..WHOLE.len() {
        let entry = bodies("", WHOLE.get(..end).unwrap());
        check(&entry, true, &["response.body.xml() == null"]);
    }
    check(&bodies("", WHOLE), false, &["response.body.xml() == null"]);
}

#[test]
fn document_nested_to_the_limit() {
    let json = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let xml = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    let of = |text: String| Entry::default().with(Field::SrcName, Value::Text(text.into()));
    for (method, at, above) in [
        ("json", json(DOCUMENT_NESTING), json(DOCUMENT_NESTING + 1)),
        ("xml", xml(DOCUMENT_NESTING), xml(DOCUMENT_NESTING + 1)),
    ] {
        let filter = format!("src.name.{method}() != null");
        check(&of(at), true, &[&filter]);
        check(&of(above), false, &[&filter]);
    }
    let huge = "[".repeat(EVALUATION_STEPS / 2);
    check(&of(huge), false, &["src.name.json() != null"]);
}

#[test]
fn entry_that_takes_more_steps_than_allowed_does_not_match() {
    let list = |entries: usize| Entry::default().list(Field::Pods, &vec!["x"; entries]);
    let filter = compile("pods.all(a, pods.all(b, a == b))", NOW).unwrap();
    assert_eq!(decide(&filter, &list(100)), Ok(true));
    assert_eq!(decide(&filter, &list(2000)), Err(GaveUp));
    assert!(!evaluate(&filter, &list(2000)));
    // What is put together counts, and what is only carried along.
    let long = Entry::default().with(Field::SrcName, Value::Text("x".repeat(1 << 20).into()));
    let filter = compile(
        "size(['a', src.name + 'b', 'c'].filter(a, size(src.name) > 1)) == 3",
        NOW,
    )
    .unwrap();
    assert_eq!(decide(&filter, &long), Ok(true));
    let many = vec!["src.name + 'b'"; 100].join(", ");
    let filter = compile(&format!("size([{many}].filter(a, a != 'c')) > 0"), NOW).unwrap();
    assert_eq!(decide(&filter, &long), Err(GaveUp));
    // Without loops and documents, nothing is too large.
    assert_eq!(
        decide(&compile("src.name.matches('x$')", NOW).unwrap(), &long),
        Ok(true)
    );
}

#[test]
fn loops_over_headers_see_each_key_once_and_every_value() {
    let entry =
        checkout()
            .in_map(Field::RequestHeaders, "Accept", "a")
            .in_map(Field::RequestHeaders, "ACCEPT", "b");
    check(
        &entry,
        true,
        &[
            r#"request.headers.exists_one(k, k == "accept")"#,
            r#"request.headers.* == "b""#,
            r#"request.headers[("ACC" + "ept")] == "a""#,
            r#"("Acc" + "EPT").trim() in request.headers"#,
            "size(request.headers.*) == 4",
            r#"request.headers.all(k, request.headers[k] != "")"#,
            r#"map_get(request.headers, "X-None", "z") == "z""#,
            r#"map_get(request.headers, "Host", "z") == "checkout""#,
        ],
    );
    // Of another protocol, none of it holds.
    check(
        &dns(),
        false,
        &[
            "request.headers.all(k, false)",
            r#"request.headers.* != "b""#,
            r#"map_get(request.headers, "X-None", "z") == "z""#,
            r#"map_get(request.headers, "X-None", "z") + "" == "z""#,
            "path + url == \"\"",
            "size(path.split(\"/\")) == 1",
            "request.body.json() == null",
        ],
    );
}

#[test]
fn conversions() {
    check(
        &checkout(),
        true,
        &[
            r#"int(request.headers["x-request-id"]) == 7"#,
            r#"double(request.headers["x-request-id"]) / 2 == 3.5"#,
            "int(src.port / 3) == 13333",
            r#"string(src.port) + "/tcp" == "40000/tcp""#,
            r#"string(src.port / 16) == "2500""#,
            r#"string(http) == "true" or string(http == true) == "true""#,
            r#"path.split("/").exists(p, p == "v1") and path.split("/")[3] == "checkout""#,
            r#"path.split("/")[9] == """#,
            r#"method.lowerAscii() == "post" and (path + " ").trim().upperAscii() == "/API/V1/CHECKOUT""#,
            r#"{"POST": 3000, "GET": 100}[method] < elapsed_time / 1000"#,
            r#"("POST" in {"POST": 1}) and [path, method] == ["/api/v1/checkout", "POST"]"#,
        ],
    );
    check(
        &checkout(),
        false,
        &[
            "int(path) == 0",
            "int(path) != 0",
            r#"{"GET": 100}[method] < 1000"#,
            r#"[path] != ["/api/v1/checkout"]"#,
        ],
    );
}
