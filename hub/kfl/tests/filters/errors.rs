//! What a person reads when a filter is wrong.

use wiretape_kfl::{LIST_ENTRIES, LOOPS, NESTING, PARTS, REGEXES, TEXT_BYTES, compile, evaluate};

use crate::row::Entry;

/// Compares the whole of what is shown.
#[track_caller]
fn check(text: &str, expect: &str) {
    match compile(text, 0) {
        Ok(filter) => panic!("it is a filter: {filter}"),
        Err(error) => assert_eq!(error.to_string(), expect.trim_matches('\n')),
    }
}

/// Compares the message and the hint.
#[track_caller]
fn check_message(text: &str, message: &str, hint: &str) {
    let error = compile(text, 0).unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.hint.as_deref().unwrap_or_default()),
        (message, hint)
    );
}

#[test]
fn misspelt_field_is_shown_with_the_nearest() {
    check(
        r#"http and src.podd contains "x""#,
        r#"
line 1, column 10: unknown field `src.podd`
  http and src.podd contains "x"
           ^^^^^^^^
did you mean `src.pod`?
"#,
    );
}

#[test]
fn place_is_told_by_line_and_column_in_characters() {
    let error = compile("http # é\n  and 'é' == pth", 0).unwrap_err();
    let position = error.position;
    assert_eq!((position.offset, position.line, position.column), (24, 2, 14));
    check(
        "http # é\n\tand 'é' == pth",
        "
line 2, column 13: unknown field `pth`
   and 'é' == pth
              ^^^
did you mean `path`?
",
    );
}

#[test]
fn long_line_is_shown_around_the_place() {
    let long = format!("{}pth == 1{}", "http and ".repeat(100), " and dns".repeat(100));
    let shown = compile(&long, 0).unwrap_err().to_string();
    let [_, line, caret, _] = shown.lines().collect::<Vec<_>>()[..] else {
        panic!("{shown}")
    };
    assert!(line.chars().count() <= 122, "{line}");
    let at = caret.find('^').unwrap();
    assert_eq!(line.get(at..at + 3), Some("pth"));
}

#[test]
fn error_at_the_end_is_shown_behind_it() {
    check(
        "http and",
        "
line 1, column 9: expected a field or a value, found the end
  http and
          ^
",
    );
}

#[test]
fn slips_of_other_languages() {
    check_message("status = 200", "unexpected character `=`", "did you mean `==`?");
    check_message(
        "http & dns",
        "unexpected character `&`",
        "did you mean `&&` or `and`?",
    );
    check_message(
        "path == \u{201c}/\u{201d}",
        "unexpected character `\u{201c}`",
        "use a straight quotation mark: \"",
    );
    check_message(
        "status not in [1]",
        "expected an operator or the end, found `not`",
        "`not` stands before the whole condition: `not (a in b)`",
    );
    check_message(
        "src.pod == frontend",
        "unknown field `frontend`",
        "if it is a text, put it in quotes: \"frontend\"",
    );
    check_message(
        "path.startswith(\"/\")",
        "unknown method `startswith`",
        "did you mean `startsWith`?",
    );
    check_message(
        "timestamp > minute(-5)",
        "unknown function `minute`",
        "did you mean `minutes`?",
    );
    check_message(
        "src == \"x\"",
        "unknown field `src`",
        "did you mean one of `src.ip`, `src.port`, `src.name`, `src.namespace`?",
    );
}

#[test]
fn values_that_do_not_go_together() {
    check_message(
        "src.pod == 5",
        "cannot compare `src.pod.name` (text) with a number",
        "put it in quotes: \"5\"",
    );
    check_message(
        "response.status == \"4xx\"",
        "cannot compare `status_code` (whole number) with a text",
        "a number was expected; a pattern for its digits is written r\"4..\"",
    );
    check_message(
        "timestamp > \"2026-01-31\"",
        "cannot compare `timestamp` (time) with a text",
        "a time is written `timestamp(\"2026-01-31\")`, as in 2026-01-31T12:00:00Z",
    );
    check_message(
        "namespaces == \"default\"",
        "cannot compare `namespaces` (list of texts) with a text",
        "what is in a list is found by `in`: `\"default\" in namespaces`",
    );
    check_message(
        "request.headers == \"x\"",
        "cannot compare `request.headers` (map of texts) with a text",
        "name one entry of the map: `request.headers[\"host\"] == \"example.org\"`",
    );
    check_message(
        "http == 1",
        "cannot compare `http` (true or false) with a number",
        "expected `true` or `false`",
    );
    check_message(
        "http < true",
        "`<` does not order true or false",
        "use `==` or `!=`",
    );
    check_message(
        "path > r\"a\"",
        "`>` does not order a regular expression",
        "use `==` or `!=`",
    );
    check_message(
        "src.pod == src.port",
        "cannot compare `src.pod.name` (text) with `src.port` (whole number)",
        "expected a text",
    );
    check_message(
        "!status_code == 200",
        "cannot compare a condition with a number",
        "",
    );
    check_message(
        "path + 1 > 2",
        "cannot join a text and a whole number",
        "a number is made a text by `string(..)`",
    );
    check_message("path - 1 > 2", "expected a number, found `path` (text)", "");
    check_message(
        "timestamp * 2 > now()",
        "cannot calculate with `timestamp`",
        "keep it alone on its side: `timestamp > now() - duration(\"5m\")`",
    );
    check_message(
        "path contains 5",
        "`contains` takes a text, not a number",
        "put it in quotes",
    );
    check_message(
        "path[\"x\"] == \"\"",
        "expected a map before `[`, found `path` (text)",
        "",
    );
    check_message(
        "size(src.port) > 1",
        "only texts, lists and maps have a size, not `src.port` (whole number)",
        "",
    );
    check_message("now(1) > timestamp", "`now` takes no argument here", "");
    check_message("path.contains()", "`contains` takes one argument, not 0", "");
}

