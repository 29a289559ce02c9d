//! BTF, the kernel's description of its own types: where it keeps a field, and which number a name stands for.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst: a head, types one after the other, and texts.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, bail};

/// Where the kernel that runs shows its own.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// The bytes of the running kernel's.
///
/// # Errors
/// When it shows none.
pub fn of_kernel() -> Result<Vec<u8>> {
    fs::read(KERNEL).with_context(|| format!("{KERNEL} (a kernel built with CONFIG_DEBUG_INFO_BTF has it)"))
}

const MAGIC: u16 = 0xeb9f;

/// Kinds of types, as numbered there.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const PROTOTYPE: u32 = 13;
    pub const VARIABLE: u32 = 14;
    pub const SECTION: u32 = 15;
    pub const TAG: u32 = 17;
    pub const ENUM_64: u32 = 19;
}

/// Levels of nameless structures in structures that are followed.
const MAX_DEPTH: usize = 8;

/// The types, by their number and by name.
pub struct Types<'a> {
    types: Vec<Type<'a>>,
    structures: HashMap<&'a [u8], usize>,
    texts: &'a [u8],
}

struct Type<'a> {
    name: u32,
    info: u32,
    /// What follows the head: of a structure or an enumeration its members.
    rest: &'a [u8],
}

impl<'a> Types<'a> {
    /// Reads them; `btf` is all of it.
    ///
    /// # Errors
    /// When it is not BTF of this machine's byte order, is cut off, or has a kind of type that is newer than this.
    pub fn parse(btf: &'a [u8]) -> Result<Self> {
        Self::read(btf).context("the kernel's description of its types cannot be read")
    }

    fn read(btf: &'a [u8]) -> Result<Self> {
        let magic = btf.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        if magic != Some(MAGIC) {
            bail!("it is no BTF of this machine's byte order");
        }
        let head = |at| number(btf, at).context("it ends in its head");
        let body = btf.get(head(4)? as usize..).context("it ends in its head")?;
        let section = |from: u32, length: u32| {
            let section = body
                .get(from as usize..)
                .and_then(|rest| rest.get(..length as usize));
            section.context("it is cut off")
        };
        let (mut rest, texts) = (section(head(8)?, head(12)?)?, section(head(16)?, head(20)?)?);
        let mut found = Self {
            // Number 0 is "nothing".
            types: vec![Type {
                name: 0,
                info: 0,
                rest: &[],
            }],
            structures: HashMap::new(),
            texts,
        };
        while !rest.is_empty() {
            let (name, info) = (
                number(rest, 0).context("a type is cut off")?,
                number(rest, 4).context("a type is cut off")?,
            );
            let length = length(info)
                .with_context(|| format!("it has a type of unknown kind {}", info >> 24 & 0x1f))?;
            let tail = rest.get(12..).context("a type is cut off")?;
            let (own, after) = tail.split_at_checked(length).context("a type is cut off")?;
            if info >> 24 & 0x1f == kind::STRUCT {
                found
                    .structures
                    .entry(found.text(name))
                    .or_insert(found.types.len());
            }
            found.types.push(Type {
                name,
                info,
                rest: own,
            });
            rest = after;
        }
        Ok(found)
    }

