//! Where the kernel that runs keeps what the programs read: from BTF, the kernel's description of its own types.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst: a head, types one after the other, and texts.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use wiretape_agent_ebpf::layout as place;

/// Where the kernel shows it.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

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

/// Reads the places of all that is in `wiretape_agent_ebpf::layout`.
///
/// # Errors
/// When it is not BTF, or lacks something that the programs need.
pub fn read(btf: &[u8]) -> Result<[u32; place::FIELDS]> {
    let types = Types::parse(btf).context("the kernel's description of its types cannot be read")?;
    let mut places = [0; place::FIELDS];
    for (at, structure, field) in [
        (place::TASK_TGID, "task_struct", "tgid"),
        (place::TASK_LEADER, "task_struct", "group_leader"),
        (place::TASK_SIGNAL, "task_struct", "signal"),
        (place::TASK_EXIT_CODE, "task_struct", "exit_code"),
        (place::TASK_COMM, "task_struct", "comm"),
        (place::TASK_CGROUPS, "task_struct", "cgroups"),
        (place::SET_CGROUP, "css_set", "dfl_cgrp"),
        (place::SIGNAL_LIVE, "signal_struct", "live"),
        (place::SIGNAL_FLAGS, "signal_struct", "flags"),
        (place::SIGNAL_EXIT_CODE, "signal_struct", "group_exit_code"),
        (place::CGROUP_NODE, "cgroup", "kn"),
        (place::CGROUP_LEVEL, "cgroup", "level"),
        (place::CGROUP_ROOT, "cgroup", "root"),
        (place::ROOT_HIERARCHY, "cgroup_root", "hierarchy_id"),
        (place::NODE_ID, "kernfs_node", "id"),
        (place::SOCK_CGROUP, "sock", "sk_cgrp_data"),
        (place::SOCK_ERROR, "sock", "sk_err"),
        (place::SOCK_PROTOCOL, "sock", "sk_protocol"),
        (place::SOCK_FAMILY, "sock_common", "skc_family"),
        (place::SOCK_LOCAL_PORT, "inet_sock", "inet_sport"),
        (place::SOCK_REMOTE_PORT, "sock_common", "skc_dport"),
        (place::SOCK_LOCAL, "sock_common", "skc_rcv_saddr"),
        (place::SOCK_REMOTE, "sock_common", "skc_daddr"),
    ] {
        let found = types.offset(structure, field);
        set(
            &mut places,
            at,
            found.with_context(|| format!("this kernel has no {structure}.{field}"))?,
        );
    }
    let (ancestors, are_ids) = match types.offset("cgroup", "ancestors") {
        Some(pointers) => (pointers, 0),
        // Before Linux 6.1.
        None => (
            types
                .offset("cgroup", "ancestor_ids")
                .context("this kernel's cgroups do not know those above them")?,
            1,
        ),
    };
    set(&mut places, place::CGROUP_ANCESTORS, ancestors);
    set(&mut places, place::ANCESTORS_ARE_IDS, are_ids);
    // Without IPv6 they are not there.
    for (at, field) in [
        (place::SOCK_LOCAL_6, "skc_v6_rcv_saddr"),
        (place::SOCK_REMOTE_6, "skc_v6_daddr"),
    ] {
        set(&mut places, at, types.offset("sock_common", field).unwrap_or(0));
    }
    Ok(places)
}

/// The values of an enumeration, by their names; none if the kernel does not have it.
///
/// # Errors
/// When it is not BTF.
pub fn values(btf: &[u8], enumeration: &str) -> Result<Vec<(String, u32)>> {
    Ok(Types::parse(btf)?.values(enumeration))
}

/// Where fields are in their structures, by their bytes; the first that the kernel lacks is the error.
///
/// # Errors
/// When it is not BTF, too.
pub fn offsets<const N: usize>(btf: &[u8], fields: [(&str, &str); N]) -> Result<[u32; N]> {
    let types = Types::parse(btf)?;
    let mut found = [0; N];
    for (place, (structure, field)) in found.iter_mut().zip(fields) {
        *place = types
            .offset(structure, field)
            .with_context(|| format!("this kernel has no {structure}.{field}"))?;
    }
    Ok(found)
}

/// Where a field is in a structure; by how many bytes, if the kernel has it.
///
/// # Errors
/// When it is not BTF.
pub fn offset(btf: &[u8], structure: &str, field: &str) -> Result<Option<u32>> {
    Ok(Types::parse(btf)?.offset(structure, field))
}

fn set(places: &mut [u32], at: usize, value: u32) {
    if let Some(place) = places.get_mut(at) {
        *place = value;
    }
}

/// The types, by their number and by name.
struct Types<'a> {
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
    fn parse(btf: &'a [u8]) -> Result<Self> {
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

    /// The offset of a field, in bytes, also of one in a nameless structure within.
    fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let number = self.structures.get(structure.as_bytes())?;
        Some(self.bits(*number, field.as_bytes(), 0)? / 8)
    }

    /// Looked for among all, as it is asked for once.
    fn values(&self, enumeration: &str) -> Vec<(String, u32)> {
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
        let values = values(&btf, "int").expect("is read");
        assert_eq!(values, [("a".to_owned(), 4), ("b".to_owned(), 9)]);
        assert!(super::values(&btf, "outer").expect("is read").is_empty());
        let places = offsets(&btf, [("outer", "c"), ("outer", "a")]).expect("are there");
        assert_eq!(places, [8, 0]);
        assert!(offsets(&btf, [("outer", "d")]).is_err());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let btf = small();
        for length in 0..btf.len() {
            assert!(Types::parse(&btf[..length]).is_err(), "{length} bytes");
        }
        assert!(read(&btf).is_err());
    }
}
