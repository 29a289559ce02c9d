//! DNS: dnsperf asks dnsmasq.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::room::{Room, Running};
use super::{Asked, Kind, number_before};

/// Names that are known, and names that are not, among the questions.
const KNOWN: u64 = 900;
const UNKNOWN: u64 = 100;
/// Sockets that dnsperf asks from, and questions under way.
const SOCKETS: &str = "50";
const UNDER_WAY: &str = "50";
/// Questions in a megabyte of capture.
const PER_MEGABYTE: u64 = 4000;

/// Starts dnsmasq as the authority of one domain.
pub fn start(room: &Room) -> Result<Running> {
    let mut config =
        String::from("no-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\nlocal=/shop.test/\n");
    for number in 0..KNOWN {
        writeln!(
            config,
            "host-record=service-{number}.shop.test,10.96.{}.{},fd00::{number}",
            number / 250,
            number % 250 + 1
        )?;
    }
    let config = room.file("dnsmasq.conf", config)?;
    room.serve_on(
        room.command("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--user=root",
                "--log-facility=-",
                "--pid-file=",
            ])
            .arg(format!("--conf-file={}", config.display())),
        "dnsmasq.log",
        Kind::Dns.port(),
    )
}

/// Asks until there are about so many megabytes.
pub fn ask(room: &Room, megabytes: u64) -> Result<Asked> {
    let mut questions = String::new();
    for number in 0..KNOWN + UNKNOWN {
        let kind = if number % 3 == 0 { "AAAA" } else { "A" };
        writeln!(questions, "service-{number}.shop.test {kind}")?;
    }
    let questions = room.file("questions", questions)?;
    let times = (megabytes * PER_MEGABYTE / (KNOWN + UNKNOWN)).max(1);
    let said = room.ask(
        room.command("dnsperf")
            .args([
                "-s",
                "127.0.0.1",
                "-c",
                SOCKETS,
                "-q",
                UNDER_WAY,
                "-n",
                &times.to_string(),
                "-d",
            ])
            .arg(questions),
    )?;
    let line = |start: &str| {
        let found = said
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(start));
        found.with_context(|| format!("dnsperf says nothing of {start}: {said}"))
    };
    let sent: u64 = line("Queries sent:")?.trim().parse()?;
    let lost = number_before(line("Queries lost:")?, "(")?;
    ensure!(lost == 0, "dnsperf had no answer to {lost} of {sent} questions");
    // "NOERROR 900 (90.00%), NXDOMAIN 100 (10.00%)"
    let codes = line("Response codes:")?;
    let mut asked = Asked {
        calls: sent,
        ..Asked::default()
    };
    asked.expect("dns", sent);
    for part in codes.split(',') {
        let mut words = part.split_whitespace();
        let (code, count) = words
            .next()
            .zip(words.next())
            .context("dnsperf tells of no codes")?;
        asked.expect(&format!("dns_response_code == \"{code}\""), count.parse()?);
    }
    Ok(asked)
}
