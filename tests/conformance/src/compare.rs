//! Two tellings of the same messages, held against each other field by field.

use std::collections::BTreeMap;

/// What one of the two says of a message. A field that it does not define is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Messages of different kinds are never compared: `request`, `response`, …
    pub kind: &'static str,
    /// What is said, by the name of the field.
    pub fields: BTreeMap<String, String>,
}

impl Message {
    /// One of which nothing is said yet.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            fields: BTreeMap::new(),
        }
    }

    /// Says something more.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.fields.insert(name.into(), value.to_string());
        self
    }

    /// Says something more, unless there is nothing to say.
    pub fn with_some(self, name: impl Into<String>, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Says something more, unless it is empty: most oracles leave empty what they do not know.
    pub fn with_known(self, name: impl Into<String>, value: impl ToString) -> Self {
        let value = value.to_string();
        self.with_some(name, Some(value).filter(|value| !value.is_empty()))
    }

    /// Header fields: the values of one name in their order, for it is the only order that means anything.
    pub fn with_headers<'h>(mut self, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self {
        for (name, value) in headers {
            let value = value.trim();
            self.fields
                .entry(format!("header {}", name.to_ascii_lowercase()))
                .and_modify(|all| {
                    all.push_str(" | ");
                    all.push_str(value);
                })
                .or_insert_with(|| value.to_owned());
        }
        self
    }

    /// How many of the other's fields are the same here.
    fn likeness(&self, other: &Self) -> usize {
        let same = |(name, value): &(&String, &String)| self.fields.get(*name) == Some(value);
        other.fields.iter().filter(same).count()
    }

    fn text(&self) -> String {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{} {}", self.kind, fields.join(" "))
    }
}

/// Where the two are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The protocol.
    pub protocol: &'static str,
    /// Who tells otherwise.
    pub oracle: &'static str,
    /// The capture's name.
    pub file: String,
    /// Kind of message and name of the field; `message` when one of the two has no such message at all.
    pub field: String,
    /// What we say; empty when nothing.
    pub ours: String,
    /// What the oracle says; empty when nothing.
    pub theirs: String,
    /// How many fields it stands for: all those of a message that we have not.
    pub fields: usize,
}

/// How much was compared, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Captures.
    pub files: usize,
    /// Messages of the oracle.
    pub messages: usize,
    /// Fields that the oracle defines, and one for each message that only we have.
    pub fields: usize,
    /// Of these, the same with us.
    pub equal: usize,
    /// All others.
    pub differences: Vec<Difference>,
}

impl Tally {
    /// Adds one capture. Messages find each other by likeness: first those that agree in everything, then those
    /// that agree in most.
    pub fn add(
        &mut self,
        protocol: &'static str,
        oracle: &'static str,
        file: &str,
        ours: Vec<Message>,
        theirs: Vec<Message>,
    ) {
        let difference = |fields: usize, field: String, ours: String, theirs: String| Difference {
            protocol,
            oracle,
            file: file.to_owned(),
            field,
            ours,
            theirs,
            fields,
        };
        self.files += 1;
        self.messages += theirs.len();
        let mut ours: Vec<Option<Message>> = ours.into_iter().map(Some).collect();
        let mut left = Vec::new();
        for their in theirs {
            self.fields += their.fields.len();
            let all = |our: &Message| our.kind == their.kind && our.likeness(&their) == their.fields.len();
            match ours.iter_mut().find(|our| our.as_ref().is_some_and(all)) {
                Some(our) => {
                    *our = None;
                    self.equal += their.fields.len();
                }
                None => left.push(their),
            }
        }
        for their in left {
            let alike = ours
                .iter_mut()
                .filter(|our| our.as_ref().is_some_and(|our| our.kind == their.kind))
                .map(|our| (our.as_ref().map_or(0, |our| our.likeness(&their)), our))
                .filter(|(likeness, _)| *likeness > 0)
                // The first of those that are equally like it.
                .reduce(|best, next| if next.0 > best.0 { next } else { best })
                .and_then(|(_, our)| our.take());
            let Some(our) = alike else {
                self.differences.push(difference(
                    their.fields.len(),
                    "message".to_owned(),
                    String::new(),
                    their.text(),
                ));
                continue;
            };
            for (name, value) in &their.fields {
                let said = our.fields.get(name).map(String::as_str).unwrap_or_default();
                if said == value {
                    self.equal += 1;
                } else {
                    let field = format!("{} {name}", their.kind);
                    self.differences
                        .push(difference(1, field, said.to_owned(), value.clone()));
                }
            }
        }
        for our in ours.into_iter().flatten() {
            self.fields += 1;
            self.differences
                .push(difference(1, "message".to_owned(), our.text(), String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(ours: &[Message], theirs: &[Message]) -> Tally {
        let mut tally = Tally::default();
        tally.add("http1", "tshark", "x.pcap", ours.to_vec(), theirs.to_vec());
        tally
    }

    #[test]
    fn fields_that_the_oracle_does_not_define_are_not_compared() {
        let ours = Message::new("request").with("path", "/a").with("host", "x");
        let theirs = Message::new("request").with("path", "/a").with_known("host", "");
        let tally = add(&[ours], &[theirs]);
        assert_eq!((tally.fields, tally.equal), (1, 1));
    }

    #[test]
    fn swapped_answers_are_two_differences() {
        let response = |stream: u32, status: u32| {
            Message::new("response")
                .with("stream", stream)
                .with("status", status)
        };
        let tally = add(
            &[response(1, 200), response(3, 500)],
            &[response(1, 500), response(3, 200)],
        );
        assert_eq!((tally.fields, tally.equal, tally.differences.len()), (4, 2, 2));
    }

    #[test]
    fn message_that_only_one_has_counts_against_us() {
        let message = |kind| Message::new(kind).with("path", "/a").with("method", "GET");
        let tally = add(&[message("request")], &[message("response")]);
        assert_eq!((tally.fields, tally.equal, tally.differences.len()), (3, 0, 2));
    }

    #[test]
    fn whole_agreement_goes_before_likeness() {
        let path = |path: &str, host: &str| Message::new("request").with("path", path).with("host", host);
        let tally = add(
            &[path("/a", "x"), path("/b", "x")],
            &[path("/b", "y"), path("/a", "x")],
        );
        assert_eq!((tally.fields, tally.equal), (4, 3));
    }
}
