//! Perf maps on disk: which file is believed, and how it is read on.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::Mode;
use rprof::ids::{Address, Pid};
use rprof::process::{ProcessInfo, ProcessKey};
use rprof::symbol::{Options, Symbolizer};

/// A process in a container whose root is a directory; no process of the host has its PID.
fn process(root: &Path) -> ProcessInfo {
    let uid = fs::metadata(root).unwrap().uid();
    let root = Some(Arc::new(File::open(root).unwrap()));
    ProcessInfo {
        namespace_pid: Pid(7),
        uid,
        comm: "node".into(),
        root,
        ..ProcessInfo::new(ProcessKey(1), Pid(i32::MAX))
    }
}

fn name(process: &ProcessInfo, address: u64) -> String {
    Symbolizer::new(Options::default()).anonymous(process, Address(address)).function.to_string()
}

#[test]
fn a_map_in_a_container() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tmp")).unwrap();
    let path = root.path().join("tmp/perf-7.map");
    let process = process(root.path());
    let mut symbolizer = Symbolizer::new(Options::default());
    let missing = symbolizer.anonymous(&process, Address(0x1000));
    assert_eq!((&*missing.function, missing.named), ("[anon]+0x1000", false));

    fs::write(&path, "1000 10 ~slow\n2000 10 ha").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(&*symbolizer.anonymous(&process, Address(0x1008)).function, "~slow");
    assert!(!symbolizer.anonymous(&process, Address(0x2008)).named);

    // The rest of the line, and code that replaces older code.
    File::options().append(true).open(&path).unwrap().write_all(b"lf\n1000 10 *fast\n").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(&*symbolizer.anonymous(&process, Address(0x2008)).function, "half");
    assert_eq!(&*symbolizer.anonymous(&process, Address(0x1008)).function, "*fast");

    // The process has ended and its map is gone: what was read stands.
    fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(symbolizer.anonymous(&process, Address(0x1008)).named);
}

#[test]
fn what_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let tmp = root.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let path = tmp.join("perf-7.map");
    let mut process = process(root.path());

    // A link, even to a file of the same user.
    fs::write(tmp.join("elsewhere"), "1000 10 planted\n").unwrap();
    symlink("elsewhere", &path).unwrap();
    assert_eq!(name(&process, 0x1000), "[anon]+0x1000");
    fs::remove_file(&path).unwrap();

    // A FIFO must not block.
    nix::unistd::mkfifo(&path, Mode::S_IRUSR).unwrap();
    assert_eq!(name(&process, 0x1000), "[anon]+0x1000");
    fs::remove_file(&path).unwrap();

    // A file of another user (the tests run as root, whose files anyone's process may believe).
    fs::write(&path, "1000 10 planted\n").unwrap();
    assert_eq!(name(&process, 0x1000), "planted");
    if nix::unistd::chown(&path, Some(nix::unistd::Uid::from_raw(12345)), None).is_ok() {
        assert_eq!(name(&process, 0x1000), "[anon]+0x1000");
        process.uid = 12345;
        assert_eq!(name(&process, 0x1000), "planted");
    }
}
