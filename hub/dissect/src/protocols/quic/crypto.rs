//! The TLS messages of one end, put together from CRYPTO frames (RFC 9000, section 19.6).

use std::collections::BTreeMap;

use crate::limits::{QUIC_CRYPTO, QUIC_PIECES};
use crate::protocols::tls::bytes::Bytes;

/// Bytes in order, and those that came early.
#[derive(Default)]
pub(super) struct Crypto {
    bytes: Vec<u8>,
    early: BTreeMap<usize, Vec<u8>>,
    early_bytes: usize,
}

impl Crypto {
    /// Takes a frame. Whether it was kept; what is beyond the limits is not.
    pub fn take(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Ok(offset) = usize::try_from(offset) else {
            return false;
        };
        if offset.saturating_add(bytes.len()) > QUIC_CRYPTO {
            return false;
        }
        if offset > self.bytes.len() {
            let full = self.early.len() >= QUIC_PIECES || self.early_bytes + bytes.len() > QUIC_CRYPTO;
            // The first one of the same place stays.
            if !full && !self.early.contains_key(&offset) {
                self.early_bytes += bytes.len();
                self.early.insert(offset, bytes.to_vec());
            }
            return !full;
        }
        self.append(offset, bytes);
        while let Some(first) = self.early.first_entry() {
            if *first.key() > self.bytes.len() {
                break;
            }
            let (offset, bytes) = first.remove_entry();
            self.early_bytes -= bytes.len();
            self.append(offset, &bytes);
        }
        true
    }

    /// The messages that are whole: their types and bodies.
    pub fn messages(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut bytes = Bytes(&self.bytes);
        std::iter::from_fn(move || {
            let kind = bytes.u8()?;
            Some((kind, bytes.vector24()?.0))
        })
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.early_bytes
    }

    fn append(&mut self, offset: usize, bytes: &[u8]) {
        let known = self.bytes.len() - offset;
        self.bytes
            .extend_from_slice(bytes.get(known..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_and_overlapping() {
        let whole: Vec<u8> = [1, 0, 0, 20].into_iter().chain(0..20).collect();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut crypto = Crypto::default();
            let pieces = [(0, 10), (6, 18), (16, 24)];
            for (n, piece) in order.into_iter().enumerate() {
                assert_eq!(crypto.messages().count(), 0);
                let (start, end) = pieces[piece];
                assert!(crypto.take(start as u64, &whole[start..end]));
                assert_eq!(crypto.messages().count(), usize::from(n == 2));
            }
            assert_eq!(crypto.messages().next(), Some((1, &whole[4..])));
            assert_eq!(crypto.early_bytes, 0);
        }
    }

    #[test]
    fn no_more_than_the_limits() {
        let mut crypto = Crypto::default();
        assert!(!crypto.take(QUIC_CRYPTO as u64, &[0]));
        assert!(!crypto.take(u64::MAX, &[0]));
        for n in 0..2 * QUIC_PIECES {
            assert_eq!(crypto.take(100 + 2 * n as u64, &[0]), n < QUIC_PIECES);
        }
        assert_eq!(crypto.early.len(), QUIC_PIECES);
    }
}
