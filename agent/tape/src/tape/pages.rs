//! What the kernel keeps of the tape in memory: its newest bytes, for whoever asks for those, and no more.
//!
//! Left to itself it keeps as much as there is room for, in place of what the workload reads from disk. And a page that
//! is new to it costs more than one that it has just had back: on a virtual machine, several times as much.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::SegmentInfo;

/// Bytes that are brought to the disk at once.
const STEP: u64 = 4 << 20;

/// The newest bytes of the tape, which stay.
const KEPT: u64 = 64 << 20;

/// Most files that are looked at; of shorter segments less is kept.
pub(super) const MAX_FILES: usize = 64;

/// How far the tape's pages have been brought to the disk, and let go.
#[derive(Debug, Default)]
pub struct Pages {
    /// Written bytes of the tape when last looked at.
    pub(super) written: u64,
    files: VecDeque<Part>,
}

/// A segment of which there are pages. Its file is opened for each look anew: one that is held open keeps its room on the
/// disk when it is dropped, and on a full disk that is what it was dropped for.
#[derive(Debug)]
struct Part {
    name: String,
    /// On their way to the disk up to here, and let go up to there.
    sent: u64,
    let_go: u64,
}

impl Pages {
    /// Whether enough has been written since to be worth a look.
    pub(super) fn is_due(&mut self, written: u64) -> bool {
        let due = written.saturating_sub(self.written) >= STEP;
        if due {
            self.written = written;
        }
        due
    }

    /// Goes on, when these are the newest segments, oldest first.
    pub(super) fn settle(&mut self, dir: &Path, newest: &[SegmentInfo]) {
        for segment in newest {
            if self.files.back().is_none_or(|last| last.name < segment.name) {
                self.files.push_back(Part {
                    name: segment.name.clone(),
                    sent: 0,
                    let_go: 0,
                });
            }
            if let Some(part) = self.files.iter_mut().rfind(|part| part.name == segment.name)
                && (segment.sealed || segment.bytes.saturating_sub(part.sent) >= STEP)
            {
                advise(dir, part, part.sent, segment.bytes);
                // Someone may have cut it short.
                part.sent = part.sent.max(segment.bytes);
            }
        }
        let mut kept: u64 = self.files.iter().map(|part| part.sent - part.let_go).sum();
        while kept > KEPT || self.files.len() > MAX_FILES {
            let surplus = if self.files.len() > MAX_FILES {
                u64::MAX
            } else {
                kept - KEPT
            };
            let Some(oldest) = self.files.front_mut() else {
                return;
            };
            let to = oldest.sent.min(oldest.let_go.saturating_add(surplus));
            // What is still on its way is passed over, and left to the kernel.
            advise(dir, oldest, oldest.let_go, to);
            kept -= to - oldest.let_go;
            oldest.let_go = to;
            if oldest.let_go == oldest.sent && self.files.len() > 1 {
                self.files.pop_front();
            }
        }
    }
}

/// Has the kernel write pages that are not on the disk yet, and forget those that are. It is advice: where it is not
/// taken, nothing is lost. A file that is gone has no pages.
fn advise(dir: &Path, part: &Part, from: u64, to: u64) {
    if from < to
        && let Ok(file) = File::open(dir.join(&part.name))
    {
        let (from, length) = (from.cast_signed(), (to - from).cast_signed());
        let _ = posix_fadvise(&file, from, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(name: &str, bytes: u64, sealed: bool) -> SegmentInfo {
        SegmentInfo {
            name: name.to_owned(),
            bytes,
            sealed,
            ..SegmentInfo::default()
        }
    }

    fn kept(pages: &Pages) -> u64 {
        pages.files.iter().map(|part| part.sent - part.let_go).sum()
    }

    #[test]
    fn the_newest_bytes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = Pages::default();
        let mut segments = Vec::new();
        for number in 0..10 {
            let name = format!("{number:03}.pcapng");
            File::create(dir.path().join(&name)).unwrap();
            segments.push(segment(&name, 0, false));
            for bytes in [STEP / 2, STEP, 5 * STEP + 1, 8 * STEP] {
                *segments.last_mut().unwrap() = segment(&name, bytes, bytes == 8 * STEP);
                pages.settle(dir.path(), &segments);
                assert!(kept(&pages) <= KEPT && pages.files.len() <= 3);
            }
            let last = pages.files.back().unwrap();
            assert_eq!((last.sent, last.let_go), (8 * STEP, 0));
        }
        assert_eq!(kept(&pages), KEPT);
    }

    #[test]
    fn a_segment_that_was_cut_short_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = Pages::default();
        File::create(dir.path().join("1.pcapng")).unwrap();
        for (bytes, sealed) in [(2 * KEPT, false), (STEP, true), (0, true)] {
            pages.settle(dir.path(), &[segment("1.pcapng", bytes, sealed)]);
            assert_eq!(kept(&pages), KEPT);
        }
    }

    #[test]
    fn files_are_few_however_short_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = Pages::default();
        for number in 0..1000 {
            let name = format!("{number:04}.pcapng");
            // Some are gone by then.
            if number % 7 != 0 {
                File::create(dir.path().join(&name)).unwrap();
            }
            pages.settle(dir.path(), &[segment(&name, 4096, true)]);
            assert!(pages.files.len() <= MAX_FILES + 1);
        }
    }

    #[test]
    fn a_dropped_segment_takes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = Pages::default();
        let path = dir.path().join("1.pcapng");
        File::create(&path).unwrap();
        pages.settle(dir.path(), &[segment("1.pcapng", STEP, true)]);
        std::fs::remove_file(&path).unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let held = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        assert!(
            held.into_iter()
                .all(|file| !file.to_string_lossy().starts_with(&*path.to_string_lossy())),
            "a file that is gone is still held"
        );
    }

    #[test]
    fn a_look_is_due_after_some_megabytes() {
        let mut pages = Pages::default();
        assert!(!pages.is_due(STEP - 1));
        assert!(pages.is_due(STEP));
        assert!(!pages.is_due(STEP + 1));
        assert!(pages.is_due(2 * STEP));
    }
}
