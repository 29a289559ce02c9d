//! What an agent is asked to record: said by flags, by a file and through the hub, always in these forms.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Nanos;

/// Most rules. A packet pays for none of them, but somebody has to read them.
pub const MAX_RULES: usize = 256;

/// Longest filter.
pub const MAX_FILTER_BYTES: usize = 4096;

/// The least share of flows: one in so many.
pub const MAX_SAMPLE: u32 = 65_536;

/// What is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// How much of what no rule is for.
    pub capture: Capture,
    /// Only packets that it lets through, in libpcap's language; all when empty.
    pub filter: String,
    /// By workload; the first that matches counts.
    pub rules: Vec<Rule>,
}

/// How much of every packet is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Capture {
    /// All of it.
    #[default]
    Whole,
    /// Its headers, up to where TCP's, UDP's or ICMP's payload begins.
    Headers,
    /// Of each connection so many bytes of payload each way, then headers.
    First(u32),
    /// Whole packets of one flow in so many.
    Sample(u32),
}

/// How much of a workload's packets is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Record {
    /// All of them.
    Whole,
    /// Their headers.
    Headers,
    /// Of each connection so many bytes of payload each way, then headers.
    First(u32),
    /// Nothing.
    None,
}

/// How much of which workload's packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whose packets.
    #[serde(default)]
    pub r#match: Match,
    /// How much of them.
    pub record: Record,
}

/// Which workloads: those for which all holds that is given; every named one when nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The namespace; `*` stands for anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The pod; `*` stands for anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Labels that it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The path of the cgroup below the recorded sub-tree, or of one above it; `*` within one level, `**` over several.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
}

/// What an agent records now, and what is left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What was asked for.
    #[serde(flatten)]
    pub recording: Recording,
    /// Since when that holds.
    #[serde(default)]
    pub since: Nanos,
    /// What is left out beside to keep the budget, for people; empty while nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shedding: String,
    /// Packets that were left out by choice or budget since the agent has started.
    #[serde(default)]
    pub left_out: u64,
    /// Packets of which the end was left out by choice or budget.
    #[serde(default)]
    pub shortened: u64,
}

/// A change: what is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// See [`Recording::capture`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// See [`Recording::filter`]; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// See [`Recording::rules`]; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// What cannot be recorded so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordingError {
    /// No such capture.
    #[error("{0:?} is none of whole, headers, first:BYTES and sample:1/N (N up to {MAX_SAMPLE})")]
    Capture(String),
    /// No such thing to record.
    #[error("{0:?} is none of whole, headers, first:BYTES and none")]
    Record(String),
    /// More rules than are read.
    #[error("{0} rules are more than the {MAX_RULES} that there can be: let one match more")]
    TooManyRules(usize),
    /// A filter that is longer than is read.
    #[error("a filter of {0} bytes is longer than the {MAX_FILTER_BYTES} that are read")]
    LongFilter(usize),
}

impl Recording {
    /// Everything, whole.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// With a change made to it.
    #[must_use]
    pub fn with(&self, change: Change) -> Self {
        Self {
            capture: change.capture.unwrap_or(self.capture),
            filter: change
                .filter
                .map_or_else(|| self.filter.clone(), |text| text.trim().to_owned()),
            rules: change.rules.unwrap_or_else(|| self.rules.clone()),
        }
    }

    /// Refuses what is more than there can be.
    ///
    /// # Errors
    /// Says what.
    pub fn check(&self) -> Result<(), RecordingError> {
        if self.rules.len() > MAX_RULES {
            return Err(RecordingError::TooManyRules(self.rules.len()));
        }
        if self.filter.len() > MAX_FILTER_BYTES {
            return Err(RecordingError::LongFilter(self.filter.len()));
        }
        Ok(())
    }
}

/// In a sentence's part: `first:4096 of what passes "tcp port 80", by 2 rules`.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.capture)?;
        if !self.filter.is_empty() {
            write!(f, " of what passes {:?}", self.filter)?;
        }
        for (rule, number) in self.rules.iter().zip(1..) {
            write!(f, "{} {rule}", if number == 1 { "; but" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Match {
            namespace,
            pod,
            labels,
            cgroup,
        } = &self.r#match;
        write!(f, "{} of", self.record)?;
        let mut any = false;
        for (what, which) in [("namespace", namespace), ("pod", pod), ("cgroup", cgroup)] {
            if !which.is_empty() {
                any = true;
                write!(f, " {what} {which}")?;
            }
        }
        for (label, value) in labels {
            any = true;
            write!(f, " {label}={value}")?;
        }
        if any { Ok(()) } else { write!(f, " all others") }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "whole"),
            Self::Headers => write!(f, "headers"),
            Self::First(bytes) => write!(f, "first:{bytes}"),
            Self::Sample(parts) => write!(f, "sample:1/{parts}"),
        }
    }
}

