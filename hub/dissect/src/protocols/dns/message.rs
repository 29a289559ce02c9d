//! One message (RFC 1035, section 4; EDNS: RFC 6891).

use std::borrow::Cow;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::answers::Answers;
use super::numbers::{self, OPT, SOA};
use super::wire::Reader;
use crate::Counters;
use crate::limits::DNS_QUESTIONS;
use crate::protocols::Key;

/// Bytes of the header: number, flags, four counts.
pub(super) const HEADER: usize = 12;

/// A message, as far as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub id: u16,
    pub opcode: u8,
    pub response: bool,
    pub flags: Flags,
    /// With EDNS's upper bits.
    pub rcode: u16,
    pub questions: Vec<Question>,
    /// Values of the answers.
    pub answers: Answers,
    /// Answers that the header counts.
    pub answer_count: u16,
    pub edns: Option<Edns>,
    pub soas: Soas,
    /// Bytes of the message.
    pub len: u32,
    /// Whether its records could not be read to the end.
    pub malformed: bool,
}

/// SOA records of a response's answers, or of a question's authorities: a zone transfer begins and ends with the zone's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Soas {
    count: u32,
    /// Serial of the first record, if it is one.
    first: Option<u32>,
    /// That of the last record, if it is one.
    last: Option<u32>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub name: String,
    pub kind: u16,
}

/// The flags of the header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    pub const TRUNCATED: u16 = 0x0200;
    /// Flags by name, in wire order.
    const NAMES: &[(u16, &'static str)] = &[
        (0x0400, "aa"),
        (Self::TRUNCATED, "tc"),
        (0x0100, "rd"),
        (0x0080, "ra"),
        (0x0020, "ad"),
        (0x0010, "cd"),
    ];

    pub fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    /// The names of those that are set. Most responses have one of a few sets.
    pub fn text(self) -> Cow<'static, str> {
        const NAMED: u16 = 0x07b0;
        match self.0 & NAMED {
            0 => "".into(),
            0x0100 => "rd".into(),
            0x0180 => "rd, ra".into(),
            0x01a0 => "rd, ra, ad".into(),
            0x0400 => "aa".into(),
            0x0500 => "aa, rd".into(),
            0x0580 => "aa, rd, ra".into(),
            _ => self.names().collect::<Vec<_>>().join(", ").into(),
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(flag, _)| self.has(*flag))
            .map(|(_, name)| *name)
    }
}

/// What the OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub udp_size: u16,
    pub version: u8,
    /// Whether DNSSEC's records are wanted.
    pub dnssec: bool,
}

/// How well a message could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every byte of it.
    Whole,
    /// Its questions, but bytes are left, or records reach beyond the end.
    Partly,
}

/// The counts of the header.
struct Counts {
    questions: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
}

impl Message {
    /// Reads a message. `None` if it is none, or its questions are not all there.
    pub fn read(bytes: &[u8], counters: &mut Counters) -> Option<(Self, Reading)> {
        let mut reader = Reader::new(bytes);
        let (mut message, counts) = header(&mut reader)?;
        message.len = bytes.len() as u32;
        for _ in 0..counts.questions {
            if message.questions.len() >= DNS_QUESTIONS {
                reader.skip_name()?;
                kind_of_question(&mut reader)?;
                continue;
            }
            message.questions.push(question(&mut reader)?);
        }
        let whole = message.records(&mut reader, &counts).is_some() && reader.rest().is_empty();
        message.malformed = !whole;
        if counts.questions as usize > DNS_QUESTIONS || message.answers.len() < usize::from(counts.answers) {
            counters.dns_cut += u64::from(whole);
        }
        let reading = if whole { Reading::Whole } else { Reading::Partly };
        Some((message, reading))
    }

    /// How well a message can be read, and whether it has questions, without keeping anything of it. `None` if it is none.
    pub fn look(bytes: &[u8]) -> Option<(Reading, bool)> {
        let mut reader = Reader::new(bytes);
        let (_, counts) = header(&mut reader)?;
        for _ in 0..counts.questions {
            reader.skip_name()?;
            kind_of_question(&mut reader)?;
        }
        let records =
            u32::from(counts.answers) + u32::from(counts.authorities) + u32::from(counts.additional);
        let whole = (0..records).all(|_| {
            reader
                .skip_name()
                .and_then(|()| Record::read(&mut reader))
                .is_some()
        });
        let reading = if whole && reader.rest().is_empty() {
            Reading::Whole
        } else {
            Reading::Partly
        };
        Some((reading, counts.questions > 0))
    }

