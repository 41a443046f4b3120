//! What /proc tells of a process's mappings, as records would.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use procfs::process::{MMPermissions, MMapPath, MemoryMap};

use super::open;
use crate::capture;
use crate::ids::{Address, Pid};
use crate::record::{Identity, MapRecord};

/// A mapping of /proc as the record of it would be.
pub(super) fn map_record<'a>(pid: Pid, map: &MemoryMap, name: &'a str) -> MapRecord<'a> {
    MapRecord {
        pid,
        start: Address(map.address.0),
        size: map.address.1 - map.address.0,
        offset: map.offset,
        identity: map_identity(map),
        name: OsStr::new(name),
    }
}

/// What a process has mapped to execute; nothing if it has ended or may not be looked into.
pub(super) fn executable_maps(pid: Pid) -> Vec<MemoryMap> {
    let mut maps = maps(pid);
    maps.retain(is_executable);
    maps
}

/// What a process has mapped; nothing if it has ended or may not be looked into.
pub(super) fn maps(pid: Pid) -> Vec<MemoryMap> {
    let maps = procfs::process::Process::new(capture::teller(pid).0).and_then(|process| process.maps());
    maps.map_or_else(|_| Vec::new(), |maps| maps.into_iter().collect())
}

pub(super) fn is_executable(map: &MemoryMap) -> bool {
    map.perms.contains(MMPermissions::EXECUTE)
}

pub(super) fn map_name(path: &MMapPath) -> String {
    match path {
        MMapPath::Path(path) => path.to_string_lossy().into_owned(),
        MMapPath::Vdso => open::VDSO.into(),
        _ => "//anon".into(),
    }
}

fn map_identity(map: &MemoryMap) -> Identity {
    if map.inode == 0 {
        return Identity::Unknown;
    }
    Identity::Inode { major: map.dev.0 as u32, minor: map.dev.1 as u32, inode: map.inode }
}

/// The name of the file that a process executes; `None` of kernel threads, of a process that has ended, and where we may not ask.
pub(super) fn executable_of(pid: Pid) -> Option<Arc<str>> {
    let path = fs::read_link(format!("/proc/{}/exe", capture::teller(pid).0)).ok()?;
    file_name(&path.to_string_lossy())
}

/// The last part of a path as the kernel shows it, where a file that was removed has ` (deleted)` behind its name. Programs that copy
/// themselves into memory before they execute (container runtimes do) have no name there.
pub(super) fn file_name(path: &str) -> Option<Arc<str>> {
    if path.starts_with("/memfd:") {
        return None;
    }
    let name = path.strip_suffix(" (deleted)").unwrap_or(path).rsplit('/').next()?;
    (!name.is_empty()).then(|| name.into())
}

pub(super) fn comm_of(path: &str) -> Option<Arc<str>> {
    fs::read_to_string(path).ok().map(|comm| comm.trim_end().into())
}
