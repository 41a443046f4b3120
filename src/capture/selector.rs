//! Choosing processes by what they are, for recordings that outlast them: a service that is started again is recorded again.
//!
//! What a process is, is found out at its first sample. What records tell (a name, an executable, a parent) is taken from them, so
//! that processes are told apart that have ended before /proc could be read.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glob::Pattern;
use rustc_hash::FxHashMap;

use super::alive::{exists, lives, teller};
use super::cgroup::{Membership, unescape};
use crate::ids::Pid;
use crate::record::{Record, TaskRecord};

/// Bytes of a process's name that the kernel keeps.
const COMM_BYTES: usize = 15;

/// Why nothing can be chosen by this.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// An empty name.
    #[error("an empty {0} chooses nothing")]
    Empty(&'static str),
    /// Not a pattern.
    #[error("'{pattern}' is no pattern for a name: {source}; write *, ? or [abc], and [*] for the character itself")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A path that depends on where one stands.
    #[error("--exe {}: give the whole path, as the process sees it, or the file's name alone", .0.display())]
    RelativePath(PathBuf),
}

/// What processes must be. Of several conditions of one kind one must hold, of different kinds each: the rule of journalctl(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    comms: Vec<Pattern>,
    executables: Vec<PathBuf>,
    units: Vec<Pattern>,
    cgroups: Vec<PathBuf>,
}

impl Selector {
    /// Adds a name as of `/proc/PID/comm`: that of the process, not of its other threads. `*`, `?` and `[…]` stand for others.
    ///
    /// # Errors
    /// [`SelectorError`] if it is empty or no pattern.
    pub fn add_comm(&mut self, name: &str) -> Result<(), SelectorError> {
        self.comms.push(pattern("name", &cut(name))?);
        Ok(())
    }

    /// Adds an executable: the whole path as the process sees it, or the file's name.
    ///
    /// # Errors
    /// [`SelectorError`] if it is empty or a relative path.
    pub fn add_executable(&mut self, path: &Path) -> Result<(), SelectorError> {
        if path.as_os_str().is_empty() {
            return Err(SelectorError::Empty("executable"));
        }
        if !path.is_absolute() && path.components().count() > 1 {
            return Err(SelectorError::RelativePath(path.to_owned()));
        }
        self.executables.push(path.to_owned());
        Ok(())
    }

    /// Adds a systemd unit, a service if its kind is not named. Units within it are part of it. Patterns as for names.
    ///
    /// # Errors
    /// [`SelectorError`] if it is empty or no pattern.
    pub fn add_unit(&mut self, name: &str) -> Result<(), SelectorError> {
        let kinds = [".service", ".scope", ".socket", ".mount", ".swap"];
        let whole = name.is_empty() || kinds.iter().any(|kind| name.ends_with(kind));
        let name = if whole { name.to_owned() } else { format!("{name}.service") };
        self.units.push(pattern("unit", &unescape(&name))?);
        Ok(())
    }

    /// Adds a cgroup with all below it, by its path: below the mount of its hierarchy, or with the mount's own path. It need not
    /// be there yet, and may go and come.
    ///
    /// # Errors
    /// [`SelectorError`] if it is empty: the root holds everything.
    pub fn add_cgroup(&mut self, path: &Path) -> Result<(), SelectorError> {
        let mounts = super::target::cgroup_mounts();
        let below =
            mounts.iter().filter_map(|mount| path.strip_prefix(mount).ok()).min_by_key(|rest| rest.as_os_str().len());
        let path = below.unwrap_or(path).strip_prefix("/").unwrap_or(below.unwrap_or(path));
        if path.as_os_str().is_empty() {
            return Err(SelectorError::Empty("cgroup"));
        }
        self.cgroups.push(path.to_owned());
        Ok(())
    }