    /// By what a request is known in its response.
    pub fn key(&self) -> Key {
        let mut hasher = FxHasher::default();
        for question in &self.questions {
            let (words, rest) = question.name.as_bytes().as_chunks();
            words.iter().for_each(|word| hasher.write_u64(lower(*word)));
            let mut word = [0; 8];
            for (place, byte) in word.iter_mut().zip(rest) {
                *place = *byte;
            }
            hasher.write_u64(lower(word));
            hasher.write_u16(question.kind);
        }
        // 0 is for those that do not say.
        let subject = if self.questions.is_empty() {
            0
        } else {
            hasher.finish() | 1
        };
        Key {
            id: u32::from(self.id),
            subject,
        }
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let questions = self.questions.iter().map(|question| question.name.len());
        size_of::<Self>() + questions.sum::<usize>() + self.answers.memory()
    }

    /// Takes over the answers of a message that continues this one.
    pub fn append(&mut self, later: Self) {
        self.len += later.len;
        self.rcode = later.rcode;
        self.answer_count = self.answer_count.saturating_add(later.answer_count);
        self.soas.append(later.soas, later.answer_count);
        self.malformed |= later.malformed;
        self.answers.append(&later.answers);
    }

    /// Reads the three sections of records.
    fn records(&mut self, reader: &mut Reader<'_>, counts: &Counts) -> Option<()> {
        for n in 0..counts.answers {
            reader.skip_name()?;
            let record = Record::read(reader)?;
            self.soas.take(&record, n == 0);
            self.answers.show(record.kind, record.data)?;
        }
        for n in 0..counts.authorities {
            reader.skip_name()?;
            let record = Record::read(reader)?;
            if !self.response {
                self.soas.take(&record, n == 0);
            }
        }
        for _ in 0..counts.additional {
            reader.skip_name()?;
            let record = Record::read(reader)?;
            if record.kind == OPT {
                let [upper, version, flags, _] = record.ttl.to_be_bytes();
                self.rcode |= u16::from(upper) << 4;
                self.edns = Some(Edns {
                    udp_size: record.class,
                    version,
                    dnssec: flags & 0x80 != 0,
                });
            }
        }
        Some(())
    }
}

/// What follows a record's name.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: Reader<'a>,
}

impl<'a> Record<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = reader.u16()?;
        let data = reader.part(usize::from(len))?;
        Some(Self {
            kind,
            class,
            ttl,
            data,
        })
    }

    /// The serial of an SOA, behind the names of a server and of a mailbox.
    fn serial(&self) -> Option<u32> {
        let mut data = self.data;
        data.skip_name()?;
        data.skip_name()?;
        data.u32()
    }
}

impl Soas {
    /// Takes the next record.
    fn take(&mut self, record: &Record<'_>, first: bool) {
        self.last = (record.kind == SOA).then(|| record.serial()).flatten();
        self.count += u32::from(record.kind == SOA);
        if first {
            self.first = self.last;
        }
    }

    /// Takes those of a message with so many records that continues this one.
    fn append(&mut self, later: Self, records: u16) {
        self.count = self.count.saturating_add(later.count);
        if records > 0 {
            self.last = later.last;
        }
    }
}

/// Some letters of a name as a number: a server may answer in other case than it was asked in.
fn lower(mut letters: [u8; 8]) -> u64 {
    letters.make_ascii_lowercase();
    u64::from_le_bytes(letters)
}

/// Whether bytes can be the begin of a message, as far as there are any: what random bytes rarely are.
pub(super) fn is_plausible(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Some((message, counts)) = header(&mut reader) else {
        // Too few bytes are judged by their flags and the upper half of the count of questions.
        let flags = bytes.get(2..4).and_then(|flags| flags.first_chunk::<2>());
        return bytes.len() < HEADER
            && flags.is_none_or(|flags| opcode(u16::from_be_bytes(*flags)).is_some())
            && bytes.get(4).is_none_or(|upper| u16::from(*upper) << 8 <= FEW);
    };
    let few = |count: u16| count <= FEW;
    if message.response {
        few(counts.questions) && (counts.questions > 0 || counts.answers > 0 || message.rcode > 0)
    } else {
        // Nothing was answered yet, so there is no code.
        let asks = few(counts.questions) && counts.questions > 0 && message.rcode == 0;
        asks && few(counts.authorities) && few(counts.additional)
    }
}