impl FromStr for Capture {
    type Err = RecordingError;

    fn from_str(text: &str) -> Result<Self, RecordingError> {
        let refused = || RecordingError::Capture(text.to_owned());
        if let Some(parts) = text.strip_prefix("sample:1/") {
            let parts = parts.parse().map_err(|_| refused())?;
            return (1..=MAX_SAMPLE)
                .contains(&parts)
                .then_some(Self::Sample(parts))
                .ok_or_else(refused);
        }
        match text.parse() {
            Ok(Record::Whole) => Ok(Self::Whole),
            Ok(Record::Headers) => Ok(Self::Headers),
            Ok(Record::First(bytes)) => Ok(Self::First(bytes)),
            Ok(Record::None) | Err(_) => Err(refused()),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "whole"),
            Self::Headers => write!(f, "headers"),
            Self::First(bytes) => write!(f, "first:{bytes}"),
            Self::None => write!(f, "none"),
        }
    }
}

impl FromStr for Record {
    type Err = RecordingError;

    fn from_str(text: &str) -> Result<Self, RecordingError> {
        let refused = || RecordingError::Record(text.to_owned());
        match text {
            "whole" => Ok(Self::Whole),
            "headers" => Ok(Self::Headers),
            "none" => Ok(Self::None),
            _ => {
                let size = text.strip_prefix("first:").ok_or_else(refused)?;
                bytes(size).map(Self::First).ok_or_else(refused)
            }
        }
    }
}

/// `4096`, `4KiB`, `1MiB`.
fn bytes(text: &str) -> Option<u32> {
    let (number, shift) = match text {
        _ if text.ends_with("KiB") => (text.strip_suffix("KiB")?, 10),
        _ if text.ends_with("MiB") => (text.strip_suffix("MiB")?, 20),
        _ => (text, 0),
    };
    number.trim_end().parse::<u32>().ok()?.checked_mul(1 << shift)
}

impl TryFrom<String> for Capture {
    type Error = RecordingError;

    fn try_from(text: String) -> Result<Self, RecordingError> {
        text.parse()
    }
}

impl From<Capture> for String {
    fn from(capture: Capture) -> Self {
        capture.to_string()
    }
}

impl TryFrom<String> for Record {
    type Error = RecordingError;

    fn try_from(text: String) -> Result<Self, RecordingError> {
        text.parse()
    }
}

impl From<Record> for String {
    fn from(record: Record) -> Self {
        record.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_read_as_they_are_written() {
        for text in ["whole", "headers", "first:4096", "sample:1/8"] {
            assert_eq!(text.parse::<Capture>().unwrap().to_string(), text);
        }
        assert_eq!("first:4KiB".parse(), Ok(Capture::First(4096)));
        for text in [
            "",
            "none",
            "first",
            "first:",
            "first:-1",
            "first:9999MiB",
            "sample:8",
            "sample:1/0",
            "sample:1/70000",
        ] {
            assert!(text.parse::<Capture>().is_err(), "{text:?} was taken");
        }
        assert_eq!("none".parse(), Ok(Record::None));
        assert!("sample:1/8".parse::<Record>().is_err());
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let payments = Rule {
            r#match: Match {
                namespace: "payments".to_owned(),
                ..Match::default()
            },
            record: Record::None,
        };
        let recording = Recording {
            rules: vec![payments],
            filter: "tcp".to_owned(),
            ..Recording::default()
        };
        let change: Change = serde_json::from_str(r#"{"capture": "headers", "filter": ""}"#).unwrap();
        let changed = recording.with(change);
        assert_eq!(changed.rules, recording.rules);
        assert_eq!(changed.to_string(), "headers; but none of namespace payments");
        assert!(serde_json::from_str::<Change>(r#"{"captures": "headers"}"#).is_err());
    }

    #[test]
    fn more_than_is_read_is_refused() {
        let mut recording = Recording::default();
        assert!(recording.is_everything() && recording.check().is_ok());
        recording.rules = vec![
            Rule {
                r#match: Match::default(),
                record: Record::Headers
            };
            MAX_RULES + 1
        ];
        assert_eq!(
            recording.check(),
            Err(RecordingError::TooManyRules(MAX_RULES + 1))
        );
        recording.rules.clear();
        recording.filter = "x".repeat(MAX_FILTER_BYTES + 1);
        assert!(recording.check().is_err());
    }
}
