//! Builds the programs of `tests/programs` and runs them.
//!
//! ```ignore
//! let chain = programs::c("chain.c", &["-O2", "-fomit-frame-pointer"]);
//! let running = programs::run(&chain, &["5"]);   // returns once it printed "ready"; killed when dropped
//! profile(running.pid());
//! ```
//!
//! A program is built once for each set of sources and flags and lies in cargo's folder for test files from then on. A missing
//! compiler fails the test: `scripts/install-test-tools` installs all of them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Builds a C program; the flags come behind `-g`, so `-g0` and `-s` win.
pub fn c(source: &str, flags: &[&str]) -> PathBuf {
    build("cc", &["-g", "-pthread"], &[source], flags, &["-ldl", "-lm"])
}

/// Builds a C program with musl instead of the system's C library.
pub fn musl(source: &str, flags: &[&str]) -> PathBuf {
    build("musl-gcc", &["-g", "-pthread"], &[source], flags, &[])
}

/// Builds a C++ program.
pub fn cpp(source: &str, flags: &[&str]) -> PathBuf {
    build("c++", &["-g", "-pthread"], &[source], flags, &["-ldl"])
}

/// Builds a Rust program.
pub fn rust(source: &str, flags: &[&str]) -> PathBuf {
    build("rustc", &["--edition=2024", "-g"], &[source], flags, &[])
}

/// Builds a Go program; the flags are those of `go build`.
pub fn go(source: &str, flags: &[&str]) -> PathBuf {
    build("go", &["build"], &[source], flags, &[])
}

/// Builds a shared object from C.
pub fn shared_object(source: &str, flags: &[&str]) -> PathBuf {
    build("cc", &["-g", "-shared", "-fPIC"], &[source], flags, &[])
}

/// Builds `mixed_outer.c` and `mixed_inner.c`, each with flags of its own, into one program.
pub fn mixed(outer_flags: &[&str], inner_flags: &[&str]) -> PathBuf {
    let object = |source, flags: &[&str]| build("cc", &["-g", "-c"], &[source], flags, &[]);
    let (outer, inner) = (object("mixed_outer.c", outer_flags), object("mixed_inner.c", inner_flags));
    build("cc", &[], &[], &[text(&outer), text(&inner)], &[])
}

/// Builds `plt.c` against the shared object made of `plugin.c`.
pub fn plt(flags: &[&str]) -> PathBuf {
    let plugin = shared_object("plugin.c", flags);
    c("plt.c", &[flags, &["-Wl,-z,lazy", text(&plugin)]].concat())
}

/// Copies a program, under its own name, into a folder of the test's own: for tests that remove or replace it while it runs.
pub fn private_copy(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a program has a name"));
    fs::copy(program, &copy).expect("copy the program");
    copy
}

/// Starts a program and waits until its functions run (it prints `ready`).
pub fn run(program: &Path, arguments: &[&str]) -> Running {
    run_command(Command::new(program).args(arguments))
}

/// Starts a command, for those who need an environment or a wrapper, and waits until it prints `ready`.
pub fn run_command(command: &mut Command) -> Running {
    // A group of its own, so that its children end with it.
    let mut child = spawn(command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut first = String::new();
    output.read_line(&mut first).expect("read the first line");
    assert_eq!(first, "ready\n", "{command:?} did not get ready");
    Running { child, output }
}

/// Starts a command. A program that was just written may still be open for writing in a child that another test is starting, until
/// that child executes its own.
fn spawn(command: &mut Command) -> Child {
    loop {
        match command.spawn() {
            Ok(child) => return child,
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(Duration::from_millis(1)),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
}

/// A program that runs; dropping it kills it and its children.
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// The process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end: how it ended and what it printed behind `ready`.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut printed = String::new();
        self.output.read_to_string(&mut printed).expect("read what the program prints");
        (self.child.wait().expect("wait for the program"), printed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.pid());
        // A process that has been waited for has no group any more, and its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Reads the number behind a name in what a program printed: `number("cpu_ns heavy 12", "cpu_ns heavy")` is 12.
pub fn number(printed: &str, name: &str) -> u64 {
    let line =
        printed.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {printed}"));
    line.trim().parse().unwrap_or_else(|_| panic!("{name} is no number: {printed}"))
}

/// The sum of what a program printed as lines `name number`.
pub fn sum(printed: &str, name: &str) -> u64 {
    printed.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).sum()
}

/// The value within a range that is nearest to what was told: for truths that are known to a range alone.
///
/// A thread's CPU clock leaves out what a hypervisor takes while the thread has the CPU, and a timer that samples it counts that; it is known of
/// all CPUs together alone.
pub fn nearest(told: u64, truth: RangeInclusive<u64>) -> u64 {
    told.clamp(*truth.start(), *truth.end())
}

/// The folder of the sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// The folder of a build is named by all that went into it; the file in it has the name of its source, which is also what the kernel
/// calls the process.
fn build(compiler: &str, first: &[&str], sources_: &[&str], flags: &[&str], last: &[&str]) -> PathBuf {
    let paths: Vec<PathBuf> = sources_.iter().map(|source| sources().join(source)).collect();
    let name = sources_.first().copied().unwrap_or("mixed").split('.').next().unwrap_or_default();
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs").join(key(compiler, first, &paths, flags, last));
    let program = folder.join(name);
    if program.exists() {
        return program;
    }
    fs::create_dir_all(&folder).expect("make the folder of the program");
    // Tests build at the same time: each writes a file of its own, and the first one's is kept. Another may run it already: to put a
    // new one in its place would take its file away, by which gdb finds its functions.
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    let unfinished = folder.join(format!("{name}.{}.{}", id(), BUILDS.fetch_add(1, Ordering::Relaxed)));
    let mut command = Command::new(compiler);
    // Go wants its flags before the file, the C compilers want libraries behind it.
    command.args(first).args(["-o", text(&unfinished)]);
    if compiler == "cc" || compiler == "c++" {
        command.args(&paths).args(flags).args(last);
    } else {
        command.args(flags).args(&paths).args(last);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}; see scripts/install-test-tools"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    match fs::hard_link(&unfinished, &program) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            panic!("put {} into its place: {error}", program.display())
        }
        _ => fs::remove_file(&unfinished).expect("remove the other name"),
    }
    program
}

/// Everything that decides what a build gives; the files that C programs include are part of it.
fn key(compiler: &str, first: &[&str], paths: &[PathBuf], flags: &[&str], last: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    (compiler, first, flags, last).hash(&mut hasher);
    for path in paths.iter().chain([&sources().join("burn.h")]) {
        fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of this repository are UTF-8")
}
