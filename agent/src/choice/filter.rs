//! A filter in libpcap's language, compiled by libpcap to what `agent-ebpf/src/filter.rs` interprets.

use pcap::{Capture, Linktype};
use thiserror::Error;
use wiretape_agent_ebpf::filter::{Instruction, MAX_INSTRUCTIONS, MEMORY_WORDS, code};

/// What cannot be a filter here.
#[derive(Debug, Error)]
pub enum FilterError {
    /// libpcap does not understand it.
    #[error("the filter {text:?} cannot be compiled")]
    Refused {
        /// The filter.
        text: String,
        /// What libpcap says.
        source: pcap::Error,
    },
    /// It makes more instructions than are executed for a packet.
    #[error(
        "the filter makes {0} instructions, more than the {MAX_INSTRUCTIONS} that are executed for a packet: ask for \
         less at once"
    )]
    TooLong(usize),
    /// It makes something that the interpreter does not do.
    #[error("the filter needs what cannot be done here ({0}): write it simpler")]
    Beyond(String),
}

/// A filter that can be executed.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter([Instruction; MAX_INSTRUCTIONS]);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

impl Filter {
    /// Compiles one.
    ///
    /// # Errors
    /// When libpcap does not understand it, or it is too long.
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        let refused = |source| FilterError::Refused {
            text: text.to_owned(),
            source,
        };
        let program = Capture::dead(Linktype::ETHERNET)
            .and_then(|dead| dead.compile(text, true))
            .map_err(refused)?;
        let compiled = program.get_instructions();
        if compiled.len() > MAX_INSTRUCTIONS {
            return Err(FilterError::TooLong(compiled.len()));
        }
        let mut filter = [Instruction::default(); MAX_INSTRUCTIONS];
        for (place, (instruction, at)) in filter.iter_mut().zip(compiled.iter().zip(1..)) {
            let text = instruction.to_string();
            *place = read(&text)
                .filter(|instruction| is_known(*instruction, compiled.len() - at))
                .ok_or(FilterError::Beyond(text))?;
        }
        Ok(Self(filter))
    }

    /// What to execute.
    pub fn instructions(&self) -> &[Instruction; MAX_INSTRUCTIONS] {
        &self.0
    }
}

/// Code, jumps and constant, as libpcap's users write them (`tcpdump -ddd`): the crate shows no other form.
fn read(text: &str) -> Option<Instruction> {
    let mut words = text.split(' ');
    let instruction = Instruction {
        code: words.next()?.parse().ok()?,
        jump_true: words.next()?.parse().ok()?,
        jump_false: words.next()?.parse().ok()?,
        k: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(instruction)
}

/// Whether the interpreter does this, with so many instructions behind it.
fn is_known(instruction: Instruction, behind: usize) -> bool {
    let Instruction {
        code,
        jump_true,
        jump_false,
        k,
    } = instruction;
    let in_memory = (k as usize) < MEMORY_WORDS;
    match code & code::CLASS {
        code::LD | code::LDX => match code & code::MODE {
            code::IMM | code::ABS | code::IND | code::LEN | code::MSH => true,
            code::MEM => in_memory,
            _ => false,
        },
        code::ST | code::STX => in_memory,
        code::JMP if code & code::OPERATION == code::JA => (k as usize) < behind,
        code::JMP => usize::from(jump_true.max(jump_false)) < behind,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use pcap::BpfProgram;
    use wiretape_agent_ebpf::filter::{Frame, passes};

    use super::*;

    const FILTERS: &[&str] = &[
        "tcp",
        "tcp port 80",
        "udp or icmp",
        "ip6",
        "arp",
        "host 10.0.0.1",
        "net 10.0.0.0/8 and not port 22",
        "src host 10.0.0.2 and dst port 1000",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "greater 100",
        "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
        "ip6 and udp port 53 or portrange 8000-9000",
        "ip[8] / 2 > 3 and ip[2:2] % 7 != 1",
        "host 2001:db8::1",
    ];

    fn programs() -> Vec<(&'static str, Filter, BpfProgram)> {
        let dead = Capture::dead(Linktype::ETHERNET).unwrap();
        let both = |text: &&'static str| {
            (
                *text,
                Filter::compile(text).unwrap(),
                dead.compile(text, true).unwrap(),
            )
        };
        FILTERS.iter().map(both).collect()
    }

    /// Frames that differ in what filters look at.
    fn frames() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for (ethertype, version) in [(0x0800_u16, 0x45_u8), (0x86dd, 0x60), (0x0806, 0)] {
            for protocol in [1_u8, 6, 17] {
                for port in [22_u16, 53, 80, 1000, 8500] {
                    for (length, fragment) in [(20, 0), (60, 0), (200, 0), (200, 1)] {
                        let mut frame = vec![0_u8; 14 + length];
                        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                        let packet = &mut frame[14..];
                        packet[0] = version;
                        packet[2] = length as u8;
                        packet[8] = port as u8 % 11;
                        let transport = if version == 0x60 && length >= 40 {
                            packet[6] = protocol;
                            packet[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
                            packet[23] = 1;
                            40
                        } else if version == 0x60 {
                            packet[6] = protocol;
                            40
                        } else {
                            packet[7] = fragment;
                            packet[9] = protocol;
                            packet[12..20].copy_from_slice(&[10, 0, 0, port as u8 % 3, 10, 0, 0, 2]);
                            20
                        };
                        if let Some(head) = packet.get_mut(transport..transport + 20) {
                            head[..4].copy_from_slice(&[port.to_be_bytes(), 1000_u16.to_be_bytes()].concat());
                            (head[12], head[13]) = (0x50, port as u8);
                        }
                        if let Some(body) = packet.get_mut(transport + 20..transport + 24) {
                            body.copy_from_slice(b"GET ");
                        }
                        frames.push(frame);
                    }
                }
            }
        }
        frames
    }

    #[test]
    fn what_passes_is_what_libpcap_lets_pass_with_an_ethernet_header_or_without() {
        let frames = frames();
        for (text, filter, program) in programs() {
            let mut passed = 0;
            for frame in &frames {
                let length = frame.len() as u32 - 14;
                let real = Frame::new(&frame[..], 14, true, length);
                let wanted = program.filter(frame);
                passed += usize::from(wanted);
                assert_eq!(
                    passes(filter.instructions(), &real),
                    wanted,
                    "{text}: {frame:02x?}"
                );
                if frame[12..14] != [0x08, 0x06] {
                    let bare = Frame::new(&frame[14..], 0, false, length);
                    assert_eq!(
                        passes(filter.instructions(), &bare),
                        wanted,
                        "{text}: {frame:02x?}"
                    );
                }
            }
            assert!(passed > 0 && passed < frames.len(), "{text} lets {passed} pass");
        }
    }

    #[test]
    fn what_libpcap_does_not_understand_is_refused_and_what_is_too_long() {
        let refused = Filter::compile("tcp prot 80").unwrap_err();
        assert!(matches!(refused, FilterError::Refused { .. }), "{refused}");
        let hosts: Vec<String> = (0..100).map(|n| format!("host 10.0.{n}.1")).collect();
        let long = Filter::compile(&hosts.join(" or ")).unwrap_err();
        assert!(matches!(long, FilterError::TooLong(_)), "{long}");
    }
}
