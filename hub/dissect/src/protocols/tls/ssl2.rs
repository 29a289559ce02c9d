//! A ClientHello in the format of SSL 2 (RFC 5246, appendix E.2), by which old clients offer SSL 3.0 and TLS. What
//! answers it is a ServerHello in the usual format; SSL 2 itself is not read.

use super::bytes::Bytes;
use super::hello::ClientHello;
use super::numbers::CLIENT_HELLO;
use super::record::Likeness;
use super::suites;

/// Bytes before the lists: length, type, version, and the lengths of the lists.
const HEADER: usize = 11;

/// Bytes of a suite in it, the first of which is zero for those that SSL 3.0 and TLS know, too.
const SUITE: usize = 3;

/// What a hello says of itself.
struct Header {
    /// Bytes of it in all.
    len: usize,
    version: u16,
    /// Bytes of each list.
    suites: usize,
    session: usize,
}

impl Header {
    /// Reads one. `None` if it is none.
    fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let [l1, l0, kind, major, minor, c1, c0, s1, s0, r1, r0] = *bytes;
        let number = |upper, lower| usize::from(u16::from_be_bytes([upper, lower]));
        let (suites, session, challenge) = (number(c1, c0), number(s1, s0), number(r1, r0));
        let behind = suites + session + challenge;
        let fits = [l1, l0, kind, major, minor]
            .iter()
            .enumerate()
            .all(|(n, byte)| may_stand(n, *byte))
            && number(l1 & 0x7f, l0) + 2 == HEADER + behind
            && suites > 0
            && suites.is_multiple_of(SUITE)
            && matches!(session, 0 | 16)
            && (16..=32).contains(&challenge);
        fits.then_some(Self {
            len: HEADER + behind,
            version: u16::from_be_bytes([major, minor]),
            suites,
            session,
        })
    }
}

/// Whether a byte may stand at one of the first five places: a length with its upper bit set, which is that of two
/// hundred suites at most; the type; a version of SSL 3.0 or TLS.
fn may_stand(n: usize, byte: u8) -> bool {
    match n {
        0 => matches!(byte, 0x80..=0x82),
        2 => byte == CLIENT_HELLO,
        3 => byte == 3,
        4 => byte <= 3,
        _ => true,
    }
}

/// Whether bytes begin with such a hello.
pub(super) fn likeness(bytes: &[u8]) -> Likeness {
    match bytes.first_chunk() {
        Some(header) if Header::read(header).is_some() => Likeness::ClientHello,
        Some(_) => Likeness::No,
        None if bytes.iter().enumerate().all(|(n, byte)| may_stand(n, *byte)) => Likeness::Maybe,
        None => Likeness::No,
    }
}

/// What reading a hello gives.
pub(super) enum Read {
    Hello {
        used: usize,
        hello: Box<ClientHello>,
    },
    /// So many bytes are needed.
    More(usize),
    No,
}

/// Reads the hello that bytes begin with. It has no extensions, and no fingerprint is defined of it.
pub(super) fn read(bytes: &[u8]) -> Read {
    let Some(header) = bytes.first_chunk() else {
        return match likeness(bytes) {
            Likeness::Maybe => Read::More(HEADER),
            _ => Read::No,
        };
    };
    let Some(header) = Header::read(header) else {
        return Read::No;
    };
    let Some(lists) = bytes.get(HEADER..header.len) else {
        return Read::More(header.len);
    };
    let mut lists = Bytes(lists);
    let suites = lists.take(header.suites).unwrap_or_default();
    let session = lists.take(header.session).unwrap_or_default();
    Read::Hello {
        used: header.len,
        hello: Box::new(ClientHello {
            version: header.version,
            session: session.to_vec(),
            suites: suites.chunks_exact(SUITE).map(name).collect(),
            ..ClientHello::default()
        }),
    }
}

/// Name of a suite: its own for those that only SSL 2 has (RFC 6101, appendix E).
fn name(suite: &[u8]) -> String {
    let name = match *suite {
        [0, upper, lower] => return suites::name(u16::from_be_bytes([upper, lower])).into_owned(),
        [0x01, 0x00, 0x80] => "SSL2_RC4_128_WITH_MD5",
        [0x02, 0x00, 0x80] => "SSL2_RC4_128_EXPORT40_WITH_MD5",
        [0x03, 0x00, 0x80] => "SSL2_RC2_128_CBC_WITH_MD5",
        [0x04, 0x00, 0x80] => "SSL2_RC2_128_CBC_EXPORT40_WITH_MD5",
        [0x05, 0x00, 0x80] => "SSL2_IDEA_128_CBC_WITH_MD5",
        [0x06, 0x00, 0x40] => "SSL2_DES_64_CBC_WITH_MD5",
        [0x07, 0x00, 0xc0] => "SSL2_DES_192_EDE3_CBC_WITH_MD5",
        _ => return suite.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"\x80\x1f\x01\x03\x01\0\x06\0\0\0\x10\x01\0\x80\0\0\x2f0123456789abcdef";

    #[test]
    fn suites_of_both_kinds() {
        let Read::Hello { used, hello } = read(HELLO) else {
            panic!("no hello");
        };
        assert_eq!((used, hello.version), (HELLO.len(), 0x0301));
        let names = ["SSL2_RC4_128_WITH_MD5", "TLS_RSA_WITH_AES_128_CBC_SHA"];
        assert_eq!(hello.suites, names);
    }

    #[test]
    fn every_begin_of_it_may_be_one() {
        for len in 1..HELLO.len() {
            let expected = if len < HEADER {
                Likeness::Maybe
            } else {
                Likeness::ClientHello
            };
            assert_eq!(likeness(&HELLO[..len]), expected, "{len}");
            assert!(
                matches!(read(&HELLO[..len]), Read::More(needed) if needed > len),
                "{len}"
            );
        }
    }

    #[test]
    fn lengths_that_do_not_add_up() {
        for (at, byte) in [(1, 0x20), (6, 5), (8, 1), (10, 0x11), (3, 2)] {
            let mut bytes = HELLO.to_vec();
            bytes[at] = byte;
            assert_eq!(likeness(&bytes), Likeness::No, "{at}");
        }
    }
}
