//! Folders that live as long as somebody needs them.

use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder, removed with all that is in it when the last who has this lets go.
pub(super) struct Place {
    path: PathBuf,
    /// The place that it lies in, which stays as long as this one.
    _around: Option<Arc<Place>>,
}

impl Place {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, _around: None }
    }

    /// A place in another.
    pub(super) fn within(around: &Arc<Self>, name: &str) -> Self {
        Self {
            path: around.join(name),
            _around: Some(Arc::clone(around)),
        }
    }
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Nothing in it is worth an error: what cannot be removed now is tried again at the next start.
pub(super) fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "live tables cannot be removed");
        }
        _ => {}
    }
}
