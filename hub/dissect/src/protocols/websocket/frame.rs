//! Heads of frames (RFC 6455, section 5.2).

/// Bytes of the longest head: two, a length of eight, a mask of four.
pub(super) const HEAD: usize = 14;

/// Bytes of a control frame's payload at most (section 5.5).
pub(super) const CONTROL: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// As the filter language names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub opcode: Opcode,
    /// Whether it is the last frame of its message.
    pub last: bool,
    /// Whether its message is compressed (RFC 7692, section 6).
    pub compressed: bool,
    /// What its payload is masked with; a server's is not.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub payload: u64,
    /// Bytes of the head itself.
    pub size: usize,
}

/// What bytes are that should be a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Head(Header),
    /// There are too few of them.
    More,
    /// No frame begins so, unless by an extension that nobody has registered.
    Malformed,
}

impl Header {
    /// Reads the head that bytes begin with.
    pub fn read(bytes: &[u8]) -> Read {
        let Some((&first, rest)) = bytes.split_first() else {
            return Read::More;
        };
        let Some(opcode) = Opcode::of(first & 0x0f).filter(|_| first & 0x30 == 0) else {
            return Read::Malformed;
        };
        let (last, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        let begins_data = matches!(opcode, Opcode::Text | Opcode::Binary);
        if (compressed && !begins_data) || (opcode.is_control() && !last) {
            return Read::Malformed;
        }
        let Some((&second, rest)) = rest.split_first() else {
            return Read::More;
        };
        let (payload, rest) = match second & 0x7f {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u16::from_be_bytes(*len).into(), rest),
                None => return Read::More,
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Read::More,
            },
            len => (u64::from(len), rest),
        };
        // A length is told in the fewest bytes that hold it; the highest bit of eight is 0.
        let least = match second & 0x7f {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        let control_too_long = opcode.is_control() && payload > CONTROL;
        if payload < least || payload >> 63 != 0 || control_too_long {
            return Read::Malformed;
        }
        let (mask, rest) = match rest.split_first_chunk::<4>() {
            _ if second & 0x80 == 0 => (None, rest),
            Some((mask, rest)) => (Some(*mask), rest),
            None => return Read::More,
        };
        Read::Head(Self {
            opcode,
            last,
            compressed,
            mask,
            payload,
            size: bytes.len() - rest.len(),
        })
    }
}

/// A byte of payload as it was meant.
pub(super) fn unmask(mask: Option<[u8; 4]>, offset: u64, byte: u8) -> u8 {
    let place = (offset % 4) as usize;
    mask.and_then(|mask| mask.get(place).copied())
        .map_or(byte, |mask| byte ^ mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Option<(Opcode, bool, u64, usize)> {
        match Header::read(bytes) {
            Read::Head(head) => Some((head.opcode, head.last, head.payload, head.size)),
            Read::More | Read::Malformed => None,
        }
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 6455, section 5.7.
        assert_eq!(head(b"\x81\x05Hello"), Some((Opcode::Text, true, 5, 2)));
        assert_eq!(head(b"\x01\x03Hel"), Some((Opcode::Text, false, 3, 2)));
        assert_eq!(head(b"\x80\x02lo"), Some((Opcode::Continuation, true, 2, 2)));
        assert_eq!(head(b"\x82\x7e\x01\x00"), Some((Opcode::Binary, true, 256, 4)));
        let long = b"\x82\x7f\0\0\0\0\0\x01\0\0";
        assert_eq!(head(long), Some((Opcode::Binary, true, 65536, 10)));
        let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        let Read::Head(header) = Header::read(masked) else {
            panic!("a head");
        };
        let text: Vec<u8> = (0..)
            .zip(masked.iter().skip(header.size))
            .map(|(n, byte)| unmask(header.mask, n, *byte))
            .collect();
        assert_eq!(text, b"Hello");
    }

    #[test]
    fn what_no_frame_begins_with() {
        let malformed: [&[u8]; 8] = [
            b"\x83\x00",                     // a reserved opcode
            b"\xa1\x00",                     // RSV2
            b"\xc9\x00",                     // a compressed ping
            b"\x09\x00",                     // a ping in pieces
            b"\x89\x7e\x00\x7e",             // a ping too long
            b"\x81\x7e\x00\x7d",             // two bytes for a length that takes one
            b"\x81\x7f\0\0\0\0\0\0\xff\xff", // eight for one that takes two
            b"\x81\x7f\x80\0\0\0\0\0\0\0",   // the highest bit
        ];
        for bytes in malformed {
            assert_eq!(Header::read(bytes), Read::Malformed, "{bytes:02x?}");
        }
        for bytes in [&b""[..], b"\x81", b"\x81\x85\x01\x02\x03", b"\x81\x7e\x01"] {
            assert_eq!(Header::read(bytes), Read::More, "{bytes:02x?}");
        }
    }
}