    /// Whether nothing was added, so that it would choose everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.comms.is_empty() && self.executables.is_empty() && !self.looks_at_cgroups()
    }

    /// The processes that fit now.
    #[must_use]
    pub fn running(&self) -> Vec<Pid> {
        super::target::all_processes().into_iter().filter(|&pid| Candidate::default().decide(self, pid)).collect()
    }

    fn fits_comm(&self, comm: &str) -> bool {
        self.comms.is_empty() || self.comms.iter().any(|pattern| pattern.matches(comm))
    }

    /// `path` as the process or we see it, `root` where the process's root is.
    fn fits_executable(&self, path: &Path, root: Option<&Path>) -> bool {
        let inside = root.filter(|root| *root != Path::new("/")).and_then(|root| path.strip_prefix(root).ok());
        self.executables.is_empty()
            || self.executables.iter().any(|wanted| {
                if !wanted.is_absolute() {
                    return path.file_name() == Some(wanted.as_os_str());
                }
                // The kernel tells paths without links.
                let linked = || fs::canonicalize(wanted).is_ok_and(|target| target == path);
                wanted == path
                    || inside.is_some_and(|inside| wanted.strip_prefix("/").is_ok_and(|w| w == inside))
                    || linked()
            })
    }

    fn looks_at_cgroups(&self) -> bool {
        !(self.units.is_empty() && self.cgroups.is_empty())
    }

    fn fits_cgroups(&self, text: &str) -> bool {
        let membership = Membership::parse(text);
        let unit = self.units.is_empty()
            || membership.is_of_unit(|unit| self.units.iter().any(|pattern| pattern.matches(unit)));
        unit && (self.cgroups.is_empty() || self.cgroups.iter().any(|cgroup| membership.is_below(cgroup)))
    }
}

impl fmt::Display for Selector {
    /// As it would be asked for: `name nginx or httpd, unit web.service`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
        let kinds: [(&str, Vec<String>); 4] = [
            ("name", patterns(&self.comms)),
            ("executable", paths(&self.executables)),
            ("unit", patterns(&self.units)),
            ("cgroup", paths(&self.cgroups)),
        ];
        let kinds = kinds.iter().filter(|(_, values)| !values.is_empty());
        let parts: Vec<String> = kinds.map(|(kind, values)| format!("{kind} {}", values.join(" or "))).collect();
        f.write_str(&parts.join(", "))
    }
}

fn pattern(what: &'static str, text: &str) -> Result<Pattern, SelectorError> {
    if text.is_empty() {
        return Err(SelectorError::Empty(what));
    }
    Pattern::new(text).map_err(|source| SelectorError::Pattern { pattern: text.to_owned(), source })
}

/// The kernel cuts names; one that is given in full is cut likewise, and read as they are.
fn cut(name: &str) -> Cow<'_, str> {
    let plain = !name.contains(['*', '?', '[']);
    let kept = if plain { COMM_BYTES.min(name.len()) } else { name.len() };
    String::from_utf8_lossy(&name.as_bytes()[..kept])
}

/// What was found out of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Candidate {
    comm: Fact,
    executable: Fact,
    cgroups: Fact,
    /// It was chosen once. Its mappings are followed from then on, so that they are known should it be chosen again.
    followed: bool,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fact {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It did when it was last looked at, or for the parent: true if nothing better can be learned.
    Presumed(bool),
    Known(bool),
}

impl Fact {
    fn presumed(self) -> Fact {
        match self {
            Fact::Known(holds) => Fact::Presumed(holds),
            other => other,
        }
    }

    /// Looks now, unless it is known.
    fn learn(&mut self, look: impl FnOnce() -> Option<bool>) -> bool {
        *self = match *self {
            Fact::Known(holds) => Fact::Known(holds),
            Fact::Unknown => Fact::Known(look().unwrap_or(false)),
            Fact::Presumed(before) => Fact::Known(look().unwrap_or(before)),
        };
        self.holds()
    }

    /// As far as is known.
    fn holds(self) -> bool {
        matches!(self, Fact::Known(true) | Fact::Presumed(true))
    }
}

