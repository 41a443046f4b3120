//! A process that runs already, told by the records that the kernel would have written of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::maps::{comm_of, is_executable, map_name, map_record, maps};
use crate::capture;
use crate::ids::{Pid, Tid};
use crate::record::{MapRecord, TaskRecord};

/// Something that is so in a process.
#[derive(Debug)]
pub enum Present<'a> {
    /// It has this thread of this name.
    Thread(TaskRecord, &'a OsStr),
    /// It lives in these namespaces: device and inode of each, in the order of `PERF_NR_NAMESPACES`.
    Namespaces(&'a [(u64, u64)]),
    /// It has mapped this to execute.
    Map(MapRecord<'a>),
    /// It has mapped this file, but not to execute.
    DataMap(MapRecord<'a>),
}

/// What is told of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// No mappings: its program is about to change.
    Threads,
    /// What is mapped to execute.
    Code,
    /// All files that are mapped.
    Files,
}

/// The links of `/proc/PID/ns`, in the order of `enum` `NET_NS_INDEX` … of the kernel's `include/uapi/linux/perf_event.h`.
const NAMESPACES: [&str; 7] = ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup"];

/// Tells what a process is; nothing of one that has ended, and no more than its threads of one that may not be looked into.
pub fn describe(pid: Pid, extent: Extent, visit: &mut dyn FnMut(Present<'_>)) {
    let parent = procfs::process::Process::new(pid.0).and_then(|process| process.stat());
    let Ok(parent) = parent.map(|stat| Pid(stat.ppid)) else { return };
    for tid in capture::threads(pid) {
        let Some(comm) = comm_of(&format!("/proc/{}/task/{}/comm", pid.0, tid.0)) else { continue };
        let first = tid.0 == pid.0;
        let (parent, parent_tid) = if first { (parent, Tid(parent.0)) } else { (pid, Tid(pid.0)) };
        visit(Present::Thread(TaskRecord { pid, tid, parent, parent_tid }, OsStr::new(&*comm)));
    }
    let teller = capture::teller(pid);
    let namespaces = NAMESPACES.map(|name| namespace(teller, name));
    if namespaces.iter().any(|&(_, inode)| inode > 0) {
        visit(Present::Namespaces(&namespaces));
    }
    let maps = if extent == Extent::Threads { Vec::new() } else { maps(pid) };
    for map in maps {
        let name = map_name(&map.pathname);
        if is_executable(&map) {
            visit(Present::Map(map_record(pid, &map, &name)));
        } else if extent == Extent::Files && name.starts_with('/') && !name.starts_with("//") {
            visit(Present::DataMap(map_record(pid, &map, &name)));
        }
    }
}

fn namespace(pid: Pid, name: &str) -> (u64, u64) {
    let link = Path::new("/proc").join(pid.0.to_string()).join("ns").join(name);
    fs::metadata(link).map_or((0, 0), |file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_present_ourselves() {
        let pid = Pid(std::process::id() as i32);
        let (mut threads, mut maps, mut namespaces) = (Vec::new(), Vec::new(), 0);
        describe(pid, Extent::Code, &mut |present| match present {
            Present::Thread(task, comm) => threads.push((task, comm.to_owned())),
            Present::Namespaces(links) => namespaces = links.len(),
            Present::DataMap(_) => unreachable!("only code was asked for"),
            Present::Map(map) => maps.push(map.name.to_string_lossy().into_owned()),
        });
        let first = threads.iter().find(|(task, _)| task.tid.0 == pid.0).unwrap();
        assert!(first.0.parent != pid && !first.1.is_empty());
        assert!(threads.iter().filter(|(task, _)| task.tid.0 != pid.0).all(|(task, _)| task.parent == pid));
        let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        assert!(maps.contains(&program), "{maps:?}");
        assert_eq!(namespaces, NAMESPACES.len());
    }
}
