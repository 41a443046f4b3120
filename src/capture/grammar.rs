//! The grammar of `-e` around the names of events: lists, groups, terms between slashes, globs.
//!
//! ```text
//! list  := item { ',' item }
//! item  := event | '{' event { ',' event } '}' [ ':' modifiers ]
//! event := name [ '/' term { ',' term } '/' ] [ [':'] modifiers ] | probe
//! name  := preset | system:tracepoint (globs allowed) | rHEX | PMU
//! probe := 'uprobe:' | 'uretprobe:' path ':' function [ '+' number ] | address [ ':' modifiers ]
//! term  := name=TEXT | period=N | freq=N | call-graph=fp|dwarf|auto|no | stack-size=BYTES | max-stack=N
//!        | what is so anyway: time | inherit | no-overwrite | of the PMU: config=N | FORMAT[=N] | NAME
//! ```

use std::path::Path;

use super::attr::{CallGraph, MAX_STACK_BYTES};
use super::event::{self, Event, EventError, Rate};
use super::pmu::{self, Pmu};
use super::uprobe;

/// What was said of one event alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How often it is sampled was said with it.
    pub rate: bool,
    /// How its stacks are found, if otherwise than those of others.
    pub graph: Option<CallGraph>,
    /// The group in which it was named, among those of the command line.
    pub group: Option<u32>,
    /// What a tracepoint's fields must be for a sample (`PERF_EVENT_IOC_SET_FILTER`).
    pub filter: Option<String>,
    /// What else its PMU is told: `perf_event_attr.config1` and `config2`.
    pub config: [u64; 2],
    /// The most frames that the kernel follows (`perf_event_attr.sample_max_stack`), if fewer than it would.
    pub max_stack: Option<u16>,
    /// Whether it is to have its counter always, or not to count at all.
    pub pinned: bool,
    /// Whether it is to be alone on its CPU's counters.
    pub exclusive: bool,
}

/// Reads a list as of `-e`: an inner list for each item, of several events where it is a group or a glob.
///
/// # Errors
/// [`EventError`], for the first that is wrong.
pub fn parse_items(list: &str) -> Result<Vec<Vec<Event>>, EventError> {
    let items = split(list).into_iter().map(str::trim).filter(|item| !item.is_empty());
    let mut groups = 0;
    items.map(|item| parse_item(item, &mut groups)).collect()
}

/// Reads a list as of `-e`.
///
/// # Errors
/// [`EventError`], for the first that is wrong.
pub fn parse_list(list: &str) -> Result<Vec<Event>, EventError> {
    parse_items(list).map(|items| items.into_iter().flatten().collect())
}

