//! The names of numbers: content types, versions and alerts (RFC 8446, and IANA's registry "TLS Parameters").

use std::borrow::Cow;

use crate::Outcome;
use crate::protocols::Side;

/// Content types of records.
pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// Types of handshake messages.
pub(crate) const CLIENT_HELLO: u8 = 1;
pub(crate) const SERVER_HELLO: u8 = 2;
pub(crate) const CERTIFICATE: u8 = 11;

pub(crate) const TLS13: u16 = 0x0304;

/// Whether a version is TLS 1.3 or one of its drafts, which all encrypt from the ServerHello on.
pub(crate) fn is_tls13(version: u16) -> bool {
    version == TLS13 || version >> 8 == 0x7f
}

/// Name of a version.
pub(crate) fn version_name(version: u16) -> &'static str {
    match version {
        0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        TLS13 => "TLS 1.3",
        draft if is_tls13(draft) => "TLS 1.3 draft",
        _ => "",
    }
}

/// Whether a value is one of those that clients mix in so that servers learn to ignore what they do not know (RFC 8701).
pub(crate) fn is_grease(value: u16) -> bool {
    let [upper, lower] = value.to_be_bytes();
    upper == lower && upper & 0x0f == 0x0a
}

/// "The connection will not be used any more": not an error.
pub(crate) const CLOSE_NOTIFY: u8 = 0;
/// "The user has canceled": a warning, followed by the above.
pub(crate) const USER_CANCELED: u8 = 90;

/// Name of an alert.
pub(crate) fn alert_name(alert: u8) -> Cow<'static, str> {
    let name = match alert {
        CLOSE_NOTIFY => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        52 => "too_many_cids_requested",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        USER_CANCELED => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return Cow::Owned(format!("alert_{alert}")),
    };
    Cow::Borrowed(name)
}

/// Whose fault a fatal alert means: an end sends one because of what the other end has done, except where it says that
/// it has failed itself.
pub(crate) fn outcome(alert: u8, sender: Side) -> Outcome {
    const INTERNAL_ERROR: u8 = 80;
    let own_fault = matches!(alert, INTERNAL_ERROR | USER_CANCELED);
    match (sender, own_fault) {
        (Side::Client, true) | (Side::Server, false) => Outcome::ClientError,
        (Side::Server, true) | (Side::Client, false) => Outcome::ServerError,
    }
}
