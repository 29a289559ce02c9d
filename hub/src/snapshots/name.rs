//! Names that users give and that become folders: of snapshots, dissections, nodes and segments.

/// Longest name. File systems take 255 bytes; the rest is room for our own prefixes and endings.
pub const MAX_NAME: usize = 128;

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` cannot be a name: a name has 1 to {MAX_NAME} characters out of A-Z a-z 0-9 . _ - and begins with a \
     letter, a digit or _"
)]
pub struct BadName {
    shown: String,
}

/// Checks a name. What passes is safe as one component of a path and in a header.
pub fn check(name: &str) -> Result<(), BadName> {
    let good = (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if good {
        return Ok(());
    }
    // Shown short and without control characters: it goes into an answer and into the log.
    let shown = name.chars().take(40).flat_map(char::escape_debug).collect();
    Err(BadName { shown })
}

/// A folder's name for a node, whose own name may hold anything; `taken` tells those that are in use.
pub fn folder(node: &str, taken: impl Fn(&str) -> bool) -> String {
    // Room for the ordinal that tells two nodes of the same name apart.
    let mut base: String = node
        .chars()
        .take(MAX_NAME - 8)
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if check(&base).is_err() {
        base.insert(0, '_');
    }
    let mut name = base.clone();
    let mut ordinal = 2;
    while taken(&name) {
        name = format!("{base}-{ordinal}");
        ordinal += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_tricks_are_no_names() {
        for name in ["a", "incident-001", "_x", "A.b_c-9", &"x".repeat(MAX_NAME)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in [
            "", ".", "..", "../etc", "a/b", "a\\b", ".hidden", "-rf", "a b", "a\0b", "é", "a%2fb", "a\nb",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check(&"x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn any_node_gets_a_folder_of_its_own() {
        assert_eq!(folder("node-1", |_| false), "node-1");
        assert_eq!(folder("../../etc", |_| false), "_.._.._etc");
        assert_eq!(folder("", |_| false), "_");
        assert_eq!(
            folder("node-1", |name| name == "node-1" || name == "node-1-2"),
            "node-1-3"
        );
        assert_eq!(check(&folder(&"é".repeat(500), |_| false)), Ok(()));
    }
}
