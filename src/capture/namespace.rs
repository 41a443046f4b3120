//! The namespaces that we stand in: events and /proc each number processes, and privileges count in a user namespace.

use std::fs;
use std::io;
use std::path::Path;

/// Why /proc cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// There is none.
    #[error(
        "no /proc is mounted here, which tells what processes run; mount -t proc proc /proc, or use rprof from the host, where -p takes the PID that the process has there"
    )]
    Missing,
    /// It numbers processes otherwise than the kernel does for us.
    #[error(
        "/proc shows another PID namespace than the one rprof runs in; enter the mount namespace too (nsenter -t PID -m -p), or run rprof outside of both"
    )]
    OtherNamespace,
}

/// Looks whether /proc is that of our own PID namespace.
///
/// # Errors
/// [`ProcError`] if it is another one's, or not mounted.
pub fn check_proc() -> Result<(), ProcError> {
    judge(fs::read_link("/proc/self"), std::process::id())
}

/// `/proc/self` is the number of whoever reads it, in the namespace that the mount was made in; it cannot be read by those whom
/// that namespace does not hold.
fn judge(link: io::Result<std::path::PathBuf>, own: u32) -> Result<(), ProcError> {
    match link {
        Ok(number) if number == Path::new(&own.to_string()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !Path::new("/proc/version").exists() => {
            Err(ProcError::Missing)
        }
        _ => Err(ProcError::OtherNamespace),
    }
}

/// The inode of the first PID namespace (`PROC_PID_INIT_INO` of the kernel).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether we are in the first PID namespace, that of the host.
#[must_use]
pub fn in_first_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace == Path::new(FIRST_PID_NAMESPACE))
}

/// Whether our user IDs are those of the host. In another user namespace root has no privilege over events.
pub(super) fn has_own_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_proc_is_told_from_others() {
        assert!(check_proc().is_ok());
        assert!(matches!(judge(Ok("17".into()), 18), Err(ProcError::OtherNamespace)));
        assert!(matches!(judge(Err(io::ErrorKind::NotFound.into()), 18), Err(ProcError::OtherNamespace)));
    }
}
