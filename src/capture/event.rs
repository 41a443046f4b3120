//! Events: the grammar of `-e`, and one table of presets that says everything of an event at once.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::grammar::Terms;
use super::uprobe::Uprobe;
use crate::ids::Unit;
use crate::sys::perf_event::abi;

/// One row of the table of presets.
struct Preset {
    /// Spellings, the first of which is shown.
    names: &'static [&'static str],
    kind: u32,
    config: u32,
    /// The name of the value in a profile. No `-`: some stores refuse it.
    value: &'static str,
    unit: Unit,
    /// How often to sample where the command line says nothing.
    rate: Rate,
}

/// How often an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many samples a second and CPU.
    Frequency(u64),
    /// One sample for so many occurrences (nanoseconds, for clocks).
    Period(u64),
}

impl Rate {
    /// So many times as often.
    #[must_use]
    pub fn scaled(self, scale: f64) -> Rate {
        match self {
            // The kernel takes no frequency below one.
            Rate::Frequency(hertz) => Rate::Frequency(((hertz as f64 * scale).round() as u64).max(1)),
            Rate::Period(period) => Rate::Period(((period as f64 / scale).round() as u64).max(1)),
        }
    }
}

/// perf's default, for what it samples by frequency.
const DEFAULT: Rate = Rate::Frequency(4000);
pub(super) const EACH: Rate = Rate::Period(1);

const HARDWARE: u32 = abi::PERF_TYPE_HARDWARE;
const SOFTWARE: u32 = abi::PERF_TYPE_SOFTWARE;

macro_rules! presets {
    ($([$($name:literal),+] $kind:ident $config:ident $value:literal $unit:ident $rate:ident;)*) => {
        const PRESETS: &[Preset] = &[
            $(Preset { names: &[$($name),+], kind: $kind, config: abi::$config, value: $value, unit: Unit::$unit, rate: $rate },)*
        ];
    };
}

presets! {
    ["cpu-clock"] SOFTWARE PERF_COUNT_SW_CPU_CLOCK "cpu" Nanoseconds DEFAULT;
    ["task-clock"] SOFTWARE PERF_COUNT_SW_TASK_CLOCK "cpu" Nanoseconds DEFAULT;
    ["page-faults", "faults"] SOFTWARE PERF_COUNT_SW_PAGE_FAULTS "page_faults" Count DEFAULT;
    ["minor-faults"] SOFTWARE PERF_COUNT_SW_PAGE_FAULTS_MIN "minor_faults" Count DEFAULT;
    ["major-faults"] SOFTWARE PERF_COUNT_SW_PAGE_FAULTS_MAJ "major_faults" Count EACH;
    ["context-switches", "cs"] SOFTWARE PERF_COUNT_SW_CONTEXT_SWITCHES "context_switches" Count DEFAULT;
    ["cpu-migrations", "migrations"] SOFTWARE PERF_COUNT_SW_CPU_MIGRATIONS "cpu_migrations" Count EACH;
    ["alignment-faults"] SOFTWARE PERF_COUNT_SW_ALIGNMENT_FAULTS "alignment_faults" Count DEFAULT;
    ["emulation-faults"] SOFTWARE PERF_COUNT_SW_EMULATION_FAULTS "emulation_faults" Count DEFAULT;
    ["cgroup-switches"] SOFTWARE PERF_COUNT_SW_CGROUP_SWITCHES "cgroup_switches" Count EACH;
    ["dummy"] SOFTWARE PERF_COUNT_SW_DUMMY "dummy" Count EACH;
    ["cycles", "cpu-cycles"] HARDWARE PERF_COUNT_HW_CPU_CYCLES "cycles" Count DEFAULT;
    ["instructions"] HARDWARE PERF_COUNT_HW_INSTRUCTIONS "instructions" Count DEFAULT;
    ["cache-references"] HARDWARE PERF_COUNT_HW_CACHE_REFERENCES "cache_references" Count DEFAULT;
    ["cache-misses"] HARDWARE PERF_COUNT_HW_CACHE_MISSES "cache_misses" Count DEFAULT;
    ["branches", "branch-instructions"] HARDWARE PERF_COUNT_HW_BRANCH_INSTRUCTIONS "branches" Count DEFAULT;
    ["branch-misses"] HARDWARE PERF_COUNT_HW_BRANCH_MISSES "branch_misses" Count DEFAULT;
    ["bus-cycles"] HARDWARE PERF_COUNT_HW_BUS_CYCLES "bus_cycles" Count DEFAULT;
    ["ref-cycles"] HARDWARE PERF_COUNT_HW_REF_CPU_CYCLES "ref_cycles" Count DEFAULT;
    ["stalled-cycles-frontend", "idle-cycles-frontend"] HARDWARE PERF_COUNT_HW_STALLED_CYCLES_FRONTEND "stalled_cycles_frontend" Count DEFAULT;
    ["stalled-cycles-backend", "idle-cycles-backend"] HARDWARE PERF_COUNT_HW_STALLED_CYCLES_BACKEND "stalled_cycles_backend" Count DEFAULT;
}

