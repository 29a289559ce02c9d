//! Workloads from a YAML file: which cgroup, address or process is which pod.
//!
//! ```yaml
//! # A path below the recorded sub-tree; * within one level, ** over several.
//! - match: { cgroup: "frontend*" }
//!   pod: frontend-abc123
//!   namespace: shop
//!   service: frontend
//!   labels: { app: frontend }
//!   addresses: [10.77.1.10]
//! - match: { address: 10.77.9.1 }
//!   service: gateway
//! - match: { process: nginx }
//!   service: edge
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use wiretape_tape::Name;

use super::cgroups::Found;

/// Longest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Names from the file, if there is one.
#[derive(Debug)]
pub struct Workloads {
    file: Option<PathBuf>,
    workloads: Vec<Workload>,
}

/// One entry of the file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Workload {
    r#match: Match,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// What an entry is for: one of these.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Match {
    cgroup: Option<String>,
    address: Option<IpAddr>,
    process: Option<String>,
}

impl Workloads {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that cannot be.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let mut workloads = Self {
            file: file.map(Path::to_owned),
            workloads: Vec::new(),
        };
        workloads.reload()?;
        Ok(workloads)
    }

    /// What the file calls a cgroup.
    pub fn name(&self, found: &Found) -> Option<Name> {
        self.workloads
            .iter()
            .find(|workload| workload.r#match.holds_for(found))
            .map(Workload::name)
    }

    /// What it calls addresses.
    pub fn addresses(&self) -> Vec<Name> {
        self.workloads
            .iter()
            .map(Workload::name)
            .filter(|name| !name.addresses.is_empty())
            .collect()
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As when it is opened; then what was known before stands.
    pub fn reload(&mut self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let read = || -> Result<Vec<Workload>> {
            let bytes = fs::metadata(path)?.len();
            if bytes > MAX_FILE_BYTES {
                bail!("{bytes} bytes are more than the {MAX_FILE_BYTES} that are read");
            }
            parse(&fs::read_to_string(path)?)
        };
        self.workloads = read().with_context(|| format!("workloads file {}", path.display()))?;
        Ok(())
    }
}

impl Workload {
    /// The name it gives, without cgroup and process.
    fn name(&self) -> Name {
        let mut addresses = self.addresses.clone();
        addresses.extend(
            self.r#match
                .address
                .filter(|address| !self.addresses.contains(address)),
        );
        Name {
            addresses,
            pod: self.pod.clone(),
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            labels: self.labels.clone(),
            ..Name::default()
        }
    }
}

impl Match {
    fn holds_for(&self, found: &Found) -> bool {
        match (&self.cgroup, &self.process) {
            (Some(pattern), _) => above(&found.path).any(|path| matches(pattern, path)),
            (None, Some(process)) => *process == found.process,
            (None, None) => false,
        }
    }
}

/// A path and all above it, without the empty one: what a container makes below its cgroup is still the
/// container's.
pub(crate) fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// Whether a pattern with `*` (anything within one level) and `**` (anything) fits the path.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.as_bytes(), path.as_bytes());
    // Where to go on when what follows the last star of either sort does not fit: one byte of the path
    // further.
    let mut shallow: Option<(&[u8], &[u8])> = None;
    let mut deep: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, path) {
            ([b'*', b'*', rest @ ..], _) => (pattern, shallow, deep) = (rest, None, Some((rest, path))),
            ([b'*', rest @ ..], _) => (pattern, shallow) = (rest, Some((rest, path))),
            ([p, pattern_rest @ ..], [c, path_rest @ ..]) if p == c => {
                (pattern, path) = (pattern_rest, path_rest)
            }
            ([], []) => return true,
            _ => match (shallow, deep) {
                (Some((rest, [skipped, tail @ ..])), _) if *skipped != b'/' => {
                    (pattern, path, shallow) = (rest, tail, Some((rest, tail)));
                }
                (_, Some((rest, [_, tail @ ..]))) => {
                    (pattern, path, shallow, deep) = (rest, tail, None, Some((rest, tail)));
                }
                _ => return false,
            },
        }
    }
}

fn parse(text: &str) -> Result<Vec<Workload>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let workloads: Vec<Workload> = serde_norway::from_str(text)?;
    let mut addresses = BTreeSet::new();
    for (workload, number) in workloads.iter().zip(1..) {
        check(workload, &mut addresses).with_context(|| format!("entry {number}"))?;
    }
    Ok(workloads)
}

