//! What a hello is known by again: JA3 and JA3S (Salesforce, 2017), JA4 (FoxIO, 2023).

use md5::{Digest, Md5};
use sha2::Sha256;

use super::hello::{Carrier, Offer};
use super::numbers::{TLS13, is_grease};

/// Longest text of a JA3 that is kept: five times what browsers send. The digest is of all of it.
const TEXT_BYTES: usize = 4 << 10;

/// JA3: version, suites, extensions, groups and point formats in decimal, in the order in which they are sent, without
/// those that mean nothing; and the MD5 digest of this text.
pub(super) fn ja3(offer: &Offer) -> (String, String) {
    let formats: Vec<u16> = offer
        .point_formats
        .iter()
        .map(|format| u16::from(*format))
        .collect();
    let lists = [&offer.suites, &offer.extensions, &offer.groups, &formats].map(|list| decimal(list));
    digested(format!("{},{}", offer.version, lists.join(",")))
}

/// JA3S: version, suite and extensions of the answer, in the same way.
pub(super) fn ja3s(version: u16, suite: u16, extensions: &[u16]) -> (String, String) {
    digested(format!("{version},{suite},{}", decimal(extensions)))
}

/// JA4: what carries it, the highest version, whether a server is named, how many suites and extensions there are and
/// which protocol comes first; then digests of the sorted suites, and of the sorted extensions with the signature
/// algorithms in their order.
pub(super) fn ja4(offer: &Offer, carrier: Carrier) -> String {
    const SERVER_NAME: u16 = 0;
    const ALPN: u16 = 16;
    let known =
        |list: &[u16]| -> Vec<u16> { list.iter().copied().filter(|value| !is_grease(*value)).collect() };
    let mut suites = known(&offer.suites);
    let mut extensions = known(&offer.extensions);
    let head = format!(
        "{}{}{}{:02}{:02}{}",
        match carrier {
            Carrier::Tcp => 't',
            Carrier::Quic => 'q',
        },
        version(known(&offer.versions).into_iter().max().unwrap_or(offer.version)),
        if offer.named { 'd' } else { 'i' },
        suites.len().min(99),
        extensions.len().min(99),
        first_and_last(&offer.first_alpn),
    );
    suites.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    extensions.sort_unstable();
    let mut behind = hexadecimal(&extensions);
    let signatures = known(&offer.signatures);
    if !extensions.is_empty() && !signatures.is_empty() {
        behind = format!("{behind}_{}", hexadecimal(&signatures));
    }
    format!("{head}_{}_{}", short(&hexadecimal(&suites)), short(&behind))
}

fn version(version: u16) -> &'static str {
    match version {
        TLS13 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// The first and the last character of a protocol's name, or of its hexadecimal form if they cannot be shown.
fn first_and_last(name: &[u8]) -> String {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0xf)
}

fn decimal(list: &[u16]) -> String {
    let known = list.iter().filter(|value| !is_grease(**value));
    known.map(u16::to_string).collect::<Vec<_>>().join("-")
}

fn hexadecimal(list: &[u16]) -> String {
    list.iter()
        .map(|value| format!("{value:04x}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// A text with its digest; the text cut.
fn digested(mut text: String) -> (String, String) {
    let digest = hex(&Md5::digest(&text));
    text.truncate(TEXT_BYTES);
    (text, digest)
}

/// The first twelve digits of a SHA-256 digest; zeros for nothing.
fn short(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let mut digest = hex(&Sha256::digest(text));
    digest.truncate(12);
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of JA4's own documentation: Chrome.
    #[test]
    fn the_published_ja4() {
        let offer = Offer {
            version: 0x0303,
            versions: vec![0x2a2a, 0x0304, 0x0303],
            suites: vec![
                0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x7a7a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0xdada,
            ],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            named: true,
            first_alpn: b"h2".to_vec(),
            ..Offer::default()
        };
        assert_eq!(ja4(&offer, Carrier::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert!(ja4(&offer, Carrier::Quic).starts_with("q13d1516h2_"));
    }

    /// The examples of JA3's own documentation.
    #[test]
    fn the_published_ja3() {
        let offer = Offer {
            version: 769,
            suites: vec![47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
            extensions: vec![0, 10, 11],
            groups: vec![23, 24, 25],
            point_formats: vec![0],
            ..Offer::default()
        };
        let (text, digest) = ja3(&offer);
        assert_eq!(
            text,
            "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0"
        );
        assert_eq!(digest, "ada70206e40642a3e4461f35503241d5");
        let bare = Offer {
            version: 769,
            suites: vec![4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99],
            ..Offer::default()
        };
        let (text, digest) = ja3(&bare);
        assert_eq!(text, "769,4-5-10-9-100-98-3-6-19-18-99,,,");
        assert_eq!(digest, "de350869b8c85de67a350c8d186f11e6");
        let (text, _) = ja3s(769, 47, &[65281, 0, 11, 35, 5, 16]);
        assert_eq!(text, "769,47,65281-0-11-35-5-16");
    }

    #[test]
    fn protocols_by_first_and_last() {
        assert_eq!(first_and_last(b""), "00");
        assert_eq!(first_and_last(b"http/1.1"), "h1");
        assert_eq!(first_and_last(b"h"), "hh");
        assert_eq!(first_and_last(&[0xab]), "ab");
        assert_eq!(first_and_last(&[0x30, 0xab]), "3b");
    }
}