/// Most questions, and most records of a question's message beside those of an update or known ones (RFC 6762, section
/// 7.1), that a message is recognised with.
const FEW: u16 = 256;

/// Whether the first question can be read, and is one; `None` while it is not all there.
pub(super) fn asks(bytes: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(bytes);
    reader.take(HEADER)?;
    let begins = reader;
    match question(&mut reader) {
        Some(_) => Some(true),
        // It is not all there, unless its name is none.
        None => (begins.rest().len() > 255 + 4 || malformed_name(begins.rest())).then_some(false),
    }
}

/// Whether bytes that end too early are no begin of a name either.
fn malformed_name(mut bytes: &[u8]) -> bool {
    while let Some((len, rest)) = bytes.split_first() {
        match len >> 6 {
            0 if *len == 0 => return rest.len() >= 4,
            0 => bytes = rest.get(usize::from(*len)..).unwrap_or_default(),
            _ => return true,
        }
    }
    false
}

fn header(reader: &mut Reader<'_>) -> Option<(Message, Counts)> {
    let (id, flags) = (reader.u16()?, reader.u16()?);
    let counts = Counts {
        questions: reader.u16()?,
        answers: reader.u16()?,
        authorities: reader.u16()?,
        additional: reader.u16()?,
    };
    let opcode = opcode(flags)?;
    let message = Message {
        id,
        opcode,
        response: flags & 0x8000 != 0,
        flags: Flags(flags),
        rcode: flags & 0xf,
        answer_count: counts.answers,
        ..Message::default()
    };
    Some((message, counts))
}

/// The operation, if flags can be a message's.
fn opcode(flags: u16) -> Option<u8> {
    let opcode = (flags >> 11 & 0xf) as u8;
    numbers::opcode_name(opcode)?;
    // "Must be zero in all queries and responses" (RFC 1035, section 4.1.1; RFC 2535 left this one bit).
    (flags & 0x0040 == 0).then_some(opcode)
}

fn question(reader: &mut Reader<'_>) -> Option<Question> {
    let name = reader.name()?;
    let kind = kind_of_question(reader)?;
    Some(Question { name, kind })
}

/// What follows a question's name: its type, if its class is one.
fn kind_of_question(reader: &mut Reader<'_>) -> Option<u16> {
    let (kind, class) = (reader.u16()?, reader.u16()?);
    // The upper bit asks multicast DNS for a unicast answer (RFC 6762, section 5.4).
    numbers::is_class(class & 0x7fff).then_some(kind)
}

/// Whether a message of a transfer of a whole zone ends it, given whether it is the first.
pub(super) fn ends_transfer(message: &Message, first: bool) -> bool {
    let alone = first && message.answer_count < 2;
    message.rcode != 0 || (message.soas.last.is_some() && !alone) || message.answer_count == 0
}

