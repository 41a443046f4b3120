//! Reads any bytes as a perf.data, a file or a pipe, as `rprof report` does: whatever comes of it, it is no panic, no hang, and no more memory
//! than the bytes account for.

#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use rprof::session::Screen;
use rprof::session::replay::{Replay, ReplayOptions};
use rprof::symbol::KernelSymbols;

/// Nothing is looked for in files of code: it is the reader of perf.data that is tried here, and names take longer than it.
fn nameless() -> ReplayOptions {
    ReplayOptions {
        symfs: Some("/nowhere".into()),
        kernel: Some(KernelSymbols::Kallsyms("/dev/null".into())),
        no_inline: true,
        no_lines: true,
        ..ReplayOptions::default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = memfd_create("perf.data", MFdFlags::MFD_CLOEXEC) else { return };
    let mut file = std::fs::File::from(file);
    if file.write_all(bytes).is_err() {
        return;
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let screen = Screen::new(true);
    if let Ok(replay) = Replay::open(&path, nameless(), &screen) {
        let _ = replay.profile();
    }
    if let Ok(replay) = Replay::open(&path, nameless(), &screen) {
        let _ = replay.samples(&mut |_| true);
    }
});
