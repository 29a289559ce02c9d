//! What a name means: a field, a map's entry, a macro, or the latency in milliseconds.

use crate::fields::{FIELDS, Field, FieldInfo, Kind};

/// Names for [`Field::ElapsedTime`] in milliseconds, with fractions. The field itself counts microseconds.
pub const LATENCY_IN_MS: &[&str] = &["response.latency", "latency_ms", "elapsedTime", "latency"];

/// A name that stands for a longer filter.
#[derive(Debug)]
pub struct Macro {
    /// What is written.
    pub name: &'static str,
    /// The filter that it stands for.
    pub filter: &'static str,
    /// One sentence about it.
    pub doc: &'static str,
}

/// All macros.
pub static MACROS: &[Macro] = &[
    Macro {
        name: "error",
        filter: r#"outcome in ["client_error", "server_error", "timeout", "no_response"]"#,
        doc: "The call failed, whatever its protocol calls that.",
    },
    Macro {
        name: "http2",
        filter: r#"http && http_version.startsWith("HTTP/2")"#,
        doc: "HTTP/2 and what is carried in it.",
    },
    Macro {
        name: "https",
        filter: "tls && http",
        doc: "HTTP that was encrypted on the wire.",
    },
];

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    Field(Field),
    /// `request.query.page`: an entry of a map, in dots.
    Entry(Field, String),
    /// [`Field::ElapsedTime`] in milliseconds.
    Latency,
    /// The text of a [`Macro`].
    Macro(&'static str),
}

/// Looks a name up.
pub(crate) fn look_up(name: &str) -> Option<Meaning> {
    if let Some(field) = field(name) {
        return Some(Meaning::Field(field));
    }
    if LATENCY_IN_MS.contains(&name) {
        return Some(Meaning::Latency);
    }
    if let Some(found) = MACROS.iter().find(|found| found.name == name) {
        return Some(Meaning::Macro(found.filter));
    }
    name.match_indices('.').find_map(|(dot, _)| {
        let map = field(name.get(..dot)?).filter(|map| map.kind() == Kind::Map)?;
        Some(Meaning::Entry(map, name.get(dot + 1..)?.to_owned()))
    })
}

/// Every name that [`look_up`] knows, but for entries of maps.
pub(crate) fn known() -> impl Iterator<Item = &'static str> + Clone {
    let fields = FIELDS
        .iter()
        .flat_map(|info| [info.name].into_iter().chain(info.aliases.iter().copied()));
    fields
        .chain(LATENCY_IN_MS.iter().copied())
        .chain(MACROS.iter().map(|found| found.name))
}

/// The fields one step below a name: for `src`, those of `src.ip`, `src.port` ..
pub(crate) fn directly_below(name: &str) -> Vec<Field> {
    let below = |known: &&str| {
        let rest = known.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| !rest.contains('.'))
    };
    let names = |info: &FieldInfo| [info.name].into_iter().chain(info.aliases.iter().copied());
    let found = FIELDS.iter().filter(|info| names(info).any(|name| below(&name)));
    found.map(|info| info.field).collect()
}

fn field(name: &str) -> Option<Field> {
    let info = FIELDS
        .iter()
        .find(|info| info.name == name || info.aliases.contains(&name))?;
    Some(info.field)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_means_one_thing() {
        let mut seen = HashSet::new();
        for name in known() {
            assert!(seen.insert(name), "{name} is in the list twice");
            assert!(look_up(name).is_some(), "{name}");
        }
    }

    #[test]
    fn fields_below_a_name() {
        let fields = directly_below("node");
        assert_eq!(fields, [Field::NodeName, Field::NodeIp]);
        assert!(directly_below("src").contains(&Field::SrcPodName), "by its alias");
        assert!(!directly_below("src").contains(&Field::SrcPodNamespace));
        assert_eq!(directly_below("path"), []);
    }

    #[test]
    fn entry_of_a_map_in_dots() {
        let entry = |map, key: &str| Some(Meaning::Entry(map, key.to_owned()));
        assert_eq!(look_up("request.query.a"), entry(Field::QueryString, "a"));
        assert_eq!(
            look_up("request.headers.x.y"),
            entry(Field::RequestHeaders, "x.y")
        );
        assert_eq!(look_up("node.name"), Some(Meaning::Field(Field::NodeName)));
        assert_eq!(look_up("path.x"), None);
    }
}
