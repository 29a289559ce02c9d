//! What Initial packets are protected with: keys that anyone can compute, from a number that the client has chosen
//! (RFC 9001, section 5.2).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::AeadInOut;
use hkdf::Hkdf;
use sha2::Sha256;

/// A version's salt and labels.
#[derive(Clone, Copy)]
pub(super) struct Recipe {
    pub salt: &'static [u8; 20],
    pub key: &'static str,
    pub iv: &'static str,
    pub header: &'static str,
}

/// RFC 9001, sections 5.1 and 5.2.
pub(super) const V1: Recipe = Recipe {
    salt: &[
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
        0xbb, 0x7f, 0x0a,
    ],
    key: "quic key",
    iv: "quic iv",
    header: "quic hp",
};

/// RFC 9369, section 3.3.
pub(super) const V2: Recipe = Recipe {
    salt: &[
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
        0xbd, 0x2e, 0xd9,
    ],
    key: "quicv2 key",
    iv: "quicv2 iv",
    header: "quicv2 hp",
};

/// The drafts 29 to 32, which were spoken for years.
pub(super) const DRAFT_29: Recipe = Recipe {
    salt: &[
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0, 0x43,
        0x90, 0xa8, 0x99,
    ],
    ..V1
};

/// Bytes of the tag behind an encrypted payload.
const TAG: usize = 16;

/// Where the bytes stand, behind the begin of the packet number, by which the header is protected (RFC 9001, section
/// 5.4.2).
const SAMPLE: usize = 4;

/// What one end's Initial packets are opened with.
pub(super) struct Keys {
    payload: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

impl Keys {
    /// The client's and the server's keys, given the destination of the client's first packet.
    pub fn of(recipe: Recipe, destination: &[u8]) -> Option<[Self; 2]> {
        let (_, initial) = Hkdf::<Sha256>::extract(Some(recipe.salt), destination);
        let client = Self::expand(recipe, &initial, "client in")?;
        let server = Self::expand(recipe, &initial, "server in")?;
        Some([client, server])
    }

    fn expand(recipe: Recipe, initial: &Hkdf<Sha256>, side: &str) -> Option<Self> {
        let secret: [u8; 32] = derive(initial, side)?;
        let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        let key: [u8; 16] = derive(&secret, recipe.key)?;
        let header: [u8; 16] = derive(&secret, recipe.header)?;
        Some(Self {
            payload: Aes128Gcm::new(&key.into()),
            iv: derive(&secret, recipe.iv)?,
            header: Aes128::new(&header.into()),
        })
    }

    /// Opens a packet: its first byte is that of the header, its packet number stands at `number_at`, its last bytes are
    /// the tag. `None` if it was not protected with these keys.
    pub fn open(&self, packet: &[u8], number_at: usize) -> Option<Vec<u8>> {
        let sample = packet.get(number_at + SAMPLE..)?.first_chunk::<16>()?;
        let mut mask = (*sample).into();
        self.header.encrypt_block(&mut mask);
        let (first_mask, number_mask) = mask.split_first()?;
        let mut packet = packet.to_vec();
        let first = packet.first_mut()?;
        *first ^= first_mask & 0x0f;
        let number_len = usize::from(*first & 3) + 1;
        let mut nonce = self.iv;
        let place = nonce.len() - number_len;
        // Initial packets are few, so that their numbers are not cut.
        let number = packet.get_mut(number_at..number_at + number_len)?;
        for ((byte, mask), nonce) in number
            .iter_mut()
            .zip(number_mask)
            .zip(nonce.iter_mut().skip(place))
        {
            *byte ^= mask;
            *nonce ^= *byte;
        }
        let (header, sealed) = packet.split_at_mut_checked(number_at + number_len)?;
        let len = sealed.len().checked_sub(TAG)?;
        let (payload, tag) = sealed.split_at_mut_checked(len)?;
        let tag: [u8; TAG] = (*tag).try_into().ok()?;
        self.payload
            .decrypt_inout_detached(&nonce.into(), header, payload.into(), &tag.into())
            .ok()?;
        Some(payload.to_vec())
    }
}

#[cfg(test)]
impl Keys {
    /// Protects a packet: the header up to the packet number, which has four bytes, and what it is to carry.
    pub fn seal(&self, mut packet: Vec<u8>, number: u32, payload: &[u8]) -> Vec<u8> {
        let number_at = packet.len();
        packet.extend_from_slice(&number.to_be_bytes());
        let mut nonce = self.iv;
        for (byte, nonce) in number.to_be_bytes().iter().zip(nonce.iter_mut().skip(8)) {
            *nonce ^= *byte;
        }
        let mut sealed = payload.to_vec();
        let tag = self
            .payload
            .encrypt_inout_detached(&nonce.into(), &packet, sealed.as_mut_slice().into())
            .unwrap();
        packet.extend_from_slice(&sealed);
        packet.extend_from_slice(&tag);
        let sample: [u8; 16] = packet[number_at + SAMPLE..number_at + SAMPLE + 16]
            .try_into()
            .unwrap();
        let mut mask = sample.into();
        self.header.encrypt_block(&mut mask);
        packet[0] ^= mask[0] & 0x0f;
        for n in 0..4 {
            packet[number_at + n] ^= mask[1 + n];
        }
        packet
    }
}

/// HKDF-Expand-Label (RFC 8446, section 7.1) without a context.
fn derive<const LEN: usize>(secret: &Hkdf<Sha256>, label: &str) -> Option<[u8; LEN]> {
    let len = u16::try_from(LEN).ok()?.to_be_bytes();
    let label_len = [u8::try_from("tls13 ".len() + label.len()).ok()?];
    let mut out = [0; LEN];
    let info = [&len, label_len.as_slice(), b"tls13 ", label.as_bytes(), &[0]];
    secret.expand_multi_info(&info, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9001, appendix A.1.
    #[test]
    fn the_published_keys() {
        let destination = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let (_, initial) = Hkdf::<Sha256>::extract(Some(V1.salt), &destination);
        let secret: [u8; 32] = derive(&initial, "client in").unwrap();
        assert_eq!(secret[..4], [0xc0, 0x0c, 0xf1, 0x51]);
        let secret = Hkdf::<Sha256>::from_prk(&secret).unwrap();
        let key: [u8; 16] = derive(&secret, V1.key).unwrap();
        let iv: [u8; 12] = derive(&secret, V1.iv).unwrap();
        let header: [u8; 16] = derive(&secret, V1.header).unwrap();
        assert_eq!(key[..4], [0x1f, 0x36, 0x96, 0x13]);
        assert_eq!(iv[..4], [0xfa, 0x04, 0x4b, 0x2f]);
        assert_eq!(header[..4], [0x9f, 0x50, 0x44, 0x9e]);
    }

    /// RFC 9369, appendix A.1.
    #[test]
    fn the_published_keys_of_version_2() {
        let destination = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let (_, initial) = Hkdf::<Sha256>::extract(Some(V2.salt), &destination);
        let secret: [u8; 32] = derive(&initial, "client in").unwrap();
        let secret = Hkdf::<Sha256>::from_prk(&secret).unwrap();
        let key: [u8; 16] = derive(&secret, V2.key).unwrap();
        let iv: [u8; 12] = derive(&secret, V2.iv).unwrap();
        let header: [u8; 16] = derive(&secret, V2.header).unwrap();
        assert_eq!(key[..4], [0x8b, 0x1a, 0x0b, 0xc1]);
        assert_eq!(iv[..4], [0x91, 0xf7, 0x3e, 0x23]);
        assert_eq!(header[..4], [0x45, 0xb9, 0x5e, 0x15]);
    }
}
