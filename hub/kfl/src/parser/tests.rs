use proptest::prelude::*;

use super::*;

/// The tree in prefix form.
fn show(node: &Node) -> String {
    let all = |name: &str, nodes: &[Node]| {
        let nodes: Vec<_> = nodes.iter().map(show).collect();
        format!("({name} {})", nodes.join(" "))
    };
    match &node.kind {
        NodeKind::Int(number) => number.to_string(),
        NodeKind::Float(number) => format!("{number:?}"),
        NodeKind::Bool(bool) => bool.to_string(),
        NodeKind::Text(text) => format!("{text:?}"),
        NodeKind::Regex(text) => format!("r{text:?}"),
        NodeKind::Null => "null".to_owned(),
        NodeKind::Name(name) => name.clone(),
        NodeKind::List(nodes) => all("list", nodes),
        NodeKind::And(nodes) => all("and", nodes),
        NodeKind::Or(nodes) => all("or", nodes),
        NodeKind::Map(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{} {}", show(key), show(value)))
                .collect();
            format!("(map {})", entries.join(", "))
        }
        NodeKind::Entry { of, key } => format!("(entry {} {})", show(of), show(key)),
        NodeKind::Member { of, name } => format!("(member {} {name})", show(of)),
        NodeKind::Each(of) => format!("(each {})", show(of)),
        NodeKind::Choice {
            condition,
            then,
            otherwise,
        } => format!("(choice {} {} {})", show(condition), show(then), show(otherwise)),
        NodeKind::Negative(inner) => format!("(- {})", show(inner)),
        NodeKind::Not(inner) => format!("(not {})", show(inner)),
        NodeKind::Binary {
            operator,
            left,
            right,
        } => format!("({operator} {} {})", show(left), show(right)),
        NodeKind::Call {
            subject,
            name,
            arguments,
        } => {
            let subject: Vec<_> = subject.iter().map(|subject| show(subject)).collect();
            let arguments: Vec<_> = arguments.iter().map(show).collect();
            format!("({name} {})", [subject, arguments].concat().join(" "))
        }
    }
}

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(show(&parse(text).unwrap().unwrap()), expect);
}

#[track_caller]
fn check_error(text: &str, at: usize, message: &str) {
    let problem = parse(text).unwrap_err();
    assert_eq!(problem.message, message);
    assert_eq!(problem.span.start, at);
}

#[test]
fn nothing_but_comments_is_empty() {
    assert_eq!(parse("  # all\n // of it").unwrap(), None);
}

#[test]
fn and_binds_tighter_than_or() {
    check("a or b and c", "(or a (and b c))");
    check("a && b || c AND d", "(or (and a b) (and c d))");
    check("a and (b OR c) and d", "(and a (or b c) d)");
}

#[test]
fn not_takes_the_comparison_and_bang_the_operand() {
    check("not a == 1 and b", "(and (not (== a 1)) b)");
    check("NOT a contains 'x'", "(not (contains a \"x\"))");
    check("!a == b", "(== (not a) b)");
    check("!a.contains('x')", "(not (contains a \"x\"))");
    check("not not !a", "(not (not (not a)))");
}

#[test]
fn arithmetic_binds_tighter_than_comparison() {
    check("a + b * 2 - 1 > -c / 3", "(> (- (+ a (* b 2)) 1) (/ (- c) 3))");
}

#[test]
fn infix_words_and_methods_are_the_same() {
    check("a.b contains \"x\"", "(contains a.b \"x\")");
    check("a.b.contains(\"x\")", "(contains a.b \"x\")");
    check("m[\"k\"].startsWith(\"x\")", "(startsWith (entry m \"k\") \"x\")");
    check("a.contains.in.not", "a.contains.in.not");
}

#[test]
fn lists_and_calls() {
    check("a in [1, 2, ]", "(in a (list 1 2))");
    check("a > now() - duration('5m')", "(> a (- (now ) (duration \"5m\")))");
}

#[test]
fn choice_is_the_loosest_and_leans_to_the_right() {
    check("a or b ? c : d ? e : f", "(choice (or a b) c (choice d e f))");
    check("(a ? b : c) + 1", "(+ (choice a b c) 1)");
    check(
        "f(a ? b : c, [d ? e : f])",
        "(f (choice a b c) (list (choice d e f)))",
    );
}

#[test]
fn maps_members_and_wildcards() {
    check(
        "{'a': 1, b ? c : d: e}['x']",
        "(entry (map \"a\" 1, (choice b c d) e) \"x\")",
    );
    check("{}", "(map )");
    check("a.b.*", "(each a.b)");
    check("a[*].c[1 + 2]", "(entry (member (each a) c) (+ 1 2))");
    check("a.json().b.c", "(member (member (json a) b) c)");
    check("'x'.y", "(member \"x\" y)");
}

#[test]
fn what_is_missing_is_named() {
    check_error("a ==", 4, "expected a field or a value, found the end");
    check_error("a == and", 5, "expected a field or a value, found `and`");
    check_error("(a or b", 7, "expected `)`, found the end");
    check_error("a b", 2, "expected an operator or the end, found `b`");
    check_error("a not in [1]", 2, "expected an operator or the end, found `not`");
    check_error("a[]", 2, "expected a field or a value, found `]`");
    check_error("a ? b", 5, "expected `:`, found the end");
    check_error("{\"a\" 1}", 5, "expected `:`, found a number");
    check_error("a.", 2, "expected a name after the dot, found the end");
    check_error("a < b < c", 6, "comparisons cannot be chained");
    check_error("a == b contains 'c'", 7, "comparisons cannot be chained");
    check_error("[1 2]", 3, "expected `]`, found a number");
}