/// The event that takes the place of `cycles` where there is no hardware counter, as with perf.
pub(super) const FALLBACK: &str = "cpu-clock";

/// An event as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As it is shown: the spelling with its modifiers.
    pub name: String,
    /// The name of its value in a profile.
    pub value_name: String,
    /// What its weights count.
    pub unit: Unit,
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// How often it is sampled.
    pub rate: Rate,
    /// Whether user code is sampled.
    pub user: bool,
    /// Whether the kernel is sampled.
    pub kernel: bool,
    /// What our BPF programs tell beside it, or instead of it.
    pub probe: Option<Probe>,
    /// The function of a program that it counts the calls of.
    pub uprobe: Option<Uprobe>,
    /// What was said of it alone.
    pub terms: Terms,
}

/// Events that the kernel does not count by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The time of threads away from a CPU.
    OffCpu,
    /// The time of threads away from a CPU while they waited for a lock: in futex(2), or for one of the kernel's that sleep.
    Lock,
    /// All time of threads: away from a CPU as told by our programs, on a CPU by its clock, which the event itself is.
    Wall,
    /// What programs allocate, whether it is freed or not.
    Alloc,
    /// What of that is in use at the end.
    InUse,
}

impl Probe {
    /// Whether it is told by what happens when threads leave their CPUs.
    #[must_use]
    pub fn is_away(self) -> bool {
        matches!(self, Probe::OffCpu | Probe::Lock | Probe::Wall)
    }

    /// Whether it is told by calls of allocators.
    #[must_use]
    pub fn is_alloc(self) -> bool {
        matches!(self, Probe::Alloc | Probe::InUse)
    }
}

