//! Under which names addresses were reached: what DNS answered whom, before they went there.
//!
//! The thread that reads notes answers while others look names up for packets that were read before, so a look-up must
//! not depend on how far ahead the reader is. It does not, because time orders the two: an answer counts from just after
//! the latest packet that had been read when it was met, whatever its own time; so no packet from before it can find it,
//! and every packet from after it does. Nothing is ever taken out, and a lifetime is only made longer while it lasts.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustc_hash::FxHashMap;
use wiretape_dissect::{Call, Resolution, Value};
use wiretape_tape::Nanos;

use super::columns::same;

/// Most answers that are remembered: 8 MiB, or three times that if each is of another client and address. Later ones are
/// counted and forgotten, for to make room would depend on how far ahead the reader is.
const MAX_ANSWERS: usize = 1 << 17;

/// Most bytes of names, each of which is kept once.
const MAX_NAMES: usize = 8 << 20;

/// How many names of one client and address are looked through, the latest first. More is a server of very many names,
/// and then what the client said there tells more.
const LOOK_BACK: usize = 16;

/// How long an answer lives at least: some say 0, and mean one connection.
const LEAST: Nanos = 5_000_000_000;

/// How long one lives at most (RFC 8767, section 4).
const MOST: Nanos = 7 * 86_400_000_000_000;

/// The names that DNS gave to addresses.
#[derive(Debug, Default)]
pub struct DnsNames(RwLock<Answers>);

/// What is known, for as long as nobody notes anything.
pub(super) struct Known<'n>(RwLockReadGuard<'n, Answers>);

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// Answers with addresses that were seen.
    pub answers: u64,
    /// Addresses in them that found no room.
    pub refused: u64,
}

/// A name of an address, whoever was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// From when it was known.
    pub since: Nanos,
    /// Until when the answers lived.
    pub until: Nanos,
}

/// Who wants to know a name of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    /// Its address, and the tape that it was recorded on.
    pub(super) client: (IpAddr, Option<u16>),
    /// The address.
    pub(super) address: IpAddr,
    /// When it went there.
    pub(super) at: Nanos,
    /// The name that it said when it was there; `""` if it said none.
    pub(super) said: &'a str,
}

/// A name, and how it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DnsName<'n> {
    pub(super) name: &'n str,
    /// `answer`, `sni` or `host`; `""` without a name.
    pub(super) source: &'static str,
}

impl DnsName<'_> {
    /// Whether both were found in the same place, which is quicker to tell than that they say the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.name, other.name) && std::ptr::eq(self.source, other.source)
    }

    /// Whether both say the same.
    pub(super) fn says(&self, other: &Self) -> bool {
        same(self.name.as_bytes(), other.name.as_bytes())
            && same(self.source.as_bytes(), other.source.as_bytes())
    }
}

/// Whose answer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Address(IpAddr),
    /// A process that asks a resolver on its own machine does so from a loopback address.
    Tape(u16),
    /// Whoever it was.
    Anyone,
}

/// An answer's key: to whom, and of which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    asker: Asker,
    address: IpAddr,
}

impl Hash for Asked {
    /// As numbers: of addresses as bytes, many had the same hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let number = |address| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        match self.asker {
            Asker::Address(client) => state.write_u128(number(client)),
            Asker::Tape(tape) => state.write_u16(tape),
            Asker::Anyone => {}
        }
        state.write_u128(number(self.address));
    }
}

#[derive(Debug, Default)]
struct Answers {
    /// By who was answered, and by address: names in the order in which they came.
    told: FxHashMap<Asked, Vec<Told>>,
    held: usize,
    names: Vec<Box<str>>,
    numbers: FxHashMap<Box<str>, u32>,
    bytes: usize,
    counters: DnsCounters,
}

/// One name of an address.
#[derive(Clone, Copy, Debug)]
struct Told {
    since: Nanos,
    /// Until when the answer lives.
    until: Nanos,
    name: u32,
}

