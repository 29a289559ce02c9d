//! What a record holds, as text: in the form of a zone file, but without quotes, and with names without their last dot.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::numbers::{A, AAAA, CAA, CNAME, DNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT};
use super::wire::{Reader, push_byte};

/// Bytes that are shown of a record whose type is not taken apart: keys and signatures say nothing to a reader.
const SHOWN: usize = 32;

/// The value of a record. `None` if it does not hold what its type says.
pub(super) fn show(kind: u16, mut data: Reader<'_>) -> Option<String> {
    match kind {
        A => Some(Ipv4Addr::from(data.u32()?).to_string()),
        AAAA => Some(Ipv6Addr::from(*data.take(16)?.first_chunk::<16>()?).to_string()),
        NS | CNAME | PTR | DNAME => data.name(),
        MX => {
            let preference = data.u16()?;
            Some(format!("{preference} {}", data.name()?))
        }
        SOA => {
            let (primary, mailbox) = (data.name()?, data.name()?);
            let serial = data.u32()?;
            Some(format!("{primary} {mailbox} {serial}"))
        }
        SRV => {
            let (priority, weight, port) = (data.u16()?, data.u16()?, data.u16()?);
            Some(format!("{priority} {weight} {port} {}", data.name()?))
        }
        TXT => {
            let mut text = String::new();
            while !data.rest().is_empty() {
                let len = data.u8()?;
                for byte in data.take(usize::from(len))? {
                    push_byte(&mut text, *byte, b"\\");
                }
            }
            Some(text)
        }
        CAA => {
            let (flags, len) = (data.u8()?, data.u8()?);
            let mut text = format!("{flags} ");
            for byte in data.take(usize::from(len))? {
                push_byte(&mut text, *byte, b"\\");
            }
            text.push(' ');
            for byte in data.rest() {
                push_byte(&mut text, *byte, b"\\");
            }
            Some(text)
        }
        SVCB | HTTPS => service(data),
        _ => Some(unknown(data.rest())),
    }
}

/// A service binding (RFC 9460): priority, target, and the protocols and port, if it names them.
fn service(mut data: Reader<'_>) -> Option<String> {
    const ALPN: u16 = 1;
    const PORT: u16 = 3;
    let priority = data.u16()?;
    let mut text = format!("{priority} {}", data.name()?);
    while !data.rest().is_empty() {
        let (key, len) = (data.u16()?, data.u16()?);
        let mut value = data.part(usize::from(len))?;
        match key {
            ALPN => {
                text.push_str(" alpn=");
                let mut first = true;
                while !value.rest().is_empty() {
                    let len = value.u8()?;
                    if !first {
                        text.push(',');
                    }
                    first = false;
                    for byte in value.take(usize::from(len))? {
                        push_byte(&mut text, *byte, b",\\");
                    }
                }
            }
            PORT => text.push_str(&format!(" port={}", value.u16()?)),
            _ => {}
        }
    }
    Some(text)
}

/// A record of any type (RFC 3597, section 5), cut.
fn unknown(data: &[u8]) -> String {
    let mut text = format!("\\# {}", data.len());
    if !data.is_empty() {
        text.push(' ');
    }
    for byte in data.iter().take(SHOWN) {
        text.push_str(&format!("{byte:02x}"));
    }
    if data.len() > SHOWN {
        text.push('…');
    }
    text
}
