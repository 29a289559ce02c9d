//! What a record holds, as text: in the form of a zone file, but without quotes, and with names without their last dot.

use std::fmt::{Display, Write};
use std::net::Ipv6Addr;

use super::numbers::{A, AAAA, CAA, CNAME, DNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT};
use super::wire::{Reader, push_byte};

/// Bytes that are shown of a record whose type is not taken apart: keys and signatures say nothing to a reader.
const SHOWN: usize = 32;

/// Appends the value of a record. `None` if it does not hold what its type says.
pub(super) fn show(kind: u16, mut data: Reader<'_>, text: &mut String) -> Option<()> {
    match kind {
        A => {
            let [first, rest @ ..] = data.u32()?.to_be_bytes();
            push_number(text, u32::from(first));
            for byte in rest {
                text.push('.');
                push_number(text, u32::from(byte));
            }
        }
        AAAA => push(text, Ipv6Addr::from(*data.take(16)?.first_chunk::<16>()?)),
        NS | CNAME | PTR | DNAME => text.push_str(&data.name()?),
        MX => {
            push_number(text, u32::from(data.u16()?));
            text.push(' ');
            text.push_str(&data.name()?);
        }
        SOA => {
            text.push_str(&data.name()?);
            text.push(' ');
            text.push_str(&data.name()?);
            text.push(' ');
            push_number(text, data.u32()?);
        }
        SRV => {
            for _ in ["priority", "weight", "port"] {
                push_number(text, u32::from(data.u16()?));
                text.push(' ');
            }
            text.push_str(&data.name()?);
        }
        TXT => {
            while !data.rest().is_empty() {
                let len = data.u8()?;
                for byte in data.take(usize::from(len))? {
                    push_byte(text, *byte, b"\\");
                }
            }
        }
        CAA => {
            let (flags, len) = (data.u8()?, data.u8()?);
            push_number(text, u32::from(flags));
            text.push(' ');
            for byte in data.take(usize::from(len))? {
                push_byte(text, *byte, b"\\");
            }
            text.push(' ');
            for byte in data.rest() {
                push_byte(text, *byte, b"\\");
            }
        }
        SVCB | HTTPS => service(data, text)?,
        _ => unknown(data.rest(), text),
    }
    Some(())
}

/// A service binding (RFC 9460): priority, target, and the protocols and port, if it names them.
fn service(mut data: Reader<'_>, text: &mut String) -> Option<()> {
    const ALPN: u16 = 1;
    const PORT: u16 = 3;
    push_number(text, u32::from(data.u16()?));
    text.push(' ');
    text.push_str(&data.name()?);
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
                        push_byte(text, *byte, b",\\");
                    }
                }
            }
            PORT => {
                text.push_str(" port=");
                push_number(text, u32::from(value.u16()?));
            }
            _ => {}
        }
    }
    Some(())
}

/// A record of any type (RFC 3597, section 5), cut.
fn unknown(data: &[u8], text: &mut String) {
    push(text, format_args!("\\# {}", data.len()));
    if !data.is_empty() {
        text.push(' ');
    }
    for byte in data.iter().take(SHOWN) {
        push(text, format_args!("{byte:02x}"));
    }
    if data.len() > SHOWN {
        text.push('…');
    }
}

fn push(text: &mut String, value: impl Display) {
    // Writing to a text cannot fail.
    let _ = write!(text, "{value}");
}

/// Appends a number. Most records are addresses, and formatting their numbers by the standard library takes longer than
/// reading the message.
fn push_number(text: &mut String, mut number: u32) {
    // As many digits as the largest one has.
    let mut digits = [0; 10];
    let mut begin = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        begin = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(begin..).unwrap_or_default();
    text.push_str(std::str::from_utf8(digits).unwrap_or_default());
}