impl Candidate {
    fn decide(&mut self, selector: &Selector, pid: Pid) -> bool {
        let chosen = self.comm.learn(|| comm_fits(selector, pid))
            && self.executable.learn(|| executable_fits(selector, pid))
            && self.cgroups.learn(|| cgroups_fit(selector, pid));
        self.followed |= chosen;
        chosen
    }
}

fn comm_fits(selector: &Selector, pid: Pid) -> Option<bool> {
    if selector.comms.is_empty() {
        return Some(true);
    }
    let comm = fs::read(format!("/proc/{}/comm", pid.0)).ok()?;
    Some(selector.fits_comm(String::from_utf8_lossy(&comm).trim_end_matches('\n')))
}

fn executable_fits(selector: &Selector, pid: Pid) -> Option<bool> {
    if selector.executables.is_empty() {
        return Some(true);
    }
    let Pid(teller) = teller(pid);
    let path = fs::read_link(format!("/proc/{teller}/exe")).ok()?;
    let path = path.to_string_lossy();
    // The program may have been replaced by a newer one since.
    let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path));
    let root = fs::read_link(format!("/proc/{teller}/root")).ok();
    Some(selector.fits_executable(path, root.as_deref()))
}

fn cgroups_fit(selector: &Selector, pid: Pid) -> Option<bool> {
    if !selector.looks_at_cgroups() {
        return Some(true);
    }
    Some(selector.fits_cgroups(&fs::read_to_string(format!("/proc/{}/cgroup", pid.0)).ok()?))
}

/// Which processes are chosen, as they come and go and change.
#[derive(Debug)]
pub struct Choice {
    selector: Selector,
    candidates: FxHashMap<Pid, Candidate>,
    swept: Instant,
}

/// How often it is looked whether processes are gone, or have moved to another cgroup, which no record tells.
const ROUND: Duration = Duration::from_secs(60);

impl Choice {
    pub(super) fn new(selector: Selector) -> Choice {
        Choice { selector, candidates: FxHashMap::default(), swept: Instant::now() }
    }

    /// Whether a process is chosen; found out now if it is not known.
    pub(super) fn decide(&mut self, pid: Pid) -> bool {
        // The idle task and threads of the kernel that have ended are nobody's.
        pid.0 > 0 && self.candidates.entry(pid).or_default().decide(&self.selector, pid)
    }

    /// Whether what happens to a process must be known.
    pub(super) fn follows(&self, pid: Pid) -> bool {
        self.candidates.get(&pid).is_some_and(|candidate| candidate.followed)
    }

    /// Takes in what a record tells.
    pub(super) fn follow(&mut self, record: &Record<'_>) {
        match record {
            Record::Fork(task) if task.pid != task.parent => self.fork(*task),
            Record::Comm { pid, tid, comm, exec } if *exec || pid.0 == tid.0 => {
                let fits = self.selector.fits_comm(&comm.to_string_lossy());
                let candidate = self.candidates.entry(*pid).or_default();
                candidate.comm = Fact::Known(fits);
                if *exec {
                    candidate.executable = Fact::Unknown;
                    // Services are moved to their cgroup before their exec.
                    candidate.cgroups = candidate.cgroups.presumed();
                }
                self.presume(*pid);
            }
            // The first file that a program maps is its own.
            Record::Map(map) if self.selector.looks_at_maps() => {
                let path = map.name.to_string_lossy();
                let Some(candidate) = self.candidates.get_mut(&map.pid).filter(|_| path.starts_with('/')) else {
                    return;
                };
                if candidate.executable == Fact::Unknown {
                    candidate.executable = Fact::Known(self.selector.fits_executable(Path::new(&*path), None));
                    self.presume(map.pid);
                }
            }
            // The first thread may end before others do; who was not chosen is found out again then, if need be.
            Record::Exit(task) if task.pid.0 == task.tid.0 && !(self.follows(task.pid) && lives(task.pid)) => {
                self.candidates.remove(&task.pid);
            }
            _ => {}
        }
    }

