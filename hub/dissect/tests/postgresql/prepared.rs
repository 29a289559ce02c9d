//! What is asked of statements that were prepared before.

use wiretape_dissect::testing::dissect;

use super::*;

/// What drivers ask by themselves, such as `PQdescribePrepared` and JDBC's `getMetaData`.
#[test]
fn a_prepared_statement_is_described() {
    let describe = message(b'D', "Ss1\0");
    let flush = message(b'H', b"");
    let columns = [message(b't', b"\0\0"), rows(0)].concat();
    let none = [message(b't', b"\0\0"), message(b'n', b"")].concat();
    for described in [columns, none] {
        for synced in [true, false] {
            let mut talk = started();
            talk.ask([parse("s1", "SELECT a FROM b"), sync()].concat())
                .answer([message(b'1', b""), ready()].concat());
            if synced {
                talk.ask([&describe[..], &sync()].concat())
                    .answer([&described[..], &ready()].concat());
            } else {
                talk.ask([&describe[..], &flush].concat()).answer(&described);
            }
            talk.ask([bind("s1"), execute(), sync()].concat())
                .answer([message(b'2', b""), rows(1), done("SELECT 1"), ready()].concat());
            check(
                &dissect(&talk.packets),
                &["STARTUP shop =", "PARSE b =", "SELECT b = SELECT 1"],
            );
        }
    }
}

#[test]
fn a_prepared_statement_that_cannot_be_described() {
    let mut talk = started();
    talk.ask([message(b'D', "Ss1\0"), sync()].concat())
        .answer([error("ERROR", "26000"), ready()].concat());
    talk.ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    check(
        &dissect(&talk.packets),
        &["STARTUP shop =", "SYNC = 26000 client_error", "SELECT = SELECT 1"],
    );
}
