//! Codes by which a connection is closed (RFC 6455, section 7.4, and the registry that it has begun).

use crate::call::Outcome;
use crate::protocols::Side;

/// The code that a close frame carries, and the reason in words behind it.
pub(super) fn code(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (code, reason) = payload.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*code), reason))
}

/// A code's name.
pub(super) fn name(code: u16) -> String {
    let name = match code {
        1000 => "normal_closure",
        1001 => "going_away",
        1002 => "protocol_error",
        1003 => "unsupported_data",
        1007 => "invalid_payload",
        1008 => "policy_violation",
        1009 => "message_too_big",
        1010 => "mandatory_extension",
        1011 => "internal_error",
        1012 => "service_restart",
        1013 => "try_again_later",
        1014 => "bad_gateway",
        3000 => "unauthorized",
        3003 => "forbidden",
        3008 => "timeout",
        code => return format!("code {code}"),
    };
    name.to_owned()
}

/// How a connection has ended that was closed by one end, with a code. Most codes blame the other end; some own up to a
/// failure. Of codes that applications have made up, nothing is known.
pub(super) fn outcome(by: Side, code: Option<u16>) -> Outcome {
    let other = match by {
        Side::Client => Outcome::ServerError,
        Side::Server => Outcome::ClientError,
    };
    let own = match by {
        Side::Client => Outcome::ClientError,
        Side::Server => Outcome::ServerError,
    };
    match code {
        None | Some(1000 | 1001) => Outcome::Ok,
        Some(1002 | 1003 | 1007..=1010 | 3000 | 3003) => other,
        Some(1011..=1014) => own,
        Some(3008) => Outcome::Timeout,
        Some(_) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_blame() {
        let cases = [
            (Side::Client, None, Outcome::Ok),
            (Side::Server, Some(1001), Outcome::Ok),
            (Side::Server, Some(1008), Outcome::ClientError),
            (Side::Client, Some(1002), Outcome::ServerError),
            (Side::Server, Some(1011), Outcome::ServerError),
            (Side::Server, Some(1013), Outcome::ServerError),
            (Side::Server, Some(3008), Outcome::Timeout),
            (Side::Server, Some(4001), Outcome::Unknown),
        ];
        for (by, code, expected) in cases {
            assert_eq!(outcome(by, code), expected, "{by:?} {code:?}");
        }
        assert_eq!(
            (name(1009), name(4001)),
            ("message_too_big".into(), "code 4001".into())
        );
    }

    #[test]
    fn codes_and_reasons() {
        assert_eq!(code(b"\x03\xe8bye"), Some((1000, &b"bye"[..])));
        assert_eq!(code(b"\x03"), None);
        assert_eq!(code(b""), None);
    }
}