/// Whether a transfer of a zone's changes has ended, given the question and what was answered so far (RFC 1995, sections 2
/// and 4): with the SOA that it began with. Between the two there is a pair for each change, or the whole zone; so that one
/// of a pair, where a message ends behind it, is not taken for the last, all of them must be an even number. A single one
/// tells a client that knows it that nothing has changed.
pub(super) fn are_changes_over(question: &Message, answer: &Message) -> bool {
    let Soas { count, first, last } = answer.soas;
    let unchanged = first.zip(question.soas.last).is_some_and(|(serial, known)| {
        // Serials go round (RFC 1982, section 3.2).
        answer.answer_count == 1 && serial.wrapping_sub(known) as i32 <= 0
    });
    let over = last.is_some() && last == first && count.is_multiple_of(2);
    answer.rcode != 0 || unchanged || over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{DNS_ANSWER_TEXT, DNS_ANSWERS};

    /// What `dig a.example` asks: EDNS with 1232 bytes.
    const QUERY: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x01a\x07example\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn read(bytes: &[u8]) -> Option<(Message, Reading)> {
        Message::read(bytes, &mut Counters::default())
    }

    #[test]
    fn a_question_with_edns() {
        let (message, reading) = read(QUERY).unwrap();
        assert_eq!(reading, Reading::Whole);
        assert_eq!((message.id, message.response, message.opcode), (0x1234, false, 0));
        assert_eq!(
            message.questions,
            [Question {
                name: "a.example".to_owned(),
                kind: 1
            }]
        );
        assert_eq!(message.flags.names().collect::<Vec<_>>(), ["rd", "ad"]);
        let edns = Edns {
            udp_size: 1232,
            version: 0,
            dnssec: true,
        };
        assert_eq!(message.edns, Some(edns));
    }

    #[test]
    fn usual_sets_of_flags_are_told_as_all_others_are() {
        for bits in 0..=u16::MAX {
            let flags = Flags(bits);
            assert_eq!(
                flags.text(),
                flags.names().collect::<Vec<_>>().join(", "),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn upper_bits_of_the_response_code() {
        let bytes = b"\x12\x34\x80\0\0\x01\0\0\0\0\0\x01\0\0\x06\0\x01\0\0\x29\x04\xd0\x01\0\0\0\0\0";
        let (message, _) = read(bytes).unwrap();
        assert_eq!((message.rcode, message.questions[0].name.as_str()), (16, "."));
    }

    #[test]
    fn every_truncation_is_read_as_far_as_its_questions_go() {
        let questions = 12 + 11 + 4;
        for len in 0..QUERY.len() {
            let read = read(&QUERY[..len]);
            assert_eq!(read.is_some(), len >= questions, "{len}");
            assert!(read.is_none_or(|(message, reading)| message.malformed && reading == Reading::Partly));
        }
    }

    #[test]
    fn more_questions_than_are_kept() {
        let mut bytes = b"\0\x01\0\0\0\x14\0\0\0\0\0\0".to_vec();
        for _ in 0..20 {
            bytes.extend_from_slice(b"\0\0\x01\0\x01");
        }
        let mut counters = Counters::default();
        let (message, reading) = Message::read(&bytes, &mut counters).unwrap();
        assert_eq!(
            (message.questions.len(), reading),
            (DNS_QUESTIONS, Reading::Whole)
        );
        assert_eq!(counters.dns_cut, 1);
    }

    #[test]
    fn more_answers_than_are_listed() {
        let mut bytes = b"\0\x01\x80\0\0\x01\x01\x90\0\0\0\0\0\0\x01\0\x01".to_vec();
        for n in 0..400u32 {
            bytes.extend_from_slice(b"\0\0\x01\0\x01\0\0\0\0\0\x04");
            bytes.extend_from_slice(&n.to_be_bytes());
        }
        let mut counters = Counters::default();
        let (message, reading) = Message::read(&bytes, &mut counters).unwrap();
        assert_eq!((message.answers.len(), message.answer_count), (DNS_ANSWERS, 400));
        assert_eq!((reading, counters.dns_cut), (Reading::Whole, 1));
    }

    #[test]
    fn answers_longer_than_are_listed() {
        let mut bytes = b"\0\x01\x80\0\0\x01\0\x64\0\0\0\0\0\0\x10\0\x01".to_vec();
        for _ in 0..100 {
            bytes.extend_from_slice(b"\0\0\x10\0\x01\0\0\0\0\0\xc9\xc8");
            bytes.extend_from_slice(&[b'x'; 200]);
        }
        let mut counters = Counters::default();
        let (message, _) = Message::read(&bytes, &mut counters).unwrap();
        assert_eq!(message.answers.len(), DNS_ANSWER_TEXT.div_ceil(200));
        assert_eq!(counters.dns_cut, 1);
    }

    #[test]
    fn text_of_records() {
        let mut bytes = b"\0\x01\x80\0\0\x01\0\x07\0\0\0\0\x01x\0\0\xff\0\x01".to_vec();
        let records: [(u16, &[u8]); 7] = [
            (28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (15, b"\0\x0a\x04mail\xc0\x0c"),
            (16, b"\x05a b\"c\x01\xff"),
            (33, b"\0\x01\0\x02\x14\xeb\xc0\x0c"),
            (65, b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x01\xbb"),
            (257, b"\0\x05issueca.example"),
            (43, b"\x01\x02"),
        ];
        for (kind, data) in records {
            bytes.extend_from_slice(b"\xc0\x0c");
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(b"\0\x01\0\0\0\x3c");
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(data);
        }
        let (message, reading) = read(&bytes).unwrap();
        assert_eq!(reading, Reading::Whole);
        assert_eq!(
            message.answers.iter().collect::<Vec<_>>(),
            [
                "2001:db8::1",
                "10 mail.x",
                "a b\"c\\255",
                "1 2 5355 x",
                "1 . alpn=h2,h3 port=443",
                "0 issue ca.example",
                "\\# 2 0102",
            ]
        );
    }
}