/// What is wrong with an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No such name.
    #[error("unknown event '{name}'{}", nearest(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// A modifier that means nothing.
    #[error(
        "event '{name}': unknown modifier '{modifier}' (known: u user code, k kernel, h hypervisor, p precise, P, D pinned, e exclusive, I, H, W)"
    )]
    Modifier {
        /// What was asked for.
        name: String,
        /// The letter.
        modifier: char,
    },
    /// A function of a program that cannot be probed.
    #[error("{name}: {reason}")]
    Uprobe {
        /// What was asked for.
        name: String,
        /// Why.
        reason: String,
    },
    /// What stands around the names.
    #[error("event '{text}': {why}")]
    Syntax {
        /// What was asked for.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// What a PMU is asked for.
    #[error("event '{text}': {why}")]
    Pmu {
        /// What was asked for.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// Tracepoints are described in tracefs.
    #[error("tracepoint '{name}': cannot read {}: {source}{}", .path.display(), mend(.source))]
    Tracefs {
        /// What was asked for.
        name: String,
        /// The file that describes it.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
}

fn nearest(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root, or: mount -o remount,mode=755 /sys/kernel/tracing",
        _ => "; if tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing",
    }
}

impl Event {
    /// The event of a type and config (`perf_event_attr`), if it is one of those with a name.
    #[must_use]
    pub fn preset(kind: u32, config: u64) -> Option<Event> {
        let same = |preset: &&Preset| preset.kind == kind && u64::from(preset.config) == config;
        PRESETS.iter().find(same).map(|preset| preset.event(preset.names[0]))
    }

    /// Whether it is a hardware event for which the CPU's clock can stand in.
    #[must_use]
    pub fn is_cycles(&self) -> bool {
        (self.kind, self.config) == (abi::PERF_TYPE_HARDWARE, u64::from(abi::PERF_COUNT_HW_CPU_CYCLES))
    }

    /// Whether it is a place in the kernel's code, with fields.
    #[must_use]
    pub fn is_tracepoint(&self) -> bool {
        self.kind == abi::PERF_TYPE_TRACEPOINT
    }

    /// Whether it happens in the kernel's code only.
    #[must_use]
    pub fn is_of_kernel(&self) -> bool {
        let those = [
            abi::PERF_COUNT_SW_CONTEXT_SWITCHES,
            abi::PERF_COUNT_SW_CPU_MIGRATIONS,
            abi::PERF_COUNT_SW_CGROUP_SWITCHES,
        ];
        self.kind == abi::PERF_TYPE_SOFTWARE && those.iter().any(|&event| u64::from(event) == self.config)
    }

    /// Whether the kernel counts it, beside what programs of ours tell.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        matches!(self.probe, None | Some(Probe::Wall))
    }

    /// What its samples are called in a profile, where they are counted.
    #[must_use]
    pub fn count_name(&self) -> &'static str {
        match self.probe {
            Some(Probe::Alloc) => "alloc_objects",
            Some(Probe::InUse) => "inuse_objects",
            _ => "samples",
        }
    }

    /// Whether it is a timer, whose period the kernel never varies.
    #[must_use]
    pub fn is_clock(&self) -> bool {
        let clocks = [abi::PERF_COUNT_SW_CPU_CLOCK, abi::PERF_COUNT_SW_TASK_CLOCK];
        self.kind == abi::PERF_TYPE_SOFTWARE && clocks.iter().any(|&clock| u64::from(clock) == self.config)
    }

    /// The CPU's clock, sampled as this event was to be.
    #[must_use]
    pub fn fallback(&self) -> Event {
        let Some(clock) = PRESETS.iter().find(|preset| preset.names[0] == FALLBACK) else { return self.clone() };
        let modifiers = self.name.split_once(':').map_or(String::new(), |(_, modifiers)| format!(":{modifiers}"));
        let clock = clock.event(&format!("{FALLBACK}{modifiers}"));
        // A number of cycles is no number of nanoseconds, but near enough to keep the rate.
        Event { rate: self.rate, user: self.user, kernel: self.kernel, terms: self.terms.clone(), ..clock }
    }
}

impl Preset {
    fn event(&self, name: &str) -> Event {
        Event {
            name: name.into(),
            value_name: self.value.into(),
            unit: self.unit,
            kind: self.kind,
            config: u64::from(self.config),
            rate: self.rate,
            user: true,
            kernel: true,
            probe: None,
            uprobe: None,
            terms: Terms::default(),
        }
    }
}

/// Their names.
const PROBES: [&str; 5] = ["off-cpu", "lock", "wall", "alloc", "in-use"];

/// Bytes between two samples of allocations: as tcmalloc and Go have it.
const ALLOC_PERIOD: u64 = 512 << 10;

/// The events that our programs tell: what follows here is a clock, of which some only take its name and rate.
fn probe(name: &str) -> Option<Event> {
    let (probe, value) = match name {
        "off-cpu" | "offcpu-time" => (Probe::OffCpu, "off_cpu"),
        "lock" => (Probe::Lock, "lock_wait"),
        "wall" | "wall-clock" => (Probe::Wall, "wall"),
        "alloc" => (Probe::Alloc, "alloc_space"),
        "in-use" => (Probe::InUse, "inuse_space"),
        _ => return None,
    };
    let clock = preset(FALLBACK)?.event(name);
    let told = Event { value_name: value.into(), probe: Some(probe), ..clock };
    Some(if probe.is_alloc() { Event { unit: Unit::Bytes, rate: Rate::Period(ALLOC_PERIOD), ..told } } else { told })
}

/// Reads a name with modifiers behind a colon.
pub(super) fn parse(spelling: &str) -> Result<Event, EventError> {
    let (name, modifiers) = match spelling.rsplit_once(':') {
        Some((name, modifiers)) if known(name).is_some() || name.contains(':') => (name, modifiers),
        _ => (spelling, ""),
    };
    let event = match (known(name), name.split_once(':')) {
        (Some(event), _) => Event { name: spelling.into(), ..event },
        (None, Some((system, tracepoint))) => self::tracepoint(spelling, system, tracepoint)?,
        (None, None) => return Err(EventError::Unknown { name: name.into(), near: near(name) }),
    };
    modified(event, modifiers)
}