    /// The offset of a field, in bytes, also of one in a nameless structure within; `None` if this kernel has no such.
    pub fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let number = self.structures.get(structure.as_bytes())?;
        Some(self.bits(*number, field.as_bytes(), 0)? / 8)
    }

    /// The offsets of fields, each with the place in the result at which it belongs.
    ///
    /// # Errors
    /// Names the first field that this kernel lacks.
    pub fn places<const N: usize>(&self, fields: &[(usize, &str, &str)]) -> Result<[u32; N]> {
        let mut places = [0; N];
        for (at, structure, field) in fields {
            let offset = self.offset(structure, field);
            let offset = offset.with_context(|| format!("this kernel has no {structure}.{field}"))?;
            if let Some(place) = places.get_mut(*at) {
                *place = offset;
            }
        }
        Ok(places)
    }

    /// The names and values of an enumeration; none if the kernel does not have it. Looked for among all, as it is asked
    /// for once.
    pub fn values(&self, enumeration: &str) -> Vec<(String, u32)> {
        let is_it = |of: &&Type<'_>| {
            of.info >> 24 & 0x1f == kind::ENUM && self.text(of.name) == enumeration.as_bytes()
        };
        let values = self.types.iter().find(is_it).map_or(&[][..], |of| of.rest);
        let value = |value: &[u8]| {
            let name = String::from_utf8_lossy(self.text(number(value, 0)?)).into_owned();
            Some((name, number(value, 4)?))
        };
        values.chunks_exact(8).filter_map(value).collect()
    }

    fn bits(&self, number: usize, field: &[u8], depth: usize) -> Option<u32> {
        let of = self.types.get(number)?;
        if !matches!(of.info >> 24 & 0x1f, kind::STRUCT | kind::UNION) || depth > MAX_DEPTH {
            return None;
        }
        // With bit fields, the upper byte of an offset is the field's width.
        let mask = if of.info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        of.rest.chunks_exact(12).find_map(|member| {
            let name = self.text(self::number(member, 0)?);
            let offset = self::number(member, 8)? & mask;
            if name == field {
                Some(offset)
            } else if name.is_empty() {
                let within = self.bits(self::number(member, 4)? as usize, field, depth + 1)?;
                offset.checked_add(within)
            } else {
                None
            }
        })
    }

    fn text(&self, at: u32) -> &'a [u8] {
        let rest = self.texts.get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow a type's head; `None` for a kind that is newer than this.
fn length(info: u32) -> Option<usize> {
    let members = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        kind::INT | kind::VARIABLE | kind::TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM_64 => 12 * members,
        kind::ENUM | kind::PROTOTYPE => 8 * members,
        // Pointers, forward declarations, names for types, qualifiers, functions, floats, tags of types.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; union { struct inner { int b; int c:3 }; }; }`, without names for the inner ones, and
    /// `enum int { a = 4, b = 9 }`.
    fn small() -> Vec<u8> {
        let texts = b"\0int\0outer\0a\0b\0c\0";
        let mut types: Vec<u32> = vec![1, kind::INT << 24, 4, 32];
        types.extend([
            0,
            1 << 31 | kind::STRUCT << 24 | 2,
            8,
            13,
            1,
            0,
            15,
            1,
            3 << 24 | 35,
        ]);
        types.extend([0, kind::UNION << 24 | 1, 8, 0, 2, 0]);
        types.extend([5, kind::STRUCT << 24 | 2, 12, 11, 1, 0, 0, 3, 32]);
        types.extend([1, kind::ENUM << 24 | 2, 4, 11, 4, 13, 9]);
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut btf = MAGIC.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for number in [24, 0, types.len() as u32, types.len() as u32, texts.len() as u32] {
            btf.extend(number.to_ne_bytes());
        }
        btf.extend(types);
        btf.extend(texts);
        btf
    }

    #[test]
    fn fields_are_found_in_nameless_structures_too() {
        let btf = small();
        let types = Types::parse(&btf).expect("is read");
        let offset = |field| types.offset("outer", field);
        assert_eq!(
            (offset("a"), offset("b"), offset("c"), offset("d")),
            (Some(0), Some(4), Some(8), None)
        );
        assert_eq!(types.offset("inner", "b"), None);
    }

    #[test]
    fn an_enumeration_is_told_from_another_type_of_its_name() {
        let btf = small();
        let types = Types::parse(&btf).expect("is read");
        assert_eq!(types.values("int"), [("a".to_owned(), 4), ("b".to_owned(), 9)]);
        assert!(types.values("outer").is_empty());
        let places = types.places([(1, "outer", "c"), (0, "outer", "a")].as_slice());
        assert_eq!(places.expect("are there"), [0, 8]);
        let lacking = types.places::<1>(&[(0, "outer", "d")]).expect_err("is not there");
        assert_eq!(lacking.to_string(), "this kernel has no outer.d");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let btf = small();
        for length in 0..btf.len() {
            assert!(Types::parse(&btf[..length]).is_err(), "{length} bytes");
        }
    }
}