/// The parts between commas that lie in no group and in no terms.
fn split(list: &str) -> Vec<&str> {
    let (mut depth, mut slashes, mut start) = (0_i32, 0, 0);
    let mut parts = Vec::new();
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            '/' => slashes += 1,
            // The slashes of a path stand around no terms.
            ',' if depth <= 0 && (slashes % 2 == 0 || is_probe(&list[start..])) => {
                parts.push(&list[start..at]);
                (start, slashes) = (at + 1, 0);
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

fn is_probe(item: &str) -> bool {
    ["uprobe:", "uretprobe:"].iter().any(|kind| item.trim_start().starts_with(kind))
}

fn parse_item(item: &str, groups: &mut u32) -> Result<Vec<Event>, EventError> {
    let Some(inside) = item.strip_prefix('{') else { return parse_event(item) };
    let syntax = |why| EventError::Syntax { text: item.into(), why };
    let (members, modifiers) = inside.rsplit_once('}').ok_or_else(|| syntax("a group ends with }"))?;
    let modifiers = modifiers.strip_prefix(':').unwrap_or(modifiers);
    let members: Vec<Vec<Event>> =
        split(members).into_iter().map(|name| parse_event(name.trim())).collect::<Result<_, _>>()?;
    let members = members.into_iter().flatten();
    let group = Some(*groups);
    *groups += 1;
    members
        .map(|event| {
            let event = event::modified(event, modifiers)?;
            Ok(Event { terms: Terms { group, ..event.terms.clone() }, ..event })
        })
        .collect()
}

fn parse_event(text: &str) -> Result<Vec<Event>, EventError> {
    if let Some(event) = uprobe::uprobe(text) {
        return event.map(|event| vec![event]);
    }
    let syntax = |why| EventError::Syntax { text: text.into(), why };
    if text.starts_with("mem:") || text.ends_with(".c") || text.ends_with(".o") {
        return Err(syntax("breakpoints and BPF programs are no events of rprof; use perf"));
    }
    let Some((name, rest)) = text.split_once('/') else { return glob(text) };
    let (terms, modifiers) = rest.rsplit_once('/').ok_or_else(|| syntax("terms end with /"))?;
    let modifiers = modifiers.strip_prefix(':').unwrap_or(modifiers);
    if event::known(name).is_none() && !name.contains(':') && event::raw(name).is_none() {
        return of_pmu(name, terms, text).and_then(|event| event::modified(event, modifiers)).map(|event| vec![event]);
    }
    let events = glob(name)?;
    let with_terms = |event| terms_of(event, terms, text).and_then(|event| event::modified(event, modifiers));
    events.into_iter().map(with_terms).collect()
}

/// The terms that any event may have: those that are done,
const COMMON: [&str; 6] = ["name", "period", "freq", "call-graph", "stack-size", "max-stack"];

/// those that ask for what is so anyway,
const ANYWAY: [&str; 3] = ["time", "inherit", "no-overwrite"];

/// and those that would record something else than was asked for, with what to write instead.
const REFUSED: [(&str, &str); 5] = [
    ("no-inherit", "all events of a recording follow the same tasks: write -i"),
    ("overwrite", "all events of a recording go to the same rings: write --overwrite"),
    ("percore", "counts of the threads of a core are not added up; use perf stat"),
    ("aux-output", "hardware tracing is not supported; use perf"),
    ("aux-sample-size", "hardware tracing is not supported; use perf"),
];

fn is_common(term: &str) -> bool {
    let key = term.split('=').next().unwrap_or_default();
    COMMON.contains(&key) || ANYWAY.contains(&key) || REFUSED.iter().any(|(refused, _)| *refused == key)
}

/// An event of a PMU of this machine, by its own terms and the common ones.
fn of_pmu(name: &str, terms: &str, text: &str) -> Result<Event, EventError> {
    let wrong = |why| EventError::Pmu { text: text.into(), why };
    let mut pmu = Pmu::find(Path::new(pmu::DEVICES), name).map_err(wrong)?;
    let words = terms.split(',').map(str::trim).filter(|term| !term.is_empty());
    let (common, own): (Vec<&str>, Vec<&str>) = words.partition(|term| is_common(term));
    own.iter().try_for_each(|term| pmu.set(term)).map_err(wrong)?;
    let [config, more @ ..] = pmu.config;
    let word = |text: &str| text.trim_matches('/').replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let event = event::numbered(text, &word(&format!("{name}/{}", own.join(","))), pmu.kind, config);
    // One that has a name counts what that says.
    let event = match Event::preset(pmu.kind, config) {
        Some(preset) => Event { name: text.into(), ..preset },
        None => event,
    };
    let event = terms_of(event, &common.join(","), text)?;
    Ok(Event { terms: Terms { config: more, ..event.terms }, ..event })
}

/// A tracepoint's name may stand for several.
fn glob(text: &str) -> Result<Vec<Event>, EventError> {
    let pattern = text.split_once(':').filter(|_| text.contains(['*', '?', '[']));
    let Some((system, rest)) = pattern else { return event::parse(text).map(|event| vec![event]) };
    let (name, modifiers) = rest.split_once(':').unwrap_or((rest, ""));
    let names = event::tracepoints_like(text, system, name)?;
    if names.is_empty() {
        return Err(EventError::Unknown { name: text.into(), near: Vec::new() });
    }
    let colon = if modifiers.is_empty() { "" } else { ":" };
    names.iter().map(|name| event::parse(&format!("{name}{colon}{modifiers}"))).collect()
}

fn terms_of(mut event: Event, terms: &str, text: &str) -> Result<Event, EventError> {
    let syntax = |why| EventError::Syntax { text: text.into(), why };
    let mut stack_bytes = None;
    for term in terms.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (key, value) = term.split_once('=').unwrap_or((term, ""));
        let number = || {
            value
                .parse::<u64>()
                .ok()
                .filter(|&number| number > 0)
                .ok_or_else(|| syntax("period, freq, stack-size and max-stack are numbers above 0"))
        };
        match key {
            "name" => event.name = value.trim_matches('\'').into(),
            "period" => (event.rate, event.terms.rate) = (Rate::Period(number()?), true),
            "freq" => (event.rate, event.terms.rate) = (Rate::Frequency(number()?), true),
            "stack-size" => stack_bytes = u32::try_from(number()?).ok().map(|bytes| bytes.next_multiple_of(8)),
            // More than the kernel ever follows is no limit.
            "max-stack" => event.terms.max_stack = u16::try_from(number()?).ok(),
            "call-graph" => {
                event.terms.graph = Some(graph(value).ok_or_else(|| syntax("call-graph is fp, dwarf, auto or no"))?)
            }
            _ if ANYWAY.contains(&key) => {}
            _ => return Err(syntax(why_not(key))),
        }
    }
    if let (Some(bytes), Some(CallGraph::Dwarf { stack_bytes })) = (stack_bytes, &mut event.terms.graph) {
        *stack_bytes = bytes.min(MAX_STACK_BYTES);
    }
    Ok(event)
}

/// Why a term is none of ours.
fn why_not(key: &str) -> &'static str {
    let refused = REFUSED.iter().find(|(refused, _)| *refused == key);
    refused.map_or("known terms are name, period, freq, call-graph, stack-size and max-stack", |(_, why)| why)
}

