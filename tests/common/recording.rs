//! Runs `rprof record` and reads what it wrote.
//!
//! ```ignore
//! let recorded = record(&["-F", "2999"], &[chain, "0.3"]);
//! assert!(recorded.share(&["_start", "…", "main", "a", "b", "leaf", "spin"]) > 0.95);
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::encode;
use rprof::health::Count;
use rprof::profile::{LabelValue, Origin, Profile, Quality, Sample};
use tempfile::TempDir;

/// The program under test.
pub fn rprof() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
    command.stdin(Stdio::null());
    command
}

/// Records a command (none, if the options name a target) and reads the profile.
pub fn record<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Recorded {
    start(options, command).finish()
}

/// Starts a recording: of a command, or of what the options name.
pub fn start<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Session {
    start_as(&mut rprof(), options, command)
}

/// As [`start`], by a wrapper that runs rprof (`setpriv …`).
pub fn start_as<S: AsRef<OsStr>>(rprof: &mut Command, options: &[&str], command: &[S]) -> Session {
    let folder = tempfile::tempdir().expect("make a folder");
    // Others than root write their files here too.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open the folder");
    let file = folder.path().join("profile.pb.gz");
    rprof.arg("record").args(options).arg("-o").arg(&file);
    if !command.is_empty() {
        rprof.arg("--").args(command);
    }
    let process = rprof.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run rprof");
    Session { process, folder, file }
}

/// Runs `rprof record` as it is, for failures and for files of other formats.
pub fn attempt<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Attempt {
    let mut rprof = rprof();
    rprof.arg("record").args(options);
    if !command.is_empty() {
        rprof.arg("--").args(command);
    }
    Attempt::of(&mut rprof)
}

/// Starts a command that writes a profile to its standard output (`… rprof record -o -`), ends it by `end`, which gets the command's
/// PID, and reads the profile.
pub fn printed(mut command: Command, end: impl FnOnce(i32)) -> Recorded {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().expect("run rprof");
    end(process.id() as i32);
    let output = process.wait_with_output().expect("wait for rprof");
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("profile.pb.gz");
    fs::write(&file, &output.stdout).expect("keep what was printed");
    let attempt = Attempt::from(output);
    let profile = encode::read_file(&file).unwrap_or_else(|error| panic!("no profile: {error}: {}", attempt.said));
    Recorded::new(attempt, profile)
}

/// How a run of rprof ended.
#[derive(Debug)]
pub struct Attempt {
    /// Its exit status.
    pub status: Option<i32>,
    /// What it said on the standard error.
    pub said: String,
    /// What it, or the command, printed.
    pub printed: String,
}

impl Attempt {
    /// Runs a command.
    pub fn of(command: &mut Command) -> Attempt {
        Attempt::from(command.stdin(Stdio::null()).output().expect("run rprof"))
    }
}

impl From<Output> for Attempt {
    fn from(output: Output) -> Attempt {
        Attempt {
            status: output.status.code(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }
}

/// A recording that runs.
pub struct Session {
    process: Child,
    folder: TempDir,
    file: PathBuf,
}

impl Session {
    /// rprof's PID.
    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Waits until its events are open, and so its signal handlers installed.
    pub fn opened(mut self) -> Session {
        wait_for("rprof to open events", || {
            assert!(self.process.try_wait().expect("wait").is_none(), "rprof ended: {}", self.said());
            perf_events(self.pid()) > 0
        });
        self
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("send a signal");
    }

    /// Waits for its end and reads the profile; it must have written one.
    pub fn finish(self) -> Recorded {
        let (attempt, profile, _folder) = self.end();
        let profile = profile.unwrap_or_else(|error| panic!("no profile: {error}: {attempt:?}"));
        Recorded::new(attempt, profile)
    }

    /// Waits for its end, whatever it is.
    pub fn fail(self) -> Attempt {
        let (attempt, profile, _folder) = self.end();
        assert!(profile.is_err(), "a profile was written: {attempt:?}");
        attempt
    }

    fn end(self) -> (Attempt, Result<Profile, encode::FileError>, TempDir) {
        let attempt = Attempt::from(self.process.wait_with_output().expect("wait for rprof"));
        let profile = encode::read_file(&self.file);
        (attempt, profile, self.folder)
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        self.process.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        said
    }
}

/// What was recorded.
pub struct Recorded {
    /// How rprof ended.
    pub attempt: Attempt,
    /// The profile as it was read back.
    pub profile: Profile,
    /// Its stacks.
    pub stacks: Vec<Stack>,
}

/// A stack and how many samples have it.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The thread's name.
    pub comm: String,
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// The user frames, root first, with the marker of an incomplete stack.
    pub user: Vec<String>,
    /// The kernel's frames.
    pub kernel: Vec<String>,
    /// The module of each user frame.
    pub modules: Vec<String>,
    /// The columns of the profile.
    pub values: Vec<i64>,
}

impl Stack {
    /// Samples (of the first event).
    pub fn count(&self) -> u64 {
        self.values[0] as u64
    }

    /// Whether the user frames are these, root first. `…` stands for any frames, `a*` for a name that begins so.
    pub fn is(&self, pattern: &[&str]) -> bool {
        matches(pattern, &self.user)
    }

    /// Whether a user frame has this name.
    pub fn has(&self, name: &str) -> bool {
        self.user.iter().any(|frame| frame == name)
    }
}

fn matches(pattern: &[&str], frames: &[String]) -> bool {
    match pattern {
        [] => frames.is_empty(),
        ["…", rest @ ..] => (0..=frames.len()).any(|skipped| matches(rest, &frames[skipped..])),
        [name, rest @ ..] => frames.split_first().is_some_and(|(frame, frames)| {
            let same = name.strip_suffix('*').map_or(frame == name, |start| frame.starts_with(start));
            same && matches(rest, frames)
        }),
    }
}

impl Recorded {
    fn new(attempt: Attempt, profile: Profile) -> Recorded {
        let stacks = profile.samples.iter().map(|sample| stack(&profile, sample)).collect();
        Recorded { attempt, profile, stacks }
    }