#[test]
fn value_alone_is_no_condition() {
    let hint = "compare it with something: `==`, `>`, `contains` ..";
    check_message("http and \"x\"", "expected a condition, found a text", hint);
    check_message("1 + 2", "expected a condition, found a number", hint);
    check_message(
        "timestamp",
        "expected a condition, found `timestamp` (time)",
        hint,
    );
    check_message(
        "not duration(\"5m\")",
        "expected a condition, found a duration",
        hint,
    );
    check_message("[1]", "expected a condition, found a list", hint);
}

#[test]
fn loops_choices_and_documents_that_are_none() {
    check_message(
        "namespaces.exists(n == 'x')",
        "`exists` takes a name and what to do with it",
        "for example `namespaces.exists(n, n.startsWith(\"shop\"))`",
    );
    check_message(
        "namespaces.exists(src.ns, true)",
        "expected a name of your own",
        "for example `namespaces.exists(n, n.startsWith(\"shop\"))`",
    );
    check_message(
        "path.exists(x, true)",
        "expected a list or a map before `.exists`, found `path` (text)",
        "",
    );
    check_message(
        "namespaces.exists(n, m == 'x')",
        "unknown field `m`",
        "if it is a text, put it in quotes: \"m\"",
    );
    check_message(
        "namespaces.exist(n, true)",
        "unknown method `exist`",
        "did you mean `exists`?",
    );
    check_message(
        "namespaces.exists(n, n > 5)",
        "cannot compare a text with a number",
        "",
    );
    check_message(
        "5 in namespaces.map(n, n)",
        "a whole number is never in a list of this: text",
        "",
    );
    check_message(
        "path.matches(dst.svc)",
        "`matches` takes a text, not `dst.service.name` (text)",
        "a pattern is written out, so that it can be checked before anything is searched",
    );
    check_message(
        "request.headers.*.x == 'y'",
        "what the wildcard stands for (text) has no such entry",
        "",
    );
    check_message(
        "path.* == 'x'",
        "expected a list or a map before `.*`, found `path` (text)",
        "",
    );
    check_message("request.headers[5] == 'x'", "expected a key in quotes", "");
    check_message(
        "namespaces['x'] == 'x'",
        "expected a place in the list, from 0",
        "",
    );
    check_message("src.port == [1, 2][2]", "the list has nothing at this place", "");
    check_message(
        "(http ? 1 : 'a') == 1",
        "cannot compare a text with a number",
        "put it in quotes: \"1\"",
    );
    check_message(
        "http ? 'a' : 'b'",
        "expected a condition, found a text",
        "compare it with something: `==`, `>`, `contains` ..",
    );
    check_message(
        "now() - timestamp < 5",
        "cannot compare a duration with a number",
        "for example `now() - timestamp < duration(\"5m\")`",
    );
    check_message(
        "http or limit(5)",
        "`limit` is no condition",
        "it stands by itself: `http and limit(..)`",
    );
    check_message(
        "limit(0)",
        "`limit` takes one whole number above 0",
        "for example `limit(100)`",
    );
    check_message(
        "redact('request.headerz.x')",
        "unknown field `request.headerz.x`",
        "did you mean `request.headers`?",
    );
    check_message(
        "response.status.x > 1",
        "unknown field `response.status.x`",
        "did you mean `response.status`?",
    );
    check_message(
        "[1].x == 1",
        "`.x` has nothing to belong to",
        "a method is called with parentheses: `.x()`",
    );
    check_message(
        "has('x')",
        "`has` takes a field or an entry, not a text",
        "for example `has(request.headers.host)`",
    );
    check_message("{5: 'a'}[path] == 'a'", "expected a key that is a text", "");
}

#[test]
fn results_that_do_not_exist() {
    check_message("src.port > 1 / 0", "the result is no number", "");
    check_message(
        "timestamp > now() - duration(\"1s\")",
        "the result is too far from now, or before 1970",
        "",
    );
    check_message(
        "timestamp > hours(-1)",
        "not a point in time since 1970",
        "take a smaller number",
    );
    check_message("timestamp > -5", "not milliseconds since 1970", "");
    check_message(
        "timestamp > timestamp(\"noon\")",
        "not a point in time since 1970",
        "for example `timestamp(\"2026-01-31T12:00:00Z\")`",
    );
    check_message(
        "timestamp > now() - duration(\"5d\")",
        "not a duration",
        "for example `duration(\"1h30m\")`, `\"250ms\"`",
    );
}