/// An event that has a name of its own.
pub(super) fn known(name: &str) -> Option<Event> {
    preset(name).map(|preset| preset.event(name)).or_else(|| probe(name)).or_else(|| raw(name)).or_else(|| cache(name))
}

/// An event that has a number and no preset.
pub(super) fn numbered(name: &str, value: &str, kind: u32, config: u64) -> Event {
    Event {
        name: name.into(),
        value_name: value.into(),
        unit: Unit::Count,
        kind,
        config,
        rate: DEFAULT,
        user: true,
        kernel: true,
        probe: None,
        uprobe: None,
        terms: Terms::default(),
    }
}

/// `rHEX`: an event of the CPU by its code.
pub(super) fn raw(name: &str) -> Option<Event> {
    let code = u64::from_str_radix(name.strip_prefix('r')?, 16).ok()?;
    Some(numbered(name, &format!("raw_{code:x}"), abi::PERF_TYPE_RAW, code))
}

/// `CACHE-OPERATIONs[-misses]`, or `CACHE-OPERATION-misses` (`PERF_TYPE_HW_CACHE`).
fn cache(name: &str) -> Option<Event> {
    const CACHES: [&str; 7] = ["l1-dcache", "l1-icache", "llc", "dtlb", "itlb", "branch", "node"];
    const OPERATIONS: [&str; 3] = ["load", "store", "prefetch"];
    // As with perf, capitals are no part of these names.
    let small = name.to_lowercase();
    let (cache, rest) = (0_u64..)
        .zip(CACHES)
        .find_map(|(number, cache)| Some((number, small.strip_prefix(cache)?.strip_prefix('-')?)))?;
    let (rest, missed) = rest.strip_suffix("-misses").map_or((rest, 0), |rest| (rest, 1));
    let (operation, plural) =
        (0_u64..).zip(OPERATIONS).find_map(|(number, operation)| Some((number, rest.strip_prefix(operation)?)))?;
    let config = cache | operation << 8 | missed << 16;
    matches!(plural, "" | "s" | "es").then(|| numbered(name, &small.replace('-', "_"), abi::PERF_TYPE_HW_CACHE, config))
}

fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.names.contains(&name))
}

/// A modifier names what is sampled, so one alone excludes the other.
pub(super) fn modified(mut event: Event, modifiers: &str) -> Result<Event, EventError> {
    if modifiers.contains(['u', 'k']) {
        (event.user, event.kernel) = (modifiers.contains('u'), modifiers.contains('k'));
    }
    if let Some(why) = refused(modifiers) {
        return Err(EventError::Syntax { text: event.name, why });
    }
    event.terms.pinned |= modifiers.contains('D');
    event.terms.exclusive |= modifiers.contains('e');
    match modifiers.chars().find(|modifier| !"ukhpPDeIGHW".contains(*modifier)) {
        Some(modifier) => Err(EventError::Modifier { name: event.name, modifier }),
        None => Ok(event),
    }
}

/// Why modifiers that perf knows are refused: each would record something else than was asked for.
fn refused(modifiers: &str) -> Option<&'static str> {
    let has = |letter| modifiers.contains(letter);
    let reasons = [
        (has('S'), "each event is sampled by itself: no leader samples for its group (:S); leave it away, or use perf"),
        (has('b'), "BPF programs that count events (:b) are no part of rprof; use perf"),
        (has('R'), "latencies of retirement (:R) are not sampled; use perf"),
        (has('G') && !has('H'), "guests of virtual machines (:G) are not sampled, the host is; use perf kvm"),
        (has('h') && !has('u') && !has('k'), "a hypervisor alone (:h) is not sampled; add u or k, or use perf"),
    ];
    reasons.into_iter().find(|(given, _)| *given).map(|(_, why)| why)
}

/// The folder that describes tracepoints.
const TRACEPOINTS: &str = "/sys/kernel/tracing/events";

