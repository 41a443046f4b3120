//! Who runs what: processes, their address spaces, and the images in them.

mod entry;
mod image;
mod images;
mod labels;
mod maps;
mod open;
mod present;
mod space;
mod table;

use std::fs::File;
use std::sync::Arc;

pub use entry::{Jitdump, Process, ProcessKey};
pub use image::{Image, ImageError, Segment};
pub use images::{ImageInfo, Images};
pub use open::{Archive, OpenRequest};
pub use present::{Extent, Present, describe};
pub use space::{AddressSpace, Content, Epochs, Mapping};
pub use table::Processes;

use crate::ids::Pid;

/// What is known of a process that was sampled, for as long as its profile is made (it may have ended by then).
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// Tells it from a later process with the same PID, and from the program that it executes next.
    pub key: ProcessKey,
    /// Its PID where the profiler runs.
    pub pid: Pid,
    /// Its PID in its own PID namespace: the one that names its perf map.
    pub namespace_pid: Pid,
    /// The user it runs as, where the profiler runs: only files of this user (or root) are believed.
    pub uid: u32,
    /// The name of its first thread (`/proc/PID/comm`), which the program may have changed; at most 15 bytes.
    pub comm: Arc<str>,
    /// The name of the file that it executes, without its folder; `None` where that is not known, as of kernel threads.
    pub executable: Option<Arc<str>>,
    /// Its root directory, held open (`O_PATH`), so that files of its mount namespace can be opened after it has ended.
    pub root: Option<Arc<File>>,
    /// Its perf map, held open from the first sample in code that it made at run time: some compilers delete it at their end.
    pub perf_map: Option<Arc<File>>,
    /// Its jitdump, held open for the same reason.
    pub jitdump: Option<Arc<File>>,
    /// Its container, by the id that the container's runtime gave it.
    pub container: Option<Arc<str>>,
    /// Its systemd unit.
    pub unit: Option<Arc<str>>,
}

impl ProcessInfo {
    /// The name of the process, as opposed to those of its threads: its executable's, or else that of its first thread.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.executable.as_ref().unwrap_or(&self.comm)
    }

    /// A process of which no more is known.
    #[must_use]
    pub fn new(key: ProcessKey, pid: Pid) -> ProcessInfo {
        ProcessInfo {
            key,
            pid,
            namespace_pid: pid,
            uid: u32::MAX,
            comm: "".into(),
            executable: None,
            root: None,
            perf_map: None,
            jitdump: None,
            container: None,
            unit: None,
        }
    }
}
