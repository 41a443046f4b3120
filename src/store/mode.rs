//! Who may read a directory of windows.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use crate::sys::output::PRIVATE;

/// The rights of the files of a directory; its folders have the right to be entered for whoever may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

impl Default for Mode {
    /// Its owner's alone: windows hold command lines.
    fn default() -> Mode {
        Mode(PRIVATE)
    }
}

impl Mode {
    /// That of a file, as far as it is one that [`Mode::from_str`] accepts.
    pub(super) fn of(permissions: &fs::Permissions) -> Mode {
        Mode(PRIVATE | (permissions.mode() & 0o664))
    }

    /// The rights of a file.
    #[must_use]
    pub fn file(self) -> u32 {
        self.0
    }

    /// The rights of a folder: who may read may also enter.
    #[must_use]
    pub fn folder(self) -> u32 {
        self.0 | (self.0 & 0o444) >> 2
    }

    /// Makes a folder and those above it that are not there, with these rights whatever the umask is. One that is there keeps its own.
    pub(super) fn make_folder(self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            self.make_folder(above)?;
        }
        match fs::DirBuilder::new().mode(self.folder()).create(path) {
            // Made by another writer since, or a file that opening tells of.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(self.folder())),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let mode = u32::from_str_radix(text, 8).ok();
        mode.filter(|mode| mode & !0o664 == 0 && mode & PRIVATE == PRIVATE).map(Mode).ok_or_else(|| {
            format!("{text:?} is no mode of windows: 600 (the owner alone), 640 (the group reads), 644 (everybody reads), 660 (the group writes)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_can_be_entered_by_whoever_may_read() {
        let folder = |text: &str| text.parse::<Mode>().map(Mode::folder);
        assert_eq!(folder("600"), Ok(0o700));
        assert_eq!(folder("0640"), Ok(0o750));
        assert_eq!(folder("644"), Ok(0o755));
        assert_eq!(folder("660"), Ok(0o770));
        for wrong in ["", "rw", "400", "666", "755", "4640", "-600"] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_folders_that_are_made_have_the_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        "640".parse::<Mode>().unwrap().make_folder(&path).unwrap();
        for path in [path.parent().unwrap(), &path] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o750);
        }
    }
}
