//! Frames (RFC 9113, section 4.1) by their first nine bytes, and whether these are likely to begin one.

use crate::protocols::Side;

/// Bytes of a frame before its payload.
pub(super) const HEADER: usize = 9;

/// The largest payload before a peer has said that it takes more (RFC 9113, section 6.5.2).
pub(super) const USUAL_PAYLOAD: u32 = 1 << 14;

/// The largest payload that a frame can have (RFC 9113, section 4.2).
pub(super) const MOST_PAYLOAD: u32 = (1 << 24) - 1;

/// What a client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// Types of frames (RFC 9113, section 6), and those extensions that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Of a server (RFC 7838, section 4).
    AltSvc,
    /// Of a server (RFC 8336, section 2).
    Origin,
    /// Of a client (RFC 9218, section 7.1).
    PriorityUpdate,
    /// Another extension; what is not known is to be ignored (section 5.5).
    Other,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of its payload.
    pub len: u32,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
    /// The bit that must be zero.
    reserved: bool,
}

impl Header {
    /// Reads one, if it is whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes.first_chunk::<HEADER>()?;
        let stream = u32::from_be_bytes([s3, s2, s1, s0]);
        Some(Self {
            len: u32::from_be_bytes([0, l2, l1, l0]),
            kind: match kind {
                0 => Kind::Data,
                1 => Kind::Headers,
                2 => Kind::Priority,
                3 => Kind::RstStream,
                4 => Kind::Settings,
                5 => Kind::PushPromise,
                6 => Kind::Ping,
                7 => Kind::GoAway,
                8 => Kind::WindowUpdate,
                9 => Kind::Continuation,
                0xa => Kind::AltSvc,
                0xc => Kind::Origin,
                0x10 => Kind::PriorityUpdate,
                _ => Kind::Other,
            },
            flags,
            stream: stream & 0x7fff_ffff,
            reserved: stream >> 31 == 1,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }

    /// Its bytes in all.
    pub fn whole(&self) -> usize {
        HEADER + self.len as usize
    }

    /// Whether a peer may send such a frame (RFC 9113, section 6): its length and its stream are those of its type.
    pub fn is_valid(&self) -> bool {
        let of_stream = self.stream != 0;
        match self.kind {
            Kind::Data | Kind::Continuation => of_stream,
            Kind::Headers => of_stream && self.len >= self.shortest(),
            Kind::Priority => of_stream && self.len == 5,
            Kind::RstStream => of_stream && self.len == 4,
            Kind::Settings => !of_stream && self.len.is_multiple_of(6) && (!self.has(ACK) || self.len == 0),
            Kind::PushPromise => of_stream && self.len >= self.shortest(),
            Kind::Ping => !of_stream && self.len == 8,
            Kind::GoAway => !of_stream && self.len >= 8,
            Kind::WindowUpdate => self.len == 4,
            // What an extension has wrong is to be ignored, too.
            Kind::AltSvc | Kind::Origin | Kind::PriorityUpdate | Kind::Other => true,
        }
    }

    /// Whether bytes in which a frame is looked for begin one, by all appearances: a valid one without anything unusual,
    /// sent from a side, if that is known.
    pub fn is_plausible(&self, from: Option<Side>, most: u32) -> bool {
        let flags = match self.kind {
            Kind::Data => END_STREAM | PADDED,
            Kind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            Kind::PushPromise => END_HEADERS | PADDED,
            Kind::Settings | Kind::Ping => ACK,
            Kind::Continuation => END_HEADERS,
            Kind::Priority | Kind::RstStream | Kind::GoAway | Kind::WindowUpdate => 0,
            // A length and the origin that it is of; a list of origins; a stream and its priority.
            Kind::AltSvc if from != Some(Side::Client) && self.len >= 2 => 0,
            Kind::Origin if from != Some(Side::Client) && self.stream == 0 => 0,
            Kind::PriorityUpdate if from != Some(Side::Server) && self.stream == 0 && self.len >= 4 => 0,
            Kind::AltSvc | Kind::Origin | Kind::PriorityUpdate | Kind::Other => return false,
        };
        let pushed = self.kind == Kind::PushPromise || (self.stream != 0 && self.stream.is_multiple_of(2));
        // An empty frame of data that ends nothing says nothing.
        let empty = self.kind == Kind::Data && self.len == 0 && !self.has(END_STREAM);
        self.is_valid()
            && !self.reserved
            && self.flags & !flags == 0
            && self.len <= most
            && !empty
            && !(pushed
                && from == Some(Side::Client)
                && matches!(self.kind, Kind::PushPromise | Kind::Data | Kind::Headers))
    }

    /// Whether its length is given by its type, so that it is hardly there by chance.
    pub fn is_telling(&self) -> bool {
        matches!(
            self.kind,
            Kind::Priority | Kind::RstStream | Kind::Settings | Kind::Ping | Kind::WindowUpdate
        )
    }

    /// Bytes that a payload of this type has at least.
    fn shortest(&self) -> u32 {
        let fixed = if self.kind == Kind::PushPromise { 4 } else { 0 };
        fixed
            + u32::from(self.has(PADDED))
            + if self.kind == Kind::Headers && self.has(PRIORITY) {
                5
            } else {
                0
            }
    }
}

/// Names of error codes (RFC 9113, section 7).
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Why a stream or a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: Self = Self(0);
    pub const CANCEL: Self = Self(8);

    /// Reads one, four bytes long.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(u32::from_be_bytes(*bytes.first_chunk()?)))
    }

    /// As in the RFC; one that it does not know by its number.
    pub fn name(self) -> String {
        match ERRORS.get(self.0 as usize) {
            Some(name) => (*name).to_owned(),
            None => format!("error {:#x}", self.0),
        }
    }

    /// Whether the one who says so holds the other to be at fault: it broke the protocol or asked for too much.
    pub fn blames_the_other(self) -> bool {
        // PROTOCOL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT to FRAME_SIZE_ERROR, COMPRESSION_ERROR,
        // ENHANCE_YOUR_CALM to HTTP_1_1_REQUIRED.
        matches!(self.0, 1 | 3..=6 | 9 | 11..=13)
    }
}
