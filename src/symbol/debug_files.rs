//! Separate debug files: where a distribution, `objcopy --only-keep-debug`, dwz or `-gsplit-dwarf` puts what was stripped.
//!
//! The places are GDB's (manual, "Separate Debug Files"). Each is looked up below the root of a process that mapped the
//! image first (a container's own files) and on the host after. A file is believed only if its build ID is the image's,
//! or its CRC the one of `.gnu_debuglink`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Crc;
use object::Object;

use crate::ids::BuildId;
use crate::process::Image;
use crate::sys;

/// Looks for the debug files of images.
pub(super) struct Finder<'a> {
    /// As `/usr/lib/debug`.
    pub(super) directories: &'a [PathBuf],
    /// The root directory of a process that mapped the image, if it is known.
    pub(super) root: Option<&'a File>,
}

impl Finder<'_> {
    /// The file with the symbols that were stripped from an image.
    pub(super) fn debug_file(&self, image: &Image) -> Option<Arc<Image>> {
        self.by_build_id(image, image.build_id()).or_else(|| self.by_debug_link(image))
    }

    /// The supplementary file that dwz moved a file's common parts to (`.gnu_debugaltlink`).
    pub(super) fn alternate_file(&self, debug: &Image) -> Option<Arc<Image>> {
        let (path, id) = debug.elf().gnu_debugaltlink().ok().flatten()?;
        let id = BuildId::new(id)?;
        let path = directory_of(debug).join(OsStr::from_bytes(path));
        let named = self.open(debug, &path, |file| file.build_id() == Some(&id));
        named.or_else(|| self.by_build_id(debug, Some(&id)))
    }

    /// The package of an image's split units (`dwp`).
    pub(super) fn package(&self, image: &Image) -> Option<Arc<Image>> {
        let mut path = PathBuf::from(image.name()).into_os_string();
        path.push(".dwp");
        self.open(image, Path::new(&path), |_| true)
    }

    /// The object of one split unit; its reader compares the unit's id.
    pub(super) fn split_object(&self, image: &Image, directory: &[u8], name: &[u8]) -> Option<Arc<Image>> {
        let name = Path::new(OsStr::from_bytes(name));
        let written = Path::new(OsStr::from_bytes(directory)).join(name);
        let beside = directory_of(image).join(name.file_name()?);
        [written, beside].iter().find_map(|path| self.open(image, path, |_| true))
    }

    fn by_build_id(&self, image: &Image, id: Option<&BuildId>) -> Option<Arc<Image>> {
        let id = id?;
        let digits = id.to_string();
        let (first, rest) = digits.split_at_checked(2)?;
        let name = format!(".build-id/{first}/{rest}.debug");
        self.directories
            .iter()
            .find_map(|directory| self.open(image, &directory.join(&name), |file| file.build_id() == Some(id)))
    }

    fn by_debug_link(&self, image: &Image) -> Option<Arc<Image>> {
        let (name, crc) = image.elf().gnu_debuglink().ok().flatten()?;
        let name = Path::new(OsStr::from_bytes(name));
        // A name, never a path that leads elsewhere.
        let name = Path::new(name.file_name().filter(|&file| file == name.as_os_str())?);
        let home = directory_of(image);
        let below = |directory: &PathBuf| directory.join(home.strip_prefix("/").unwrap_or(&home)).join(name);
        let beside = [home.join(name), home.join(".debug").join(name)];
        let believed = |file: &Image| {
            let mut found = Crc::new();
            found.update(file.bytes());
            file.release_pages();
            found.sum() == crc
        };
        beside.into_iter().chain(self.directories.iter().map(below)).find_map(|path| self.open(image, &path, believed))
    }

    /// Opens the first ELF file of this path that is believed, below the root and on the host.
    fn open(&self, image: &Image, path: &Path, believed: impl Fn(&Image) -> bool) -> Option<Arc<Image>> {
        if !path.is_absolute() {
            return None;
        }
        let name = path.to_string_lossy();
        self.root.map(Some).into_iter().chain([None]).find_map(|root| {
            let file = sys::open_regular(root, path, true).ok()?;
            Image::from_file(image.id(), &name, &file).ok().filter(|file| believed(file))
        })
    }
}

fn directory_of(image: &Image) -> PathBuf {
    Path::new(image.name()).parent().map(Path::to_path_buf).unwrap_or_default()
}
