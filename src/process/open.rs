//! Opening the file behind a mapping: by whichever way leads to the very file that was mapped.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use rustc_hash::FxHashMap;

use super::image::{Image, ImageError};
use crate::capture;
use crate::ids::{Address, BuildId, ImageId, Pid};
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
    /// Where to look instead, if the process was recorded earlier or elsewhere.
    pub archive: Option<Arc<Archive>>,
}

/// Where the files of a recording are found: by build ID or path, never by way of a process of this machine.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// A folder that stands for the root of the machine that was recorded.
    pub symfs: Option<PathBuf>,
    /// Folders of files by build ID, as `~/.debug` of perf.
    pub caches: Vec<PathBuf>,
    /// Folders of debug files, as `/usr/lib/debug`.
    pub debug_directories: Vec<PathBuf>,
    /// The build IDs that the recording tells of its files.
    pub build_ids: FxHashMap<String, BuildId>,
    /// When the recording was written: a file without a build ID that is younger is another one.
    pub written: Option<SystemTime>,
    /// Whether it was recorded under the kernel that runs here, so that its vDSO is ours.
    pub own_kernel: bool,
}

impl Archive {
    /// What tells a file from others at the same path: its build ID where it is known, for an inode means nothing elsewhere.
    pub(super) fn identity(&self, name: &str, recorded: &Identity) -> Identity {
        match (recorded, self.build_ids.get(name)) {
            (Identity::BuildId(_), _) | (_, None) => recorded.clone(),
            (_, Some(id)) => Identity::BuildId(id.clone()),
        }
    }

    /// The files that may be the one, best first.
    fn candidates(&self, name: &str, build_id: Option<&BuildId>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let path = Path::new(name);
        let below = |root: &PathBuf| Some(root.join(path.strip_prefix("/").ok()?));
        paths.extend(self.symfs.as_ref().and_then(below));
        let digits = build_id.map(ToString::to_string).unwrap_or_default();
        let split = digits.split_at_checked(2).filter(|_| !digits.is_empty());
        if let Some((first, rest)) = split {
            for cache in &self.caches {
                let entry = cache.join(".build-id").join(first).join(rest);
                // A folder of `elf` (or `vdso`) and perhaps `debug`; of old perfs the file itself.
                paths.extend([entry.join("elf"), entry.join("vdso"), entry]);
            }
        }
        if path.is_absolute() && self.symfs.is_none() {
            paths.push(path.to_path_buf());
        }
        if let Some((first, rest)) = split {
            let folders = self.debug_directories.iter();
            paths.extend(folders.map(|folder| folder.join(".build-id").join(first).join(format!("{rest}.debug"))));
        }
        paths
    }
}

impl OpenRequest {
    /// Opens and parses the file.
    ///
    /// The ways, in turn: the mapping itself (`/proc/PID/map_files`: also deleted files; needs `CAP_CHECKPOINT_RESTORE` or
    /// `CAP_SYS_ADMIN`), the path below the process's root directory (also when the process has ended), and the path where we
    /// stand. A file is taken only if its build ID or inode is the one that was mapped.
    ///
    /// # Errors
    /// [`ImageError`]: why the last way failed, or the first that would have taken a privilege.
    pub fn open(&self) -> Result<Arc<Image>, ImageError> {
        if let Some(archive) = &self.archive {
            return self.open_archived(archive);
        }
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
                // Of all that went wrong, the want of a privilege is what can be mended.
                Err(error) if !last.is_denied() => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// The vDSO of this kernel is the recorded one if that was recorded here.
    fn open_archived(&self, archive: &Archive) -> Result<Arc<Image>, ImageError> {
        let build_id = if let Identity::BuildId(id) = &self.identity { Some(id) } else { None };
        let mut last = self.failed(io::ErrorKind::NotFound.into());
        for path in archive.candidates(&self.name, build_id) {
            let file = sys::open_regular(None, &path, true).map_err(|source| self.failed(source));
            match file.and_then(|file| self.check_archived(&file, archive)) {
                Ok(image) => return Ok(image),
                Err(error) => last = error,
            }
        }
        match sys::vdso().filter(|_| &*self.name == VDSO && archive.own_kernel) {
            Some(bytes) => Image::from_bytes(self.id, VDSO, bytes),
            None => Err(last),
        }
    }

    fn check_archived(&self, file: &File, archive: &Archive) -> Result<Arc<Image>, ImageError> {
        let replaced = || ImageError::Replaced { name: self.name.to_string() };
        let image = Image::from_file(self.id, &self.name, file)?;
        match &self.identity {
            Identity::BuildId(build_id) if image.build_id() != Some(build_id) => Err(replaced()),
            Identity::BuildId(_) => Ok(image),
            _ => {
                let changed = file.metadata().and_then(|meta| meta.modified()).ok();
                let younger = changed.zip(archive.written).is_some_and(|(changed, written)| changed > written);
                if younger { Err(replaced()) } else { Ok(image) }
            }
        }
    }

    fn failed(&self, source: io::Error) -> ImageError {
        ImageError::Open { name: self.name.to_string(), source }
    }

    fn by_mapping(&self) -> io::Result<File> {
        let (start, end) = self.range;
        let path = format!("/proc/{}/map_files/{start:x}-{end:x}", capture::teller(self.pid).0);
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

/// The root directories of processes, held open to find files of their mount namespaces even after they have ended. Those of
/// one container have the same, so that few descriptors do for thousands of processes.
#[derive(Default)]
pub(super) struct Roots(FxHashMap<RootKey, Weak<File>>);

/// A directory and the mount namespace that it is seen in: the same directory may have other mounts below it elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct RootKey {
    device: u64,
    inode: u64,
    namespace: u64,
}

impl Roots {
    /// A process's root directory (`O_PATH`).
    ///
    /// # Errors
    /// If it has ended, or may not be looked into (`CAP_SYS_PTRACE`).
    pub(super) fn open(&mut self, pid: Pid) -> io::Result<Arc<File>> {
        let Pid(teller) = capture::teller(pid);
        let path = format!("/proc/{teller}/root");
        let root = fs::metadata(&path)?;
        let namespace = fs::metadata(format!("/proc/{teller}/ns/mnt"))?.ino();
        let key = RootKey { device: root.dev(), inode: root.ino(), namespace };
        if let Some(open) = self.0.get(&key).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let file = Arc::new(File::options().read(true).custom_flags(flags.bits()).open(path)?);
        self.0.retain(|_, open| open.strong_count() > 0);
        self.0.insert(key, Arc::downgrade(&file));
        Ok(file)
    }
}