#[test]
fn an_operator_that_is_misspelt_is_known() {
    let problem = parse("path contians 'x'").unwrap_err();
    assert_eq!(problem.hint.as_deref(), Some("did you mean `contains`?"));
    assert_eq!(parse("a b").unwrap_err().hint, None);
}

#[test]
fn nesting_at_the_limit() {
    let message = "nested more than 64 levels deep";
    for (open, close) in [
        ("(", ")"),
        ("!", ""),
        ("-", ""),
        ("not ", ""),
        ("f(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("1?2:", ""),
        ("a[", "]"),
    ] {
        // Parentheses make no node; of the others, the innermost name is a level itself.
        let most = if open == "(" { NESTING } else { NESTING - 1 };
        let nested = |levels| format!("{}a{}", open.repeat(levels), close.repeat(levels));
        assert!(parse(&nested(most)).is_ok(), "{open}");
        assert_eq!(parse(&nested(most + 1)).unwrap_err().message, message, "{open}");
        assert_eq!(parse(&open.repeat(4000)).unwrap_err().message, message, "{open}");
    }
    for link in ["+a", "*a", ".f()", "[\"k\"]", ".*"] {
        let chain = |links| format!("a{}", link.repeat(links));
        assert!(parse(&chain(NESTING - 1)).is_ok(), "{link}");
        assert_eq!(parse(&chain(NESTING)).unwrap_err().message, message, "{link}");
    }
    assert!(parse(&format!("a{}", " and a".repeat(2000))).is_ok());
}

#[test]
fn list_at_the_limit() {
    let list = |entries| format!("a in [{}]", "1,".repeat(entries));
    assert!(parse(&list(LIST_ENTRIES)).is_ok());
    let problem = parse(&list(LIST_ENTRIES + 1)).unwrap_err();
    assert_eq!(problem.message, "the list has more than 1000 entries");
}

/// The tree without its places in the text.
fn shape(text: &str) -> String {
    show(&parse(text).unwrap().unwrap())
}

#[test]
fn printed_tree_is_read_as_the_same_tree() {
    for text in [
        "a or b and not c == 1",
        "(a or b) and c and (d and e)",
        "not (a ? b : c) ? (d ? e : f) : g ? h : i",
        "a contains 'x' or (b + c) * 2 - (1 - 2) > -3",
        "!(a.b == r'\"') && !!c.matches(r\"'\")",
        "-(-1).f() == - -1",
        "x in [1, 2.0, 1e300, 'a\\n\\'', nil, {}, {'a': [b]}]",
        "a[*].b['c'][d].json().e.*.size() != 'x'.y",
        "(a == b) == (c in d)",
        "items.exists(x, x.y > 0x10 ? true : z)",
        "(1 + 2) contains 'x'",
        "(a < b)[c]",
    ] {
        let tree = parse(text).unwrap().unwrap();
        let printed = tree.to_string();
        assert_eq!(shape(&printed), show(&tree), "{printed}");
    }
}

/// Pieces that trees are made of.
const PIECES: &[&str] = &[
    "a", "b.c", "x", "1", "2.5", "0x1f", "\"t\"", "r'\"'", "nil", "true", "and", "||", "not", "!", "-", "+",
    "*", "%", "==", "<", "in", "contains", "?", ":", "(", ")", "[", "]", "{", "}", ",", ".f(", ".g", ".*",
    "[*]", "[0]", "f()",
];

proptest! {
    #[test]
    fn any_tree_is_printed_as_itself(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..16)) {
        if let Ok(Some(tree)) = parse(&pieces.join(" ")) {
            prop_assert_eq!(shape(&tree.to_string()), show(&tree));
        }
    }

    #[test]
    fn any_expression_is_printed_as_itself(text in expression()) {
        let tree = parse(&text).unwrap().unwrap();
        prop_assert_eq!(shape(&tree.to_string()), show(&tree), "{}", text);
    }
}

/// Texts that are expressions.
fn expression() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(&["a", "b.c", "1", "2.5", "'t'", "r'\"'", "null", "true", "[]", "{}"][..]);
    leaf.prop_map(str::to_owned).prop_recursive(5, 32, 3, |inner| {
        let between =
            prop::sample::select(&["and", "||", "==", "<", "in", "contains", "+", "-", "*", "/"][..]);
        let around = prop::sample::select(
            &[
                ("(", ")"),
                ("not (", ")"),
                ("!(", ")"),
                ("-(", ")"),
                ("f(", ")"),
                ("[", ", 1]"),
                ("{'k': ", "}"),
                ("(", ").*"),
                ("(", ").m"),
                ("(", ")[b]"),
                ("a[", "]"),
                ("a.all(x, ", ")"),
                ("(", ").size()"),
            ][..],
        );
        prop_oneof![
            (inner.clone(), between, inner.clone())
                .prop_map(|(left, op, right)| format!("({left}) {op} ({right})")),
            (around, inner.clone()).prop_map(|((open, close), inner)| format!("{open}{inner}{close}")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(condition, then, otherwise)| format!("({condition}) ? ({then}) : ({otherwise})")),
        ]
    })
}