impl DnsNames {
    /// Notes an answer, met on a tape after packets up to the time `now`.
    pub fn note(&self, answer: &Resolution, tape: u16, now: Nanos) {
        let mut answers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        answers.counters.answers += 1;
        let asker = Asker::of(answer.client, Some(tape));
        let since = now.saturating_add(1);
        let lives = Nanos::from(answer.ttl) * 1_000_000_000;
        let until = since.saturating_add(lives.clamp(LEAST, MOST));
        let Some(name) = answers.number(&answer.name) else {
            answers.counters.refused += answer.addresses.len() as u64;
            return;
        };
        for address in &answer.addresses {
            let told = Told { since, until, name };
            let mut refused = false;
            for asker in asker.into_iter().chain([Asker::Anyone]) {
                let address = *address;
                refused |= !answers.tell(Asked { asker, address }, told);
            }
            answers.counters.refused += u64::from(refused);
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> DnsCounters {
        self.read().counters
    }

    /// Every name of every address, in order of time.
    pub fn all(&self) -> Vec<Resolved> {
        let answers = self.read();
        let anyones = answers.told.iter().filter(|(of, _)| of.asker == Asker::Anyone);
        let mut all: Vec<Resolved> = anyones
            .flat_map(|(of, told)| told.iter().map(|told| answers.resolved(of.address, *told)))
            .collect();
        all.sort_by(|a, b| (a.since, a.address, &a.name).cmp(&(b.since, b.address, &b.name)));
        all
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known(self.read())
    }

    fn read(&self) -> RwLockReadGuard<'_, Answers> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known<'_> {
    /// The name under which an address was reached: of those that the client itself was told the one that it said when it
    /// was there, else the latest that still lived, else the latest, since a client that goes there without asking again
    /// goes by what it knows. If it was told none, likewise one that still lived and was told somebody else.
    pub(super) fn name(&self, asking: Asking<'_>) -> DnsName<'_> {
        let answers = &*self.0;
        let (client, tape) = asking.client;
        let own = Asker::of(client, tape)
            .into_iter()
            .chain(tape.map(Asker::Tape))
            .find_map(|asker| answers.best(asker, &asking));
        let found = own.or_else(|| answers.best(Asker::Anyone, &asking));
        found.map_or(DnsName::default(), |name| DnsName {
            name,
            source: "answer",
        })
    }
}

impl Asker {
    fn of(address: IpAddr, tape: Option<u16>) -> Option<Self> {
        if address.is_loopback() {
            tape.map(Self::Tape)
        } else {
            Some(Self::Address(address))
        }
    }
}

impl Answers {
    fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        if self.bytes + name.len() > MAX_NAMES || self.held >= MAX_ANSWERS {
            return None;
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.bytes += name.len();
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        Some(number)
    }

    /// Whether there was room.
    fn tell(&mut self, of: Asked, told: Told) -> bool {
        if let Some(known) = self.told.get_mut(&of) {
            let mut latest = known.iter_mut().rev().take(LOOK_BACK);
            let again = latest.find(|known| known.name == told.name && known.until >= told.since);
            if let Some(known) = again {
                known.until = known.until.max(told.until);
                return true;
            }
        }
        if self.held >= MAX_ANSWERS {
            return false;
        }
        self.held += 1;
        self.told.entry(of).or_default().push(told);
        true
    }

    fn best(&self, asker: Asker, asking: &Asking<'_>) -> Option<&str> {
        let address = asking.address;
        let told = self.told.get(&Asked { asker, address })?;
        let before = told.partition_point(|told| told.since <= asking.at);
        let candidates = || {
            let before = told.get(..before).unwrap_or_default().iter();
            let lived = |told: &&Told| asker != Asker::Anyone || asking.at <= told.until;
            before.rev().take(LOOK_BACK).filter(lived)
        };
        let name = |told: &Told| self.names.get(told.name as usize).map(AsRef::as_ref);
        let said = candidates().find(|told| {
            !asking.said.is_empty() && name(told).is_some_and(|name| name.eq_ignore_ascii_case(asking.said))
        });
        let living = || candidates().find(|told| asking.at <= told.until);
        said.or_else(living)
            .or_else(|| candidates().next())
            .and_then(name)
    }

    fn resolved(&self, address: IpAddr, told: Told) -> Resolved {
        let name = self.names.get(told.name as usize);
        Resolved {
            name: name.map(ToString::to_string).unwrap_or_default(),
            address,
            since: told.since,
            until: told.until,
        }
    }
}

/// The name that a client said it wanted to reach, in TLS or in HTTP; `""` if it said none, or an address.
pub(super) fn said(call: &Call) -> DnsName<'_> {
    let sni = call.fields.iter().find_map(|(name, value)| match value {
        Value::Text(text) if *name == "tlsx_sni" => Some(&**text),
        _ => None,
    });
    if let Some(name) = sni {
        return DnsName { name, source: "sni" };
    }
    let authority = call.authority.as_str();
    // To a proxy, another server's is said.
    if authority.is_empty() || call.method == "CONNECT" {
        return DnsName::default();
    }
    let digits = authority.bytes().rev().take_while(u8::is_ascii_digit).count();
    let before = authority.len() - digits;
    let host = match authority.get(..before).and_then(|host| host.strip_suffix(':')) {
        Some(host) => host,
        None => authority,
    };
    // What no address begins with need not be read as one.
    let may_be_address = host.starts_with(|first: char| first.is_ascii_digit()) || host.contains(':');
    let is_address = host.starts_with('[') || may_be_address && host.parse::<IpAddr>().is_ok();
    if !host.is_empty() && !is_address {
        DnsName {
            name: host,
            source: "host",
        }
    } else {
        DnsName::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;
    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn answer(client: IpAddr, name: &str, ttl: u32) -> Resolution {
        Resolution {
            client,
            name: name.to_owned(),
            addresses: vec![SERVER],
            ttl,
        }
    }

    fn of(names: &DnsNames, client: IpAddr, at: Nanos, said: &str) -> String {
        let asking = Asking {
            client: (client, Some(0)),
            address: SERVER,
            at,
            said,
        };
        names.known().name(asking).name.to_owned()
    }

    #[test]
    fn each_client_has_the_name_that_it_was_told_before() {
        let names = DnsNames::default();
        names.note(&answer(A, "one.example", 10), 0, 100 * S);
        names.note(&answer(B, "two.example", 10), 0, 105 * S);
        names.note(&answer(A, "three.example", 10), 0, 200 * S);
        let name = |client, at| of(&names, client, at, "");
        assert_eq!(name(A, 100 * S), "", "not yet");
        assert_eq!(name(A, 106 * S), "one.example");
        assert_eq!(name(B, 106 * S), "two.example");
        assert_eq!(name(A, 150 * S), "one.example", "it goes by what it knows");
        assert_eq!(name(A, 201 * S), "three.example");
        assert_eq!(name(B, 104 * S), "one.example", "somebody else was told");
        assert_eq!(name(SERVER, 150 * S), "", "but that is over");
    }

    #[test]
    fn name_that_was_said_counts_among_those_that_were_told() {
        let names = DnsNames::default();
        names.note(&answer(A, "one.example", 60), 0, 100 * S);
        names.note(&answer(A, "two.example", 60), 0, 101 * S);
        assert_eq!(of(&names, A, 110 * S, ""), "two.example");
        assert_eq!(of(&names, A, 110 * S, "ONE.example"), "one.example");
        assert_eq!(of(&names, A, 110 * S, "other.example"), "two.example");
    }

    #[test]
    fn resolver_on_the_same_machine_answers_at_a_loopback_address() {
        let names = DnsNames::default();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        names.note(&answer(loopback, "one.example", 5), 0, 100 * S);
        names.note(&answer(loopback, "two.example", 5), 1, 101 * S);
        assert_eq!(of(&names, A, 103 * S, ""), "one.example");
    }

    #[test]
    fn repeated_answer_takes_no_room_while_it_lives() {
        let names = DnsNames::default();
        for at in 0..1000 {
            names.note(&answer(A, "one.example", 30), 0, (100 + at) * S);
        }
        assert_eq!(names.all().len(), 1);
        assert_eq!(of(&names, B, 1_120 * S, ""), "one.example");
        names.note(&answer(A, "one.example", 30), 0, 5_000 * S);
        assert_eq!(names.all().len(), 2);
        assert_eq!(of(&names, B, 4_000 * S, ""), "");
    }

    #[test]
    fn more_than_there_is_room_for_is_counted() {
        let names = DnsNames::default();
        let clients = u32::try_from(MAX_ANSWERS).unwrap();
        for client in 0..clients {
            let client = IpAddr::from((0x0b00_0000 + client).to_be_bytes());
            names.note(&answer(client, "one.example", 30), 0, 100 * S);
        }
        // One of them is anyone's.
        let counters = DnsCounters {
            answers: u64::from(clients),
            refused: 1,
        };
        assert_eq!(names.counters(), counters);
        names.note(&answer(A, "two.example", 30), 0, 100 * S);
        assert_eq!(names.counters().refused, 2);
        // What was known is known still.
        assert_eq!(of(&names, [11, 0, 0, 0].into(), 101 * S, ""), "one.example");
    }
}
