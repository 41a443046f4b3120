//! Who runs what: processes, their address spaces, and the images in them.

mod image;
mod space;

use std::fs::File;
use std::sync::Arc;

pub use image::{Image, ImageError, Segment};
pub use space::{AddressSpace, Content, Epochs, Mapping};

use crate::ids::{BuildId, ImageId, Pid};

/// What is known of a process that was sampled, for as long as its profile is made (it may have ended by then).
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// Its PID where the profiler runs.
    pub pid: Pid,
    /// Its PID in its own PID namespace: the one that names its perf map.
    pub namespace_pid: Pid,
    /// The user it runs as, where the profiler runs: only files of this user (or root) are believed.
    pub uid: u32,
    /// Its name (`/proc/PID/comm`).
    pub comm: Arc<str>,
    /// Its root directory, held open (`O_PATH`), so that files of its mount namespace can be opened after it has ended.
    pub root: Option<Arc<File>>,
}

/// An image as a profile shows it, also where it could not be opened.
#[derive(Clone)]
pub struct ImageInfo {
    /// Its index.
    pub id: ImageId,
    /// The path as the process saw it, or a name in brackets.
    pub name: Arc<str>,
    /// The build ID that the kernel or the file gave.
    pub build_id: Option<BuildId>,
    /// The open file. Without it, addresses are offsets in the file.
    pub image: Option<Arc<Image>>,
}