/// What the syntax allows but what makes no sense.
fn check(workload: &Workload, addresses: &mut BTreeSet<IpAddr>) -> Result<()> {
    let Match {
        cgroup,
        address,
        process,
    } = &workload.r#match;
    let criteria = [cgroup.is_some(), address.is_some(), process.is_some()];
    if criteria.iter().filter(|given| **given).count() != 1 {
        bail!("match: give exactly one of cgroup, address and process");
    }
    if cgroup
        .as_ref()
        .or(process.as_ref())
        .is_some_and(|pattern| pattern.is_empty())
    {
        bail!("match: an empty pattern fits nothing, write what the workload is known by");
    }
    if workload.pod.is_empty() && workload.service.is_empty() {
        bail!("neither pod nor service is given, so there is nothing to call the workload by");
    }
    for address in workload.name().addresses {
        if !addresses.insert(address) {
            bail!("the address {address} belongs to an entry before this one too");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "
- match: { cgroup: 'frontend*' }
  pod: frontend-abc123
  namespace: shop
  service: frontend
  labels: { app: frontend }
  addresses: [10.77.1.10]
- match: { address: 10.77.9.1 }
  service: gateway
- match: { process: nginx }
  service: edge
";

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("is refused"))
    }

    #[test]
    fn cgroup_address_and_process_name_workloads() {
        let workloads = parse(SHOP).expect("is read");
        let service = |path: &str, process: &str| {
            let found = Found {
                path: path.to_owned(),
                process: process.to_owned(),
                ..Found::default()
            };
            workloads
                .iter()
                .find(|workload| workload.r#match.holds_for(&found))
                .map(|found| found.service.as_str())
        };
        assert_eq!(service("frontend-1", "shop"), Some("frontend"));
        assert_eq!(service("frontend-1/worker/2", "shop"), Some("frontend"));
        assert_eq!(service("other/frontend-1", "shop"), None);
        assert_eq!(service("other", "nginx"), Some("edge"));
    }

    #[test]
    fn addresses_are_named_before_any_packet() {
        let workloads = Workloads {
            file: None,
            workloads: parse(SHOP).expect("is read"),
        };
        let names = workloads.addresses();
        let addresses: Vec<_> = names
            .iter()
            .map(|name| (name.service.as_str(), name.addresses.len()))
            .collect();
        assert_eq!(addresses, [("frontend", 1), ("gateway", 1)]);
    }

    #[test]
    fn a_star_stays_within_one_level_and_two_do_not() {
        for (pattern, path) in [
            ("a*", "abc"),
            ("*", "abc"),
            ("a/*/c", "a/b/c"),
            ("**c", "a/b/c"),
            ("a**", "a/b"),
            ("*b*d", "abcd"),
            ("a", "a"),
            ("**/x*z", "a/xy/b/xyz"),
        ] {
            assert!(matches(pattern, path), "{pattern} does not fit {path}");
        }
        for (pattern, path) in [
            ("a*", "a/b"),
            ("*", "a/b"),
            ("a/*/c", "a/b/b/c"),
            ("a", "ab"),
            ("ab", "a"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} fits {path}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let message = error("- match: { process: nginx }\n  servise: edge\n");
        assert!(
            message.contains("servise") && message.contains("line 2"),
            "{message}"
        );
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused_with_its_number() {
        let second = |entry: &str| error(&format!("- match: {{ address: 10.0.0.1 }}\n  pod: a\n{entry}"));
        for entry in [
            "- match: {}\n  pod: b",
            "- match: { cgroup: a, process: b }\n  pod: b",
            "- match: { process: nginx }",
            "- match: { address: 10.0.0.1 }\n  pod: b",
            "- match: { cgroup: '' }\n  pod: b",
        ] {
            assert!(second(entry).starts_with("entry 2: "), "{}", second(entry));
        }
        assert!(
            second("- match: { address: 10.0.0.256 }\n  pod: b").contains("line 3"),
            "no line"
        );
    }

    #[test]
    fn a_broken_file_leaves_what_was_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("workloads.yaml");
        fs::write(&file, SHOP).expect("written");
        let mut workloads = Workloads::open(Some(&file)).expect("is read");
        fs::write(&file, "- nonsense").expect("written");
        assert!(workloads.reload().is_err());
        assert_eq!(workloads.addresses().len(), 2);
        fs::write(&file, "").expect("written");
        workloads.reload().expect("an empty file names nobody");
        assert_eq!(workloads.addresses(), []);
    }
}
