//! Header blocks: what a request or a response says first, and trailers.

use std::borrow::Cow;

use super::frame::{Header, Kind, PADDED, PRIORITY};
use super::hpack::{Decoder, Field};
use crate::call::{Headers, text_of};
use crate::limits::{HEAD_BYTES, HEADERS};
use crate::protocols::http1::method_of;

/// Bytes of text and number of fields that most heads do not go beyond.
const USUAL_TEXT: usize = 256;
const USUAL_FIELDS: usize = 8;

/// A header block, decoded.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub method: Option<Cow<'static, str>>,
    /// Whether there is a scheme, which only requests have.
    pub scheme: bool,
    pub path: Option<String>,
    pub authority: Option<String>,
    /// What an extended CONNECT asks for (RFC 8441, section 4).
    pub protocol: Option<String>,
    pub status: Option<i32>,
    /// All other fields.
    pub headers: Headers,
    /// Fields that are there, but were said before we came.
    pub unresolved: u32,
    /// Whether there are more fields than are kept.
    pub cut: bool,
    /// Whether something behind these fields could not be read.
    pub damaged: bool,
}

impl Head {
    /// Decodes a header block. All of it passes the decoder, however much is kept.
    pub fn decode(decoder: &mut Decoder, block: &[u8]) -> Self {
        let mut head = Self::default();
        let mut kept = 0;
        let decoded = decoder.decode(block, &mut |field| match field {
            Field::Unresolved => head.unresolved += 1,
            Field::Known { name, value } => {
                kept += name.len() + value.len();
                if kept > HEAD_BYTES || head.headers.len() >= HEADERS {
                    head.cut = true;
                } else if name.starts_with(b":") {
                    head.add_pseudo(name, value);
                } else {
                    if head.headers.is_empty() {
                        head.headers = Headers::with_room(USUAL_TEXT.max(block.len()), USUAL_FIELDS);
                    }
                    head.headers.push(name, value);
                }
            }
        });
        head.damaged = decoded.is_err();
        head
    }

    /// Whether it is the head of a request; trailers have no such fields.
    pub fn is_request(&self) -> bool {
        self.scheme || self.method.is_some() || self.path.is_some() || self.authority.is_some()
    }

    /// Whether it is a response that another one follows (RFC 9110, section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status.is_some_and(|status| (100..200).contains(&status))
    }

    /// Whether there is not one field.
    pub fn is_empty(&self) -> bool {
        !self.is_request() && self.status.is_none() && self.headers.is_empty() && self.unresolved == 0
    }

    /// Whether all names are as RFC 9113, section 8.2.1 has them.
    pub fn names_are_tokens(&self) -> bool {
        let token = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && byte != b':';
        self.headers
            .bytes()
            .all(|(name, _)| !name.is_empty() && name.iter().copied().all(token))
    }

    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) {
        let pseudo = match name {
            b":method" => {
                self.method = Some(method_of(&text_of(value)));
                return;
            }
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":protocol" => &mut self.protocol,
            b":scheme" => {
                self.scheme = true;
                return;
            }
            b":status" => {
                self.status = std::str::from_utf8(value)
                    .ok()
                    .and_then(|status| status.parse().ok());
                return;
            }
            _ => {
                self.headers.push(name, value);
                return;
            }
        };
        *pseudo = Some(text_of(value).into_owned());
    }
}

/// The part of a frame's payload that is header block, and the promised stream; `None` if the frame contradicts itself.
pub(super) fn block_of<'p>(header: &Header, payload: &'p [u8]) -> Option<(&'p [u8], Option<u32>)> {
    let mut block = payload;
    let mut padding = 0;
    if header.has(PADDED) && header.kind != Kind::Continuation {
        let (first, rest) = block.split_first()?;
        padding = usize::from(*first);
        block = rest;
    }
    let mut promised = None;
    match header.kind {
        Kind::Headers if header.has(PRIORITY) => block = block.get(5..)?,
        Kind::PushPromise => {
            let (stream, rest) = block.split_first_chunk()?;
            promised = Some(u32::from_be_bytes(*stream) & 0x7fff_ffff);
            block = rest;
        }
        _ => {}
    }
    let len = block.len().checked_sub(padding)?;
    Some((block.get(..len)?, promised))
}
