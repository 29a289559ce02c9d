//! The IP header: addresses, where the payload is, and whether it is whole.

use etherparse::{IpNumber, LaxIpSlice, LaxIpv4Slice, LaxIpv6Slice};

use crate::Skip;
use crate::fragments::Fragment;

/// A decoded IP header.
pub(crate) struct Ip<'a> {
    /// Source address, IPv4 in its mapped form.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Protocol of the payload.
    pub transport: IpNumber,
    /// What its sender has called it, and translators leave alone: the identification of IPv4, the flow label of IPv6. Or 0.
    pub ident: u32,
    /// Bytes of the header, options and extensions included.
    pub header: u16,
    /// The payload that was captured, without Ethernet's padding.
    pub payload: &'a [u8],
    /// Bytes of payload that the capture cut.
    pub missing: u32,
    /// Set when the payload is only a part of the datagram's.
    pub fragment: Option<Fragment>,
}

/// Decodes the header at the begin of `data`. `cut` is how many bytes of the packet were not captured.
///
/// Lengths are taken from the header, except where it has none: segmentation offload leaves zero in packets over
/// 64 KiB. Checksums are not verified: with offload they are not yet computed when the packet is seen.
pub(crate) fn decode(data: &[u8], cut: u32) -> Result<Ip<'_>, Skip> {
    if let Some(ip) = plain(data) {
        return Ok(ip);
    }
    let (ip, error) = LaxIpSlice::from_slice(data).map_err(|_| match data.first().map(|byte| byte >> 4) {
        None | Some(4 | 6) => Skip::Truncated,
        Some(_) => Skip::NotIp,
    })?;
    if error.is_some() {
        return Err(if cut > 0 { Skip::Truncated } else { Skip::Malformed });
    }
    match ip {
        LaxIpSlice::Ipv4(ip) => Ok(v4(ip, cut)),
        LaxIpSlice::Ipv6(ip) => Ok(v6(ip, cut)),
    }
}

/// Decodes what nearly every packet is: a whole TCP segment or UDP datagram right behind a header that says its length.
fn plain(data: &[u8]) -> Option<Ip<'_>> {
    let ip = |source, destination, transport, ident, header, payload| Ip {
        source,
        destination,
        transport: IpNumber(transport),
        ident,
        header,
        payload,
        missing: 0,
        fragment: None,
    };
    match data.first()? >> 4 {
        4 => {
            let header = data.first_chunk::<20>()?;
            let [
                first,
                _,
                l0,
                l1,
                i0,
                i1,
                f0,
                f1,
                _,
                transport,
                _,
                _,
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
            ] = *header;
            // No fragment: neither an offset nor the flag that more follow.
            let whole = u16::from_be_bytes([f0, f1]) & 0x3fff == 0;
            let plain = first == 0x45 && is_plain(transport) && whole;
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let payload = data.get(20..len).filter(|_| plain)?;
            let (source, destination) = (mapped([a, b, c, d]), mapped([e, f, g, h]));
            let ident = u32::from(u16::from_be_bytes([i0, i1]));
            Some(ip(source, destination, transport, ident, 20, payload))
        }
        6 => {
            let header = data.first_chunk::<40>()?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let (source, destination) = (
                data.get(8..24)?.try_into().ok()?,
                data.get(24..40)?.try_into().ok()?,
            );
            let payload = data
                .get(40..40 + len)
                .filter(|_| is_plain(header[6]) && len > 0)?;
            let label = u32::from_be_bytes([0, header[1] & 0xf, header[2], header[3]]);
            Some(ip(source, destination, header[6], label, 40, payload))
        }
        _ => None,
    }
}

fn is_plain(transport: u8) -> bool {
    transport == IpNumber::TCP.0 || transport == IpNumber::UDP.0
}

fn v4(ip: LaxIpv4Slice<'_>, cut: u32) -> Ip<'_> {
    let header = ip.header();
    let payload = ip.payload();
    let declared = u32::from(header.total_len()).saturating_sub(header.slice().len() as u32);
    let fragment = ip.is_payload_fragmented().then(|| Fragment {
        id: u32::from(header.identification()),
        offset: header.fragments_offset(),
        more: header.more_fragments(),
    });
    Ip {
        source: mapped(header.source()),
        destination: mapped(header.destination()),
        transport: payload.ip_number,
        ident: u32::from(header.identification()),
        header: header.slice().len() as u16,
        payload: payload.payload,
        missing: missing(
            header.total_len(),
            declared,
            payload.payload.len(),
            payload.incomplete,
            cut,
        ),
        fragment,
    }
}

fn v6(ip: LaxIpv6Slice<'_>, cut: u32) -> Ip<'_> {
    let header = ip.header();
    let payload = ip.payload();
    let extensions = ip.extensions().slice().len() as u32;
    let declared = u32::from(header.payload_length()).saturating_sub(extensions);
    let fragment = ip.is_payload_fragmented().then(|| fragment_header(&ip)).flatten();
    Ip {
        source: header.source(),
        destination: header.destination(),
        transport: payload.ip_number,
        ident: header.flow_label().value(),
        header: (header.slice().len() as u32 + extensions) as u16,
        payload: payload.payload,
        missing: missing(
            header.payload_length(),
            declared,
            payload.payload.len(),
            payload.incomplete,
            cut,
        ),
        fragment,
    }
}

/// How much of the payload was not captured.
fn missing(field: u16, declared: u32, captured: usize, incomplete: bool, cut: u32) -> u32 {
    if incomplete {
        declared.saturating_sub(captured as u32)
    } else if field == 0 {
        cut
    } else {
        0
    }
}

fn fragment_header(ip: &LaxIpv6Slice<'_>) -> Option<Fragment> {
    use etherparse::Ipv6ExtensionSlice;
    ip.extensions()
        .clone()
        .into_iter()
        .find_map(|extension| match extension {
            Ipv6ExtensionSlice::Fragment(header) if header.is_fragmenting_payload() => Some(Fragment {
                id: header.identification(),
                offset: header.fragment_offset(),
                more: header.more_fragments(),
            }),
            _ => None,
        })
}

/// An IPv4 address in its IPv6-mapped form (RFC 4291, section 2.5.5.2).
fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
