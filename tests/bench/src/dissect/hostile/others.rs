//! Shapes of Redis, PostgreSQL and DNS.

use anyhow::Result;

use super::film::Film;
use super::{ENOUGH, Scale};
use crate::dissect::kind::Kind;

const REDIS: u16 = Kind::Redis.port();
const POSTGRESQL: u16 = Kind::Postgresql.port();
const DNS: u16 = Kind::Dns.port();

/// Replies that are arrays in arrays, deeper than anybody reads.
pub fn nested_arrays(film: &mut Film, _: Scale) -> Result<()> {
    let mut reply = b"*1\r\n".repeat(2000);
    reply.extend(b":1\r\n");
    replies(film, &reply)
}

/// Replies that are arrays of the shortest values.
pub fn wide_arrays(film: &mut Film, _: Scale) -> Result<()> {
    let mut reply = b"*10000\r\n".to_vec();
    reply.extend(b":1\r\n".repeat(10_000));
    replies(film, &reply)
}

/// Replies that are empty arrays in arrays: the most values for a byte that a stack has to be kept for.
pub fn bushy_arrays(film: &mut Film, _: Scale) -> Result<()> {
    let mut reply = b"*5000\r\n".to_vec();
    reply.extend(b"*1\r\n*0\r\n".repeat(5000));
    replies(film, &reply)
}

fn replies(film: &mut Film, reply: &[u8]) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(REDIS)?;
        for _ in 0..20 {
            film.say(&mut talk, true, b"*2\r\n$8\r\nSMEMBERS\r\n$3\r\nkey\r\n")?;
            film.say(&mut talk, false, reply)?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

/// Commands without an end to their pipeline, and without answers.
pub fn unanswered_commands(film: &mut Film, _: Scale) -> Result<()> {
    let commands = b"*1\r\n$4\r\nPING\r\n".repeat(5000);
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(REDIS)?;
        for _ in 0..20 {
            film.say(&mut talk, true, &commands)?;
        }
    }
    Ok(())
}

/// A statement prepared under a new name again and again, and none of them run.
pub fn prepared_statements(film: &mut Film, _: Scale) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(POSTGRESQL)?;
        film.say(&mut talk, true, &message(None, b"\0\x03\0\0user\0shop\0\0"))?;
        // Authenticated; ready, outside of a transaction.
        let ready = [message(Some(b'R'), &[0; 4]), message(Some(b'Z'), b"I")].concat();
        film.say(&mut talk, false, &ready)?;
        for round in 0..50 {
            let mut said = Vec::new();
            for number in 0..200 {
                let parse = format!("s{round}-{number}\0SELECT {number} FROM carts WHERE id = $1\0\0\0");
                said.extend(message(Some(b'P'), parse.as_bytes()));
            }
            said.extend(message(Some(b'S'), &[]));
            film.say(&mut talk, true, &said)?;
            let mut done = message(Some(b'1'), &[]).repeat(200);
            done.extend(message(Some(b'Z'), b"I"));
            film.say(&mut talk, false, &done)?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

/// Answers of the shortest rows.
pub fn tiny_rows(film: &mut Film, _: Scale) -> Result<()> {
    let mut rows = message(Some(b'D'), &[0, 0]).repeat(10_000);
    rows.extend(message(Some(b'C'), b"SELECT 10000\0"));
    rows.extend(message(Some(b'Z'), b"I"));
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(POSTGRESQL)?;
        for _ in 0..20 {
            film.say(&mut talk, true, &message(Some(b'Q'), b"SELECT FROM carts\0"))?;
            film.say(&mut talk, false, &rows)?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

fn message(kind: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend((4 + payload.len() as u32).to_be_bytes());
    message.extend(payload);
    message
}

/// Answers whose names are pointers that lead to themselves.
pub fn pointer_loops(film: &mut Film, _: Scale) -> Result<()> {
    // The name of the first record points to itself (RFC 1035, section 4.1.4), and so do all others.
    answers(film, |answer| answer.extend([0xC0, 29]))
}

/// Answers whose names are chains of pointers, as long as fits.
pub fn pointer_chains(film: &mut Film, _: Scale) -> Result<()> {
    answers(film, |answer| {
        // To the name of the record before it: one label more each time, behind one pointer more.
        let before = (answer.len() as u16).saturating_sub(16).max(12);
        answer.extend([1, b'a']);
        answer.extend((0xC000 | before).to_be_bytes());
    })
}

/// Questions, each with an answer of as many records as a datagram holds, their names as `name` writes them.
fn answers(film: &mut Film, name: impl Fn(&mut Vec<u8>)) -> Result<()> {
    let question = b"\x04cart\x04shop\x04test\0\0\x01\0\x01";
    let mut number = 0_u16;
    while film.bytes() < ENOUGH {
        let mut talk = film.strangers(DNS);
        for _ in 0..100 {
            number = number.wrapping_add(1);
            let head = |flags: u16, answers: u16| {
                let words = [number, flags, 1, answers, 0, 0];
                let mut message: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
                message.extend(question);
                message
            };
            film.datagram(&mut talk, true, &head(0x0100, 0))?;
            let mut answer = head(0x8180, 80);
            for _ in 0..80 {
                name(&mut answer);
                // A, IN, a minute, four bytes.
                answer.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0]);
                answer.extend([0, 1]);
            }
            film.datagram(&mut talk, false, &answer)?;
        }
    }
    Ok(())
}
