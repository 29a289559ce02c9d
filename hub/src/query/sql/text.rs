//! What a text must be before it is planned.

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::query::QueryError;

/// Longest text, in bytes.
pub const MAX_SQL: usize = 8 << 10;

/// Most words, signs and values in a text. The engine walks over all of a plan for each step of it, and does not stop
/// before it has planned: texts of 8 KiB that nest kept it busy for longer than a question may take.
pub const MAX_TOKENS: usize = 800;

/// Most tables that a text may name after FROM and JOIN. A WITH can double what came before by naming it twice, so
/// that tables multiply by 2 for every two names: to 256 at most.
pub const MAX_TABLES: usize = 16;

/// Most `||` in a text. Each can double a text, and the engine does not count the memory of texts.
pub const MAX_CONCATENATIONS: usize = 8;

/// Refuses what could take too much.
pub(super) fn check(sql: &str) -> Result<(), QueryError> {
    let wrong = |message: String| Err(QueryError::BadRequest(message));
    if sql.trim().is_empty() {
        return wrong(
            "`sql` is required: one SELECT, e.g. SELECT status, count(*) FROM calls GROUP BY status"
                .to_owned(),
        );
    }
    if sql.len() > MAX_SQL {
        return wrong(format!("the SQL is longer than {MAX_SQL} bytes"));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .map_err(|error| QueryError::BadRequest(format!("the SQL cannot be read: {error}")))?;
    let count = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .count();
    if count > MAX_TOKENS {
        return wrong(format!(
            "the SQL has {count} words, signs and values, more than {MAX_TOKENS}; make it simpler"
        ));
    }
    let concatenations = tokens
        .iter()
        .filter(|token| matches!(token, Token::StringConcat))
        .count();
    if concatenations > MAX_CONCATENATIONS {
        return wrong(format!(
            "the SQL has more than {MAX_CONCATENATIONS} concatenations (||)"
        ));
    }
    if tables(&tokens) > MAX_TABLES {
        return wrong(format!(
            "the SQL names more than {MAX_TABLES} tables after FROM and JOIN"
        ));
    }
    Ok(())
}

/// How often a table is named: after FROM, JOIN, and the commas of a FROM.
fn tables(tokens: &[Token]) -> usize {
    let mut count = 0;
    // Whether a FROM is open, by depth of parentheses.
    let mut open = vec![false];
    for token in tokens {
        match token {
            Token::LParen => open.push(false),
            Token::RParen if open.len() > 1 => {
                open.pop();
            }
            Token::Comma if open.last() == Some(&true) => count += 1,
            Token::Word(word) => {
                let from = match word.keyword {
                    Keyword::FROM => Some(true),
                    Keyword::WHERE
                    | Keyword::GROUP
                    | Keyword::ORDER
                    | Keyword::HAVING
                    | Keyword::WINDOW
                    | Keyword::UNION
                    | Keyword::EXCEPT
                    | Keyword::INTERSECT
                    | Keyword::SELECT
                    | Keyword::QUALIFY => Some(false),
                    _ => None,
                };
                count += usize::from(matches!(word.keyword, Keyword::FROM | Keyword::JOIN));
                if let (Some(from), Some(open)) = (from, open.last_mut()) {
                    *open = from;
                }
            }
            _ => {}
        }
    }
    count
}

/// The one SELECT that a text is.
pub(super) fn select(sql: &str) -> Result<Statement, QueryError> {
    let mut statements = DFParser::parse_sql(sql).map_err(|error| {
        let error = error.strip_backtrace();
        let message = error.lines().next().unwrap_or_default();
        QueryError::BadRequest(format!("the SQL cannot be read: {message}"))
    })?;
    let only = statements.pop_front();
    match only {
        Some(statement @ Statement::Statement(_)) if statements.is_empty() => match &statement {
            Statement::Statement(inner) if matches!(inner.as_ref(), Sql::Query(_)) => Ok(statement),
            _ => Err(not_a_select()),
        },
        Some(_) if !statements.is_empty() => Err(QueryError::BadRequest(
            "one statement at a time: send one SELECT without others after it".to_owned(),
        )),
        _ => Err(not_a_select()),
    }
}

fn not_a_select() -> QueryError {
    QueryError::BadRequest(
        "only SELECT (and WITH … SELECT) is answered here: a dissection is never changed".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_long_as_it_may_be() {
        let long = |bytes: usize| format!("SELECT '{}'", "x".repeat(bytes - "SELECT ''".len()));
        // Two at first, then two at a time.
        let tokens = |sign: &str| format!("SELECT {sign}1{}", "+1".repeat(MAX_TOKENS / 2 - 1));
        let joined = |times| format!("SELECT ''{}", "||''".repeat(times));
        let tables = |count| format!("SELECT 1 FROM {}", vec!["calls"; count].join(", "));
        for (most, more) in [
            (long(MAX_SQL), long(MAX_SQL + 1)),
            (tokens(""), tokens("-")),
            (joined(MAX_CONCATENATIONS), joined(MAX_CONCATENATIONS + 1)),
            (tables(MAX_TABLES), tables(MAX_TABLES + 1)),
        ] {
            assert!(check(&most).is_ok(), "{most}");
            assert!(check(&more).is_err(), "{more}");
        }
    }

    #[test]
    fn tables_are_counted_wherever_they_are_named() {
        let named = |sql: &str| tables(&Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap());
        assert_eq!(named("SELECT a, b FROM calls WHERE c IN (1, 2)"), 1);
        assert_eq!(
            named("SELECT a FROM calls x, calls y, (SELECT 1, 2 FROM calls z, calls w) v"),
            5
        );
        assert_eq!(
            named("SELECT a FROM calls JOIN calls y ON f(a, b) ORDER BY a, b"),
            2
        );
        assert_eq!(
            named("WITH x AS (SELECT 1), y AS (SELECT * FROM x, x) SELECT * FROM y, y"),
            4
        );
    }
}