    /// All samples of the first event.
    pub fn samples(&self) -> u64 {
        self.count(|_| true)
    }

    /// The samples whose stacks are wanted.
    pub fn count(&self, wanted: impl Fn(&Stack) -> bool) -> u64 {
        self.stacks.iter().filter(|stack| wanted(stack)).map(Stack::count).sum()
    }

    /// The share of samples whose user frames are these ([`Stack::is`]).
    pub fn share(&self, pattern: &[&str]) -> f64 {
        self.share_of(|stack| stack.is(pattern))
    }

    /// The share of samples whose stacks are wanted.
    pub fn share_of(&self, wanted: impl Fn(&Stack) -> bool) -> f64 {
        self.count(wanted) as f64 / self.samples().max(1) as f64
    }

    /// Losses and how the stacks ended, from the comments.
    pub fn quality(&self) -> Quality {
        Quality::of(&self.profile).expect("the comments tell the quality")
    }

    /// A row of the table of health, from the comments.
    pub fn health(&self, row: Count) -> u64 {
        self.quality().health.get(row)
    }

    /// The values of a text label, each once.
    pub fn labels(&self, key: &str) -> BTreeSet<String> {
        let samples = self.profile.samples.iter();
        samples.filter_map(|sample| self.profile.label(sample, key).map(str::to_owned)).collect()
    }

    /// Whether a comment contains a text.
    pub fn comments(&self, text: &str) -> bool {
        self.profile.comments.iter().any(|&comment| self.profile.text(comment).contains(text))
    }

    /// The most frequent stacks, for the message of a failed assertion.
    pub fn top(&self) -> String {
        let mut stacks: Vec<_> = self.stacks.iter().collect();
        stacks.sort_by_key(|stack| std::cmp::Reverse(stack.count()));
        let lines = stacks.iter().take(12).map(|stack| {
            let frames: Vec<&str> = stack.user.iter().chain(&stack.kernel).map(String::as_str).collect();
            format!("\n{:6} {};{}", stack.count(), stack.comm, frames.join(";"))
        });
        format!("{}{}\n{}", self.attempt.said, self.quality().health, lines.collect::<String>())
    }

    /// What rprof said at the end: samples and losses.
    pub fn summary(&self) -> (u64, u64) {
        let line = self.attempt.said.lines().find(|line| line.contains(" samples in "));
        let line = line.unwrap_or_else(|| panic!("no summary: {}", self.attempt.said));
        let before = |word: &str| {
            let words: Vec<&str> = line.split([' ', ',']).collect();
            let at = words.iter().position(|found| *found == word).expect("the word is there");
            words[at - 1].parse().unwrap_or_else(|_| panic!("no number before {word}: {line}"))
        };
        (before("samples"), before("lost"))
    }
}

fn stack(profile: &Profile, sample: &Sample) -> Stack {
    let number = |key: &str| {
        let key = profile.strings.find(key)?;
        sample.labels.iter().find(|label| label.key == key).and_then(|label| match label.value {
            LabelValue::Number(number, _) => i32::try_from(number).ok(),
            LabelValue::Text(_) => None,
        })
    };
    let mut stack = Stack {
        comm: profile.label(sample, "comm").unwrap_or_default().to_owned(),
        pid: number("pid").expect("a sample has a PID"),
        tid: number("tid").expect("a sample has a TID"),
        user: Vec::new(),
        kernel: Vec::new(),
        modules: Vec::new(),
        values: sample.values.clone(),
    };
    for frame in profile.frames(sample).rev() {
        if frame.origin == Origin::Kernel {
            stack.kernel.push(frame.name.into_owned());
        } else {
            stack.user.push(frame.name.into_owned());
            stack.modules.push(frame.module.to_owned());
        }
    }
    stack
}

/// Of a recorder: windows are kept however full the disk of this machine is.
pub const ON_ANY_DISK: [&str; 2] = ["--min-free", "0"];

/// Waits until something is so; a test that waits for ever is ended by whoever runs it, but this says for what.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("waited in vain for {what}");
}

/// How many perf events a process holds open.
pub fn perf_events(pid: i32) -> usize {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("anon_inode:[perf_event]"))).count()
}

/// The CPU time that a process has used, in milliseconds; the kernel counts hundredths of a second.
pub fn cpu_ms(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}

/// How much CPU time a process uses from now on.
pub struct CpuTime {
    pid: i32,
    used: u64,
    stolen: u64,
}

impl CpuTime {
    /// From now on.
    pub fn of(pid: i32) -> CpuTime {
        CpuTime { pid, used: cpu_ms(pid), stolen: stolen_ms() }
    }

    /// The least and the most that samples may tell by now, in milliseconds: the most has what a hypervisor took of all CPUs meanwhile.
    pub fn until_now(&self) -> RangeInclusive<u64> {
        let used = cpu_ms(self.pid) - self.used;
        used..=used + stolen_ms() - self.stolen
    }
}

/// What a hypervisor took of all CPUs since they run, in milliseconds; see `steal` in proc_stat(5).
fn stolen_ms() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc is mounted");
    stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse::<u64>().ok()).expect("a number") * 10
}

/// Waits until a process has used so many milliseconds of CPU more.
pub fn let_run(pid: i32, ms: u64) {
    let end = cpu_ms(pid) + ms;
    wait_for("the program to run", || cpu_ms(pid) >= end);
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of this repository are UTF-8")
}
