//! What a person reads who asks what a filter means.

use wiretape_kfl::{compile, explain};

#[track_caller]
fn check(text: &str, expect: &str) {
    let explanation = explain(text, 0).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(explanation.to_string(), expect.trim_start_matches('\n'));
    assert_eq!(Ok(explanation.filter), compile(text, 0));
}

#[test]
fn tree_of_conditions_and_table_of_names() {
    check(
        r#"http and (response.status >= 500 or response.latency > 1000) and not request.headers.Host contains "x""#,
        r#"
It is read as
  http && (status_code >= 500 || elapsed_time > 1000000) && !request.headers["host"].contains("x")

and matches what is
  all of
    http
    any of
      status_code >= 500   (of http, dns only)
      elapsed_time > 1000000
    not
      request.headers["host"].contains("x")   (of http only)

Names in it
  http                   http                      true or false   HTTP of any version, and what is carried in it.
  response.status        status_code               whole number    Status of the response; of DNS, the rcode.
  response.latency       elapsed_time / 1000       number          From the request's first byte to the last of the response, in µs.
  request.headers.Host   request.headers["Host"]   text            Header fields of the request.
"#,
    );
}

#[test]
fn loops_wildcards_and_directives() {
    check(
        r#"namespaces.exists(n, n startsWith "shop") or src.service.* == "a""#,
        r#"
It is read as
  namespaces.exists(v0, v0.startsWith("shop")) || src.service.name == "a" || src.service.namespace == "a"

and matches what is
  any of
    namespaces.exists(v0, v0.startsWith("shop"))   (run entry by entry)
    src.service.name == "a"
    src.service.namespace == "a"

Names in it
  namespaces      namespaces                                list of texts         Namespaces of both sides.
  src.service.*   src.service.name, src.service.namespace   any of these fields
"#,
    );
    check(
        "redact('path') and limit(7)",
        "
It matches everything.

An answer holds at most 7 entries.

An answer does not show \"path\".
",
    );
    check("", "It matches everything.\n");
}

#[test]
fn written_form_keeps_names_and_shows_what_binds() {
    let written = |text| explain(text, 0).unwrap().written;
    assert_eq!(written("not status == 1 # no"), "!(status == 1)");
    assert_eq!(
        written("error or dns and src.pod contains 'x'"),
        r#"error || dns && src.pod.contains("x")"#
    );
    assert_eq!(written(" # nothing"), "");
}

#[test]
fn error_is_that_of_compiling() {
    assert_eq!(
        explain("pth == 'x'", 0).unwrap_err(),
        compile("pth == 'x'", 0).unwrap_err()
    );
}
