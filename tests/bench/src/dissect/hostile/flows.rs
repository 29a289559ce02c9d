//! Shapes of connections: too many, too long, in the wrong order, too often.

use anyhow::Result;

use super::film::{Film, Talk};
use super::{ENOUGH, Scale};
use crate::dissect::messages::{SERVICES, request, response};
use crate::dissect::traffic;
use crate::dissect::wire::{ACK, PSH, SEGMENT, SYN};
use crate::random::Random;

/// Where HTTP is spoken.
const PORT: u16 = 8080;
/// Calls whose segments are told backwards: some tens of megabytes.
const BACKWARDS: u64 = 30_000;
/// Bytes of which copies overlap, and how many there are.
const COPIED: usize = 64 << 10;
const COPIES: usize = 1000;

/// Connections that never get an answer.
pub fn only_syns(film: &mut Film, scale: Scale) -> Result<()> {
    for _ in 0..scale.flows {
        let mut talk = film.strangers(PORT);
        film.segment(&mut talk, true, SYN, &[])?;
    }
    Ok(())
}

/// Connections of one call each, all open at the same time for a while.
pub fn one_request_each(film: &mut Film, scale: Scale) -> Result<()> {
    // As many as a busy proxy has open.
    const OPEN: usize = 20_000;
    let mut open = std::collections::VecDeque::new();
    for _ in 0..scale.flows {
        let mut talk = film.connect(PORT)?;
        film.say(&mut talk, true, b"GET /health HTTP/1.1\r\nHost: cart\r\n\r\n")?;
        open.push_back(talk);
        if open.len() == OPEN
            && let Some(talk) = open.pop_front()
        {
            answer(film, talk)?;
        }
    }
    open.into_iter().try_for_each(|talk| answer(film, talk))
}

fn answer(film: &mut Film, mut talk: Talk) -> Result<()> {
    film.say(
        &mut talk,
        false,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )?;
    film.part(&mut talk)
}

/// Usual calls, all on one connection.
pub fn one_giant_flow(film: &mut Film, _: Scale) -> Result<()> {
    let mut random = Random(1);
    let service = &SERVICES[0];
    let mut talk = film.connect(PORT)?;
    while film.bytes() < ENOUGH {
        let route = random.pick(service.routes);
        film.say(&mut talk, true, &request(&mut random, service, route))?;
        film.say(&mut talk, false, &response(&mut random, route, 200))?;
    }
    Ok(())
}

/// Usual traffic, from the last frame to the first.
pub fn backwards(film: &mut Film, _: Scale) -> Result<()> {
    let mut frames = Vec::new();
    traffic::generate(BACKWARDS, 1, |_, frame| {
        frames.push(frame.to_vec());
        anyhow::Ok(())
    })?;
    frames.iter().rev().try_for_each(|frame| film.frame(frame))
}

/// Connections whose every segment but the first comes in reverse, as far as a window reaches.
pub fn windows_backwards(film: &mut Film, _: Scale) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(PORT)?;
        film.say(&mut talk, true, b"GET /big HTTP/1.1\r\nHost: cart\r\n\r\n")?;
        // Less than what may be early, so that every byte of it can be had.
        let body = vec![b'x'; 500 << 10];
        let mut said = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        said.extend(body);
        let first = talk.server.seq;
        for (at, segment) in said
            .chunks(SEGMENT)
            .enumerate()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            talk.server.seq = first.wrapping_add((at * SEGMENT) as u32);
            film.segment(&mut talk, false, PSH | ACK, segment)?;
        }
        talk.server.seq = first.wrapping_add(said.len() as u32);
        film.part(&mut talk)?;
    }
    Ok(())
}

/// The same bytes sent a thousand times, cut into segments elsewhere each time.
pub fn copies(film: &mut Film, _: Scale) -> Result<()> {
    overlap(film, 0)
}

/// The same, but the first byte of it is missing until the end: all of it is early.
pub fn copies_behind_a_hole(film: &mut Film, _: Scale) -> Result<()> {
    overlap(film, 1)
}

fn overlap(film: &mut Film, hole: usize) -> Result<()> {
    let mut talk = film.connect(PORT)?;
    film.say(&mut talk, true, b"GET /big HTTP/1.1\r\nHost: cart\r\n\r\n")?;
    let mut said = format!("HTTP/1.1 200 OK\r\nContent-Length: {COPIED}\r\n\r\n").into_bytes();
    said.resize(said.len() + COPIED, b'x');
    let first = talk.server.seq;
    for copy in 0..COPIES {
        let mut at = hole;
        let mut length = 1 + copy % SEGMENT;
        while let Some(segment) = said
            .get(at..(at + length).min(said.len()))
            .filter(|some| !some.is_empty())
        {
            talk.server.seq = first.wrapping_add(at as u32);
            // From a socket's view the client acknowledges nothing while something is missing.
            film.segment(&mut talk, false, ACK, segment)?;
            at += length;
            length = SEGMENT;
        }
    }
    talk.server.seq = first;
    film.say(&mut talk, false, &said)?;
    film.part(&mut talk)
}