fn graph(value: &str) -> Option<CallGraph> {
    match value {
        "fp" => Some(CallGraph::FramePointer),
        "dwarf" => Some(CallGraph::Dwarf { stack_bytes: 16 << 10 }),
        "auto" => Some(CallGraph::Auto),
        "no" => Some(CallGraph::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_groups_and_terms() {
        let items = parse_items("cpu-clock:u,{cycles,page-faults}:k,cs/name=foo,period=100000/u").unwrap();
        let names: Vec<Vec<_>> =
            items.iter().map(|item| item.iter().map(|event| event.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["cpu-clock:u"], vec!["cycles", "page-faults"], vec!["foo"]]);
        assert_eq!(items[1][0].terms.group, items[1][1].terms.group);
        assert!(items[1].iter().all(|event| event.kernel && !event.user));
        assert_eq!((items[2][0].rate, items[2][0].user, items[2][0].kernel), (Rate::Period(100_000), true, false));
    }

    #[test]
    fn an_event_has_stacks_of_its_own() {
        let events =
            parse_list("cpu-clock/freq=50,call-graph=dwarf,stack-size=4096/,task-clock/call-graph=no/").unwrap();
        assert_eq!(events[0].terms.graph, Some(CallGraph::Dwarf { stack_bytes: 4096 }));
        assert_eq!((events[0].rate, events[1].terms.graph), (Rate::Frequency(50), Some(CallGraph::No)));
    }

    #[test]
    fn terms_of_perf_that_are_so_anyway_or_cut_stacks() {
        let events =
            parse_list("cpu-clock/time,inherit,no-overwrite,max-stack=16/u,software/config=0,time=1/").unwrap();
        assert_eq!((events[0].terms.max_stack, events[0].kernel, events[1].terms.max_stack), (Some(16), false, None));
    }

    #[test]
    fn codes_and_caches() {
        let events = parse_list("r1a8,LLC-load-misses,L1-dcache-loads,llc-load-misses,l1-DCACHE-loads").unwrap();
        assert_eq!((events[0].kind, events[0].config), (4, 0x1a8));
        assert_eq!((events[3].config, events[4].config), (events[1].config, events[2].config));
        assert_eq!(events[1].value_name, events[3].value_name);
        assert_eq!((events[1].kind, events[1].config), (3, 0x1_0002));
        assert_eq!((events[2].kind, events[2].config), (3, 0));
    }

    #[test]
    fn events_of_a_pmu() {
        let events = parse_list("software/config=0/u,software/config=2,config1=7,name=mine,period=5/").unwrap();
        assert_eq!((events[0].kind, events[0].config, events[0].kernel), (1, 0, false));
        assert_eq!((&*events[0].name, &*events[0].value_name), ("software/config=0/u", "cpu"));
        assert_eq!((&*events[1].name, events[1].rate, events[1].terms.config), ("mine", Rate::Period(5), [7, 0]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("{cycles", "ends with }"),
            ("cycles/period=0/", "above 0"),
            ("cycles/colour=red/", "known terms"),
            ("cycles/max-stack=0/", "above 0"),
            ("cycles/no-inherit/", "write -i"),
            ("cycles/overwrite/", "write --overwrite"),
            ("cycles/percore/", "use perf stat"),
            ("software/config=0,percore=1/", "use perf stat"),
            ("mem:0x1000:rw", "use perf"),
            ("nosuch/event=0x3c/", "no PMU 'nosuch' here"),
            ("uprobe/retprobe/", "uprobe:PATH:FUNCTION"),
            ("{cycles,instructions}:S", "sampled by itself"),
            ("software/colour=1/", "no term of this PMU"),
            ("cycles/period=1", "end with /"),
        ] {
            let error = parse_list(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