    /// A child begins as what its parent is.
    fn fork(&mut self, task: TaskRecord) {
        self.candidates.remove(&task.pid);
        if let Some(parent) = self.candidates.get(&task.parent).copied() {
            let child = Candidate { cgroups: parent.cgroups.presumed(), ..parent };
            self.candidates.insert(task.pid, child);
        }
    }

    /// Follows a process that will be chosen by all that is known, so that its mappings are there when it is sampled.
    fn presume(&mut self, pid: Pid) {
        let selector = &self.selector;
        let Some(candidate) = self.candidates.get_mut(&pid) else { return };
        let holds = |fact: Fact, asked: bool| !asked || fact.holds();
        candidate.followed |= holds(candidate.comm, !selector.comms.is_empty())
            && holds(candidate.executable, !selector.executables.is_empty())
            && holds(candidate.cgroups, selector.looks_at_cgroups());
    }

    /// From time to time forgets processes whose end was not heard of.
    pub(super) fn sweep(&mut self) {
        if self.swept.elapsed() >= ROUND {
            self.swept = Instant::now();
            self.begin_round();
        }
    }

    fn begin_round(&mut self) {
        self.candidates.retain(|&pid, _| exists(pid));
        for candidate in self.candidates.values_mut() {
            // A PID may have been used again unheard of, too.
            for fact in [&mut candidate.comm, &mut candidate.executable, &mut candidate.cgroups] {
                *fact = fact.presumed();
            }
        }
    }
}

impl Selector {
    /// Whether mappings tell something of a process that has just executed a program.
    fn looks_at_maps(&self) -> bool {
        !self.executables.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Address, Tid};
    use crate::record::{Identity, MapRecord};

    /// PIDs above all that the kernel gives: what is known of them is what records tell.
    const PARENT: Pid = Pid(i32::MAX - 3);
    const CHILD: Pid = Pid(i32::MAX - 4);

    fn choice(fill: impl FnOnce(&mut Selector) -> Result<(), SelectorError>) -> Choice {
        let mut selector = Selector::default();
        fill(&mut selector).unwrap();
        Choice::new(selector)
    }

