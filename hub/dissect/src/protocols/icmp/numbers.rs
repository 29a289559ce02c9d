//! The names of types and codes, from IANA's registries for ICMP and ICMPv6.

use crate::Outcome;

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What is known of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub name: Name,
    /// Which question it asks or answers; 0 if none.
    pub question: u8,
    /// Whether it is an answer.
    pub answers: bool,
    /// Whether it quotes the packet it speaks of.
    pub quotes: bool,
}

/// A type's name, or its number where it has none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    Known(&'static str),
    Unknown(u8),
}

impl Name {
    pub fn text(self) -> String {
        match self {
            Self::Known(name) => name.to_owned(),
            Self::Unknown(number) => format!("Type{number}"),
        }
    }
}

/// Questions.
const ECHO: u8 = 1;
const TIMESTAMP: u8 = 2;
const MASK: u8 = 3;
const EXTENDED_ECHO: u8 = 4;

impl Family {
    /// Of the Internet Protocol.
    pub fn version(self) -> i64 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// What is known of a type.
    pub fn kind(self, number: u8) -> Kind {
        let kind = |name, question, answers, quotes| Kind {
            name: Name::Known(name),
            question,
            answers,
            quotes,
        };
        let asks = |name, question| kind(name, question, false, false);
        let answers = |name, question| kind(name, question, true, false);
        let quotes = |name| kind(name, 0, false, true);
        let tells = |name| kind(name, 0, false, false);
        match (self, number) {
            (Self::V4, 0) | (Self::V6, 129) => answers("EchoReply", ECHO),
            (Self::V4, 8) | (Self::V6, 128) => asks("EchoRequest", ECHO),
            (Self::V4, 3) | (Self::V6, 1) => quotes("DestinationUnreachable"),
            (Self::V4, 4) => quotes("SourceQuench"),
            (Self::V4, 5) => quotes("Redirect"),
            (Self::V4, 9) | (Self::V6, 134) => tells("RouterAdvertisement"),
            (Self::V4, 10) | (Self::V6, 133) => tells("RouterSolicitation"),
            (Self::V4, 11) | (Self::V6, 3) => quotes("TimeExceeded"),
            (Self::V4, 12) | (Self::V6, 4) => quotes("ParameterProblem"),
            (Self::V4, 13) => asks("TimestampRequest", TIMESTAMP),
            (Self::V4, 14) => answers("TimestampReply", TIMESTAMP),
            (Self::V4, 17) => asks("AddressMaskRequest", MASK),
            (Self::V4, 18) => answers("AddressMaskReply", MASK),
            (Self::V4, 42) | (Self::V6, 160) => asks("ExtendedEchoRequest", EXTENDED_ECHO),
            (Self::V4, 43) | (Self::V6, 161) => answers("ExtendedEchoReply", EXTENDED_ECHO),
            (Self::V6, 2) => quotes("PacketTooBig"),
            (Self::V6, 130) => tells("MulticastListenerQuery"),
            (Self::V6, 131 | 143) => tells("MulticastListenerReport"),
            (Self::V6, 132) => tells("MulticastListenerDone"),
            (Self::V6, 135) => tells("NeighborSolicitation"),
            (Self::V6, 136) => tells("NeighborAdvertisement"),
            (Self::V6, 137) => tells("Redirect"),
            (_, number) => Kind {
                name: Name::Unknown(number),
                question: 0,
                answers: false,
                quotes: false,
            },
        }
    }

    /// The error that a message reports, and whose fault it means: a destination that is not there has failed; a packet
    /// that is too big or malformed was its sender's.
    pub fn error(self, kind: Kind, code: u8) -> Option<(&'static str, Outcome)> {
        let Name::Known(name) = kind.name else { return None };
        Some(match (name, self) {
            ("DestinationUnreachable", Self::V4) => match code {
                0 => ("network_unreachable", Outcome::ServerError),
                1 => ("host_unreachable", Outcome::ServerError),
                2 => ("protocol_unreachable", Outcome::ServerError),
                3 => ("port_unreachable", Outcome::ServerError),
                4 => ("fragmentation_needed", Outcome::ClientError),
                5 => ("source_route_failed", Outcome::ClientError),
                6 => ("network_unknown", Outcome::ServerError),
                7 => ("host_unknown", Outcome::ServerError),
                9 => ("network_prohibited", Outcome::ServerError),
                10 => ("host_prohibited", Outcome::ServerError),
                11 => ("network_unreachable_for_service", Outcome::ServerError),
                12 => ("host_unreachable_for_service", Outcome::ServerError),
                13 => ("administratively_prohibited", Outcome::ServerError),
                _ => ("destination_unreachable", Outcome::ServerError),
            },
            ("DestinationUnreachable", Self::V6) => match code {
                0 => ("no_route", Outcome::ServerError),
                1 => ("administratively_prohibited", Outcome::ServerError),
                2 => ("beyond_scope", Outcome::ClientError),
                3 => ("address_unreachable", Outcome::ServerError),
                4 => ("port_unreachable", Outcome::ServerError),
                5 => ("source_address_failed_policy", Outcome::ClientError),
                6 => ("route_rejected", Outcome::ServerError),
                _ => ("destination_unreachable", Outcome::ServerError),
            },
            ("TimeExceeded", _) => match code {
                0 => ("hop_limit_exceeded", Outcome::ServerError),
                1 => ("reassembly_time_exceeded", Outcome::ServerError),
                _ => ("time_exceeded", Outcome::ServerError),
            },
            ("PacketTooBig", _) => ("packet_too_big", Outcome::ClientError),
            ("ParameterProblem", _) => ("parameter_problem", Outcome::ClientError),
            ("SourceQuench", _) => ("source_quench", Outcome::ServerError),
            _ => return None,
        })
    }
}
