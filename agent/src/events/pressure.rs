//! Memory that processes wait for, by the kernel's own accounting (PSI): of which cgroup, and how much of the time.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wiretape_tape::{Event, EventKind, Nanos};

/// How often is looked.
pub const PERIOD: Duration = Duration::from_secs(5);

/// The share of the time, in hundredths, from which on it is told. Below, a busy machine reclaims as it should.
const WORTH_TELLING: u64 = 10;

/// Depth to which the sub-tree is searched, and cgroups that are remembered: as for names.
const MAX_DEPTH: usize = 32;
const MAX_CGROUPS: usize = 16 * 1024;

/// The recorded sub-tree's pressure.
#[derive(Debug)]
pub struct Pressure {
    top: PathBuf,
    looked: Option<Nanos>,
    /// What each cgroup had waited by the last look, in microseconds.
    totals: HashMap<u64, u64>,
}

/// One cgroup's.
struct Waited {
    cgroup: u64,
    path: String,
    total: u64,
}

impl Pressure {
    /// Of the sub-tree at `top`.
    pub fn of(top: PathBuf) -> Self {
        Self {
            top,
            looked: None,
            totals: HashMap::new(),
        }
    }

    /// An event for each cgroup whose processes have waited for memory for much of the time since the last look. The cgroups above
    /// it wait with it, and are not told of.
    pub fn look(&mut self, now: Nanos) -> Vec<Event> {
        let passed = self.looked.map(|looked| now.saturating_sub(looked) / 1000);
        self.looked = Some(now);
        let before = std::mem::take(&mut self.totals);
        let mut events = Vec::new();
        let top = self.top.clone();
        self.descend(&top, 0, &before, &mut |waited, microseconds| {
            let share = microseconds * 100 / passed.filter(|passed| *passed > 0)?;
            (share >= WORTH_TELLING).then(|| {
                events.push(event(waited, share, now));
            })
        });
        events
    }

    /// Looks at a cgroup, and first at those below it; whether one of them was told of.
    fn descend(
        &mut self,
        dir: &Path,
        depth: usize,
        before: &HashMap<u64, u64>,
        tell: &mut impl FnMut(&Waited, u64) -> Option<()>,
    ) -> bool {
        let Some(waited) = self.read(dir) else {
            return false;
        };
        if self.totals.len() >= MAX_CGROUPS || depth > MAX_DEPTH {
            return false;
        }
        let last = before.get(&waited.cgroup).copied();
        self.totals.insert(waited.cgroup, waited.total);
        let more = waited.total.saturating_sub(last.unwrap_or(waited.total));
        // Where nobody has waited since, nobody has below; but their totals are needed the next time.
        let mut told = false;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                told |= self.descend(&entry.path(), depth + 1, before, tell);
            }
        }
        told || (more > 0 && tell(&waited, more).is_some())
    }

    fn read(&self, dir: &Path) -> Option<Waited> {
        let text = fs::read_to_string(dir.join("memory.pressure")).ok()?;
        Some(Waited {
            cgroup: fs::metadata(dir).ok()?.ino(),
            path: dir.strip_prefix(&self.top).ok()?.to_string_lossy().into_owned(),
            total: total(&text)?,
        })
    }
}

fn event(waited: &Waited, share: u64, now: Nanos) -> Event {
    let path = if waited.path.is_empty() {
        "the recorded cgroups"
    } else {
        &waited.path
    };
    Event {
        at: now,
        kind: EventKind::MemoryPressure,
        warning: true,
        reason: "MemoryPressure".to_owned(),
        message: format!(
            "some process of {path} waited for memory for {share} % of the last {} s",
            PERIOD.as_secs()
        ),
        cgroup: waited.cgroup,
        ..Event::default()
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`
fn total(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split(' ')
        .find_map(|word| word.strip_prefix("total="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn the_cgroup_that_waited_is_told_of_and_not_those_above() {
        let top = tempfile::tempdir().expect("a folder");
        let (busy, idle) = (top.path().join("pod/busy"), top.path().join("pod/idle"));
        fs::create_dir_all(&busy).expect("folders");
        fs::create_dir_all(&idle).expect("folders");
        let waited = |dir: &Path, total: u64| {
            let text =
                format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=0\n");
            fs::write(dir.join("memory.pressure"), text).expect("written");
        };
        let all = |total| {
            for dir in [top.path(), &top.path().join("pod"), &busy] {
                waited(dir, total);
            }
        };
        waited(&idle, 10);
        all(1_000_000);
        let mut pressure = Pressure::of(top.path().to_owned());
        assert_eq!(pressure.look(S), [], "what was before is not new");
        all(1_400_000);
        assert_eq!(pressure.look(6 * S), [], "8 % is not worth telling");
        all(3_400_000);
        let told = pressure.look(11 * S);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].cgroup, fs::metadata(&busy).expect("is there").ino());
        assert!(
            told[0].message.contains("pod/busy waited for memory for 40 %"),
            "{}",
            told[0].message
        );
    }
}