    fn comm(pid: Pid, comm: &str, exec: bool) -> Record<'_> {
        Record::Comm { pid, tid: Tid(pid.0), comm: comm.as_ref(), exec }
    }

    fn map(pid: Pid, name: &str) -> Record<'_> {
        let identity = Identity::Unknown;
        Record::Map(MapRecord { pid, start: Address(0), size: 1, offset: 0, identity, name: name.as_ref() })
    }

    fn task(pid: Pid, parent: Pid) -> TaskRecord {
        TaskRecord { pid, tid: Tid(pid.0), parent, parent_tid: Tid(parent.0) }
    }

    #[test]
    fn a_name_is_followed_from_its_exec_to_its_end() {
        let mut choice = choice(|selector| selector.add_comm("wo*er"));
        assert!(!choice.decide(PARENT) && !choice.follows(PARENT));
        choice.follow(&comm(PARENT, "worker", true));
        assert!(choice.follows(PARENT) && choice.decide(PARENT));
        // A child is what its parent is, until it executes something else.
        choice.follow(&Record::Fork(task(CHILD, PARENT)));
        assert!(choice.follows(CHILD) && choice.decide(CHILD));
        choice.follow(&comm(CHILD, "sh", true));
        assert!(!choice.decide(CHILD));
        // A thread's name is not the process's.
        choice.follow(&Record::Comm { pid: PARENT, tid: Tid(5), comm: "x".as_ref(), exec: false });
        assert!(choice.decide(PARENT));
        choice.follow(&Record::Exit(task(PARENT, PARENT)));
        assert!(!choice.follows(PARENT) && !choice.decide(PARENT));
        // It returns under the same name and number.
        choice.follow(&Record::Fork(task(PARENT, Pid(1))));
        choice.follow(&comm(PARENT, "worker", true));
        assert!(choice.decide(PARENT));
    }

    #[test]
    fn an_executable_is_known_by_its_first_mapping() {
        let mut by_name = choice(|selector| selector.add_executable(Path::new("nginx")));
        let mut by_path = choice(|selector| selector.add_executable(Path::new("/opt/nginx")));
        for choice in [&mut by_name, &mut by_path] {
            choice.follow(&comm(CHILD, "nginx", true));
            assert!(!choice.follows(CHILD));
            choice.follow(&map(CHILD, "/opt/nginx"));
            choice.follow(&map(CHILD, "/lib/libc.so"));
            assert!(choice.follows(CHILD) && choice.decide(CHILD));
            choice.follow(&comm(CHILD, "sh", true));
            choice.follow(&map(CHILD, "/bin/sh"));
            assert!(!choice.decide(CHILD));
        }
    }

    #[test]
    fn different_kinds_must_all_hold_and_one_of_each_kind() {
        let mut choice = choice(|selector| {
            selector.add_comm("a")?;
            selector.add_comm("b")?;
            selector.add_executable(Path::new("prog"))
        });
        for (name, file, chosen) in
            [("a", "/x/prog", true), ("b", "/prog", true), ("c", "/prog", false), ("a", "/y", false)]
        {
            choice.follow(&comm(CHILD, name, true));
            choice.follow(&map(CHILD, file));
            assert_eq!(choice.decide(CHILD), chosen, "{name} {file}");
        }
    }

    #[test]
    fn names_are_cut_as_the_kernel_does() {
        let mut selector = Selector::default();
        selector.add_comm("a-name-of-more-than-15-bytes").unwrap();
        assert!(selector.fits_comm("a-name-of-more-") && !selector.fits_comm("a-name-of-more"));
        assert!(selector.to_string().starts_with("name a-name-of"));
        // Within a letter, too.
        let mut selector = Selector::default();
        selector.add_comm("fourteen-bytesé").unwrap();
        assert!(selector.fits_comm(&String::from_utf8_lossy(b"fourteen-bytes\xc3")));
    }

    #[test]
    fn units_and_cgroups() {
        let fits = |unit: &str, cgroup: &str, text: &str| {
            let mut selector = Selector::default();
            selector.add_unit(unit).unwrap();
            if !cgroup.is_empty() {
                selector.add_cgroup(Path::new(cgroup)).unwrap();
            }
            selector.fits_cgroups(text)
        };
        let text = "0::/system.slice/web@1.service";
        assert!(fits("web@1", "", text) && fits("web@*", "", text) && fits("web@1.service", "/system.slice", text));
        assert!(!fits("web", "", text) && !fits("web@1.scope", "", text) && !fits("web@1", "user.slice", text));
    }

    #[test]
    fn what_chooses_nothing_is_refused() {
        let mut selector = Selector::default();
        assert!(selector.add_comm("").is_err() && selector.add_unit("").is_err());
        assert!(
            selector.add_executable(Path::new("bin/nginx")).is_err() && selector.add_cgroup(Path::new("/")).is_err()
        );
        let pattern = selector.add_comm("[a").unwrap_err().to_string();
        assert!(pattern.contains("'[a' is no pattern"), "{pattern}");
        assert!(selector.is_empty());
    }

    #[test]
    fn those_that_run_are_found() {
        let own = Pid(std::process::id() as i32);
        let path = std::env::current_exe().unwrap();
        let mut selector = Selector::default();
        selector.add_executable(&path).unwrap();
        assert!(selector.running().contains(&own));
        selector.add_comm("no-such-name").unwrap();
        assert!(selector.running().is_empty());
    }

    #[test]
    fn the_gone_are_forgotten() {
        let mut choice = choice(|selector| selector.add_comm("worker"));
        choice.follow(&comm(PARENT, "worker", true));
        choice.begin_round();
        assert!(choice.candidates.is_empty());
    }
}
