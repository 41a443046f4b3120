//! Opening the file behind a mapping: by whichever way leads to the very file that was mapped.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::image::{Image, ImageError};
use crate::ids::{Address, ImageId, Pid};
use crate::record::Identity;
use crate::sys;

/// The name of the code that the kernel lends every process.
pub(super) const VDSO: &str = "[vdso]";

/// A file to open, soon: the process may end, and its files may be deleted.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// The index that the image will have.
    pub id: ImageId,
    /// The path as the process sees it.
    pub name: Arc<str>,
    /// What tells the file from others at the same path.
    pub identity: Identity,
    /// A process that has it mapped.
    pub pid: Pid,
    /// Where.
    pub range: (Address, Address),
    /// That process's root directory.
    pub root: Option<Arc<File>>,
}

impl OpenRequest {
    /// Opens and parses the file.
    ///
    /// The ways, in turn: the mapping itself (`/proc/PID/map_files`: also deleted files; needs `CAP_CHECKPOINT_RESTORE` or
    /// `CAP_SYS_ADMIN`), the path below the process's root directory (also when the process has ended), and the path where we
    /// stand. A file is taken only if its build ID or inode is the one that was mapped.
    ///
    /// # Errors
    /// [`ImageError`]: why the last way failed.
    pub fn open(&self) -> Result<Arc<Image>, ImageError> {
        if &*self.name == VDSO {
            let bytes = sys::vdso().ok_or_else(|| self.failed(io::ErrorKind::NotFound.into()))?;
            return Image::from_bytes(self.id, VDSO, bytes);
        }
        let ways: [fn(&OpenRequest) -> io::Result<File>; 3] =
            [OpenRequest::by_mapping, OpenRequest::by_root, OpenRequest::by_path];
        let mut last = self.failed(io::ErrorKind::NotFound.into());
        for way in ways {
            match way(self).map_err(|source| self.failed(source)).and_then(|file| self.check(&file)) {
                Ok(image) => return Ok(image),
                // A file that is no ELF will be none by another way.
                Err(error @ ImageError::Elf { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn failed(&self, source: io::Error) -> ImageError {
        ImageError::Open { name: self.name.to_string(), source }
    }

    fn by_mapping(&self) -> io::Result<File> {
        let (start, end) = self.range;
        let path = format!("/proc/{}/map_files/{start:x}-{end:x}", self.pid.0);
        sys::open_regular(None, Path::new(&path), true)
    }

    fn by_root(&self) -> io::Result<File> {
        let root = self.root.as_ref().ok_or(io::ErrorKind::NotFound)?;
        sys::open_regular(Some(root), Path::new(&*self.name), true)
    }

    fn by_path(&self) -> io::Result<File> {
        let path = Path::new(&*self.name);
        if path.is_absolute() { sys::open_regular(None, path, true) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Whether it is the file that was mapped. Overlay filesystems show other device numbers in mappings than to `stat`, so the
    /// inode alone decides.
    fn check(&self, file: &File) -> Result<Arc<Image>, ImageError> {
        let meta = file.metadata().map_err(|source| self.failed(source))?;
        let replaced = || ImageError::Replaced { name: self.name.to_string() };
        if matches!(self.identity, Identity::Inode { inode, .. } if inode != meta.ino()) {
            return Err(replaced());
        }
        let image = Image::from_file(self.id, &self.name, file)?;
        match &self.identity {
            Identity::BuildId(build_id) if image.build_id() != Some(build_id) => Err(replaced()),
            _ => Ok(image),
        }
    }
}

/// Opens a process's root directory, to find files of its mount namespace even after it has ended.
pub(super) fn open_root(pid: Pid) -> Option<Arc<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let root = File::options().read(true).custom_flags(flags.bits()).open(format!("/proc/{}/root", pid.0));
    root.ok().map(Arc::new)
}
