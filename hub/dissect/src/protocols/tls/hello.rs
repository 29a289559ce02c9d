//! ClientHello and ServerHello (RFC 8446, section 4.1; RFC 5246, section 7.4.1).

use super::bytes::Bytes;
use super::fingerprint;
use super::numbers;
use super::suites;
use crate::limits::TLS_LISTED;

/// Types of extensions that are looked into.
const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURES: u16 = 13;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// The random of a ServerHello that asks for another ClientHello (RFC 8446, section 4.1.3).
const HELLO_RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Longest host name (RFC 1035, section 2.3.4), generously.
const NAME_BYTES: usize = 512;

/// What carries a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Quic,
}

/// What a client offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientHello {
    /// The highest version that it supports.
    pub version: u16,
    pub session: Vec<u8>,
    pub server_name: String,
    pub alpn: Vec<String>,
    /// Names of the suites, without the ones that mean nothing.
    pub suites: Vec<String>,
    pub early_data: bool,
    /// Whether it lists more than is kept.
    pub cut: bool,
    /// Whether the real server name may be in a part that is encrypted (RFC 9849).
    pub encrypted: bool,
    /// The fingerprint's text, and its digest.
    pub ja3: (String, String),
    pub ja4: String,
}

/// What a server has chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerHello {
    /// The version that is spoken.
    pub version: u16,
    pub suite: u16,
    pub session: Vec<u8>,
    pub alpn: String,
    /// Whether it goes on from a key that both knew before.
    pub known_key: bool,
    /// Whether it asks for another ClientHello.
    pub retry: bool,
    /// The fingerprint's text, and its digest.
    pub ja3s: (String, String),
}

/// Everything of a ClientHello that fingerprints are made of.
#[derive(Default)]
pub(super) struct Offer {
    pub version: u16,
    pub suites: Vec<u16>,
    pub extensions: Vec<u16>,
    pub groups: Vec<u16>,
    pub point_formats: Vec<u8>,
    pub signatures: Vec<u16>,
    pub versions: Vec<u16>,
    pub named: bool,
    /// The first protocol of ALPN, as sent.
    pub first_alpn: Vec<u8>,
}

impl ClientHello {
    /// Reads the body of the message. `None` if it is none.
    pub fn read(body: &[u8], carrier: Carrier) -> Option<Self> {
        let mut bytes = Bytes(body);
        let mut offer = Offer {
            version: bytes.u16()?,
            ..Offer::default()
        };
        bytes.take(32)?;
        let mut hello = Self {
            version: offer.version,
            session: bytes.vector8()?.0.to_vec(),
            ..Self::default()
        };
        offer.suites = bytes.vector16()?.numbers();
        bytes.vector8()?;
        // SSL 3.0 had no extensions.
        let mut extensions = if bytes.0.is_empty() {
            Bytes(&[])
        } else {
            bytes.vector16()?
        };
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let content = extensions.vector16()?;
            offer.extensions.push(kind);
            hello.extension(&mut offer, kind, content);
        }
        let known = offer.suites.iter().filter(|suite| !numbers::is_grease(**suite));
        hello.cut |= known.clone().count() > TLS_LISTED;
        hello.suites = known
            .take(TLS_LISTED)
            .map(|suite| suites::name(*suite).into_owned())
            .collect();
        hello.ja3 = fingerprint::ja3(&offer);
        hello.ja4 = fingerprint::ja4(&offer, carrier);
        Some(hello)
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let texts = self.alpn.iter().chain(&self.suites);
        let texts: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        size_of::<Self>() + texts + self.server_name.len() + self.ja3.0.len()
    }

    /// Looks into an extension; one that is not what it should be says nothing.
    fn extension(&mut self, offer: &mut Offer, kind: u16, mut content: Bytes<'_>) {
        match kind {
            SERVER_NAME => {
                offer.named = true;
                self.server_name = server_name(content).unwrap_or_default();
            }
            GROUPS => offer.groups = content.vector16().map(Bytes::numbers).unwrap_or_default(),
            POINT_FORMATS => {
                offer.point_formats = content.vector8().map_or(Vec::new(), |list| list.0.to_vec())
            }
            SIGNATURES => offer.signatures = content.vector16().map(Bytes::numbers).unwrap_or_default(),
            ALPN => {
                let mut list = content.vector16().unwrap_or(Bytes(&[]));
                while let Some(name) = list.vector8() {
                    if self.alpn.is_empty() {
                        offer.first_alpn = name.0.to_vec();
                    }
                    self.cut |= self.alpn.len() >= TLS_LISTED;
                    if self.alpn.len() < TLS_LISTED && !is_grease_name(name.0) {
                        self.alpn.push(String::from_utf8_lossy(name.0).into_owned());
                    }
                }
            }
            EARLY_DATA => self.early_data = true,
            SUPPORTED_VERSIONS => {
                offer.versions = content.vector8().map(Bytes::numbers).unwrap_or_default();
                let known = offer.versions.iter().copied();
                let highest = known.filter(|version| !numbers::is_grease(*version)).max();
                self.version = highest.unwrap_or(self.version);
            }
            ENCRYPTED_CLIENT_HELLO => self.encrypted = true,
            _ => {}
        }
    }
}

impl ServerHello {
    /// Reads the body of the message. `None` if it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(body);
        let version = bytes.u16()?;
        let retry = bytes.take(32)? == HELLO_RETRY;
        // The drafts of TLS 1.3 before the 22nd left out what it has no use for.
        let draft = numbers::is_tls13(version);
        let session = if draft {
            Vec::new()
        } else {
            bytes.vector8()?.0.to_vec()
        };
        let suite = bytes.u16()?;
        if !draft {
            bytes.u8()?;
        }
        let mut hello = Self {
            version,
            suite,
            session,
            retry,
            ..Self::default()
        };
        let mut kinds = Vec::new();
        let mut extensions = if bytes.0.is_empty() {
            Bytes(&[])
        } else {
            bytes.vector16()?
        };
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let mut content = extensions.vector16()?;
            kinds.push(kind);
            match kind {
                SUPPORTED_VERSIONS => hello.version = content.u16().unwrap_or(hello.version),
                ALPN => {
                    let name = content.vector16().and_then(|mut list| list.vector8());
                    hello.alpn =
                        name.map_or(String::new(), |name| String::from_utf8_lossy(name.0).into_owned());
                }
                PRE_SHARED_KEY => hello.known_key = true,
                _ => {}
            }
        }
        hello.ja3s = fingerprint::ja3s(version, suite, &kinds);
        Some(hello)
    }
}

/// The first host name of the extension (RFC 6066, section 3).
fn server_name(mut content: Bytes<'_>) -> Option<String> {
    const HOST_NAME: u8 = 0;
    let mut list = content.vector16()?;
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?.0;
        if kind == HOST_NAME && name.len() <= NAME_BYTES {
            return Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}

fn is_grease_name(name: &[u8]) -> bool {
    name.first_chunk()
        .is_some_and(|bytes| name.len() == 2 && numbers::is_grease(u16::from_be_bytes(*bytes)))
}