#[test]
fn regular_expression_that_is_none() {
    check_message(
        "path matches \"a(\"",
        "the regular expression is wrong: unclosed group",
        "",
    );
    check_message(
        "path == r\"a)|(b\"",
        "the regular expression is wrong: unopened group",
        "",
    );
    check_message(
        "path matches r\"(a)\\1\"",
        "the regular expression is wrong: backreferences are not supported",
        "",
    );
}

#[test]
fn limits_are_named() {
    let hint = |text: &str| compile(text, 0).unwrap_err().message;
    assert!(hint(&" ".repeat(TEXT_BYTES + 1)).contains("at most 16384"));
    assert!(hint(&"(".repeat(NESTING + 1)).contains("more than 64 levels"));
    assert!(
        hint(&format!("status in [{}]", "1,".repeat(LIST_ENTRIES + 1))).contains("more than 1000 entries")
    );
    assert!(hint("path matches r\"\\w{1000}\"").contains("more than 1048576 bytes"));

    let regex = |number| format!("path matches \"x{number}\"");
    let regexes = |count| (0..count).map(regex).collect::<Vec<_>>().join(" or ");
    assert!(compile(&regexes(REGEXES), 0).is_ok());
    assert!(hint(&regexes(REGEXES + 1)).contains("more than 16 regular expressions"));
    // The same one again costs nothing.
    let again = format!(
        "[{}].exists(x, path == r\"\\w{{20}}x\")",
        vec!["1"; LIST_ENTRIES].join(",")
    );
    assert!(compile(&again, 0).is_ok());
}

#[test]
fn written_out_filter_at_the_limit() {
    let numbers = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    let loops = |one, other| {
        let (one, other) = (numbers(one), numbers(other));
        format!("{one}.exists(a, {other}.exists(b, src.port == a + b))")
    };
    assert!(compile(&loops(40, 40), 0).is_ok());
    let error = compile(&loops(60, 60), 0).unwrap_err();
    assert_eq!(
        error.message,
        format!("written out, the filter has more than {PARTS} parts")
    );

    // Each level doubles it.
    let choices =
        |levels: usize| (0..levels).fold("1".to_owned(), |inner, _| format!("(http ? {inner} : {inner})"));
    assert!(compile(&format!("{} == 1", choices(4)), 0).is_ok());
    let both = format!("{} == {}", choices(9), choices(9));
    assert!(
        compile(&both, 0)
            .unwrap_err()
            .message
            .contains("more than 20000 parts")
    );

    // What grows need not be parts; it may be one text.
    let long = "x".repeat(1000);
    let text = format!(
        "['{long}'].exists(a, [{}].exists(b, path == b))",
        vec!["a + a"; 50].join(",")
    );
    assert!(compile(&text, 0).is_ok());
    let text = format!(
        "['{long}'].exists(a, [{}].exists(b, path == b + b))",
        vec!["a + a + a"; 100].join(",")
    );
    assert!(
        compile(&text, 0)
            .unwrap_err()
            .message
            .contains("more than 20000 parts")
    );
}

#[test]
fn loops_at_the_limit() {
    let loops = |levels: usize| {
        let over = if levels.is_multiple_of(2) {
            "pods"
        } else {
            "[src.ns]"
        };
        (0..levels).fold("true".to_owned(), |inner, at| {
            format!("{over}.exists(x{at}, {inner})")
        })
    };
    assert!(compile(&loops(LOOPS), 0).is_ok());
    let error = compile(&loops(LOOPS + 1), 0).unwrap_err();
    assert_eq!(error.message, "loops within loops more than 3 levels deep");
}

#[test]
fn largest_filter_of_every_kind_is_compiled_and_dropped() {
    for (open, middle, close) in [("(", "http", ")"), ("!", "http", ""), ("not ", "http", "")] {
        let levels = NESTING - 1;
        let text = format!("{}{middle}{}", open.repeat(levels), close.repeat(levels));
        let filter = compile(&text, 0).unwrap();
        assert_eq!(compile(&filter.to_string(), 0), Ok(filter));
    }
    // A choice is two conditions and what joins them: the deepest that compiled filters become.
    let levels = NESTING - 2;
    let choices = format!("({}1)", "http ? src.port : ".repeat(levels));
    let filter = compile(&format!("{choices} == 1"), 0).unwrap();
    assert!(evaluate(&filter, &Entry::default()));
    assert!(filter.to_string().len() > choices.len());
    let loops = format!("{}1{}", "[1].map(x, -".repeat(LOOPS), ")[0]".repeat(LOOPS));
    assert!(compile(&format!("{loops} == 1"), 0).is_ok());
    let wide = vec!["http"; TEXT_BYTES / 8].join(" or ");
    assert!(compile(&wide, 0).is_ok());
}