/// A tracepoint's number lies in its folder in tracefs.
fn tracepoint(spelling: &str, system: &str, name: &str) -> Result<Event, EventError> {
    let folder = tracepoints(spelling)?;
    let fail = |path, source| EventError::Tracefs { name: spelling.into(), path, source };
    let path = folder.join(system).join(name).join("id");
    let id = match fs::read_to_string(&path) {
        Ok(id) => id,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EventError::Unknown { name: spelling.into(), near: near_tracepoints(&folder, system, name) });
        }
        Err(source) => return Err(fail(path, source)),
    };
    let config = id.trim().parse().map_err(|_| fail(path, io::Error::from(io::ErrorKind::InvalidData)))?;
    Ok(Event {
        name: spelling.into(),
        value_name: format!("{system}_{name}").replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        unit: Unit::Count,
        kind: abi::PERF_TYPE_TRACEPOINT,
        config,
        rate: EACH,
        user: true,
        kernel: true,
        probe: None,
        uprobe: None,
        terms: Terms::default(),
    })
}

/// The folder of tracepoints, if it may be read: what cannot be read there is not unknown.
fn tracepoints(spelling: &str) -> Result<PathBuf, EventError> {
    let folder = PathBuf::from(TRACEPOINTS);
    match fs::read_dir(&folder) {
        Ok(_) => Ok(folder),
        Err(source) => Err(EventError::Tracefs { name: spelling.into(), path: folder, source }),
    }
}

/// The tracepoints whose system and name are like the patterns of an event, sorted.
pub(super) fn tracepoints_like(spelling: &str, system: &str, name: &str) -> Result<Vec<String>, EventError> {
    let path = tracepoints(spelling)?.join(system).join(name).join("id").to_string_lossy().into_owned();
    let found = glob::glob(&path).into_iter().flatten().flatten();
    let spelled = |path: PathBuf| {
        let mut parts = path.parent()?.components().rev();
        let name = parts.next()?.as_os_str().to_str()?.to_owned();
        Some(format!("{}:{name}", parts.next()?.as_os_str().to_str()?))
    };
    let mut names: Vec<String> = found.filter_map(spelled).collect();
    names.sort();
    Ok(names)
}

fn near(name: &str) -> Vec<String> {
    nearest_of(name, PRESETS.iter().flat_map(|preset| preset.names).chain(&PROBES).map(|known| (*known).to_owned()))
}

fn near_tracepoints(folder: &std::path::Path, system: &str, name: &str) -> Vec<String> {
    let names = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let inside = names(folder.join(system));
    if inside.is_empty() {
        return nearest_of(system, names(folder.to_owned()).into_iter())
            .into_iter()
            .map(|s| format!("{s}:…"))
            .collect();
    }
    nearest_of(name, inside.into_iter()).into_iter().map(|found| format!("{system}:{found}")).collect()
}

/// At most three names that are alike.
fn nearest_of(name: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let mut scored: Vec<_> =
        known.map(|known| (strsim::jaro_winkler(name, &known), known)).filter(|(score, _)| *score > 0.75).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::super::grammar::parse_list;
    use super::*;

    #[test]
    fn modifiers_choose_what_is_sampled() {
        let events = parse_list("cpu-clock:u,page-faults:k,cycles:ukP,cs").unwrap();
        let sides: Vec<_> = events.iter().map(|event| (event.user, event.kernel)).collect();
        assert_eq!(sides, [(true, false), (false, true), (true, true), (true, true)]);
        assert_eq!(events[0].name, "cpu-clock:u");
        assert_eq!(events[2].fallback().name, "cpu-clock:ukP");
    }

    #[test]
    fn an_unknown_name_names_those_near_it() {
        let error = parse_list("cpu-clok").unwrap_err().to_string();
        assert_eq!(error, "unknown event 'cpu-clok'; did you mean cpu-clock, cpu-cycles?");
        assert!(parse_list("cpu-clock:z").unwrap_err().to_string().contains("unknown modifier 'z'"));
    }

    #[test]
    fn modifiers_are_done_or_refused_for_a_reason() {
        let events = parse_list("cpu-clock:uD,cycles:e,cs:ukGH").unwrap();
        let flags: Vec<_> = events.iter().map(|event| (event.terms.pinned, event.terms.exclusive)).collect();
        assert_eq!(flags, [(true, false), (false, true), (false, false)]);
        for (text, why) in
            [("cycles:b", "BPF"), ("cycles:R", "latencies"), ("cycles:G", "guests"), ("cycles:h", "hyper")]
        {
            let error = parse_list(text).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("use perf"), "{text}: {error}");
        }
        assert!(parse_list("cycles:uh,cycles:H").is_ok());
    }

    #[test]
    fn no_value_has_a_dash() {
        assert!(PRESETS.iter().all(|preset| !preset.value.contains('-')));
    }
}
