//! Events of a PMU by their terms, `pmu/term=value,…/`, as the kernel describes them below `/sys/bus/event_source/devices`.
//!
//! ```text
//! PMU/type           the number of the PMU                                8
//! PMU/format/TERM    which bits of which word a term's value becomes      config:0-7,21
//! PMU/events/NAME    what a name stands for                               event=0x3c,umask=0x0
//! ```

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel describes its PMUs.
pub(super) const DEVICES: &str = "/sys/bus/event_source/devices";
/// Those whose events have words of ours, because their numbers point to memory, or are found elsewhere.
const ELSEWHERE: [(&str, &str); 4] = [
    ("uprobe", "write uprobe:PATH:FUNCTION"),
    ("kprobe", "make a tracepoint by perf probe, and name that"),
    ("tracepoint", "write SYSTEM:NAME"),
    ("breakpoint", "breakpoints are no events of rprof; use perf"),
];

/// A PMU of this machine.
pub(super) struct Pmu {
    folder: PathBuf,
    /// `perf_event_attr.type`.
    pub(super) kind: u32,
    /// `config`, `config1` and `config2`, as far as they are known.
    pub(super) config: [u64; 3],
}

impl Pmu {
    /// Finds one by its name below a folder like [`DEVICES`].
    pub(super) fn find(devices: &Path, name: &str) -> Result<Pmu, String> {
        if let Some((_, instead)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
            return Err((*instead).into());
        }
        let folder = devices.join(name);
        let there = !name.is_empty() && !name.contains(['.', '/']);
        let kind = fs::read_to_string(folder.join("type")).ok().filter(|_| there);
        let Some(kind) = kind.and_then(|kind| kind.trim().parse().ok()) else {
            let missing = if name == "cpu" { ": no hardware counters (a virtual machine without a PMU?)" } else { "" };
            return Err(format!("there is no PMU '{name}' here{missing}; there are {}", listed(devices)));
        };
        Ok(Pmu { folder, kind, config: [0; 3] })
    }

    /// Takes a term in: a word as a whole, bits by the kernel's description, or a name that stands for other terms.
    pub(super) fn set(&mut self, term: &str) -> Result<(), String> {
        let (key, value) = term.split_once('=').map_or((term, None), |(key, value)| (key.trim(), Some(value.trim())));
        // It names a file.
        if !key.starts_with(|first: char| first.is_ascii_alphanumeric()) || key.contains('/') {
            return Err(format!("'{term}' is no term"));
        }
        let words = ["config", "config1", "config2"];
        if let Some(word) = words.iter().position(|word| *word == key) {
            self.config[word] = number(value.unwrap_or("1"))?;
            return Ok(());
        }
        if let Ok(format) = fs::read_to_string(self.folder.join("format").join(key)) {
            let value = number(value.unwrap_or("1"))?;
            return self.put(format.trim(), value).map_err(|why| format!("{key}={value:#x}: {why}"));
        }
        let alias = fs::read_to_string(self.folder.join("events").join(key)).ok().filter(|_| value.is_none());
        let Some(alias) = alias else { return Err(self.unknown(key)) };
        for term in alias.trim().split(',') {
            // Only terms of formats, so that no name stands for itself.
            if fs::metadata(self.folder.join("events").join(term)).is_ok() || term.ends_with("=?") {
                return Err(format!("{key} stands for {}, of which not all is known: write that out", alias.trim()));
            }
            self.set(term)?;
        }
        Ok(())
    }

    /// Puts the bits of a value where a format has them, the lowest first: `config1:0-7,21`.
    fn put(&mut self, format: &str, value: u64) -> Result<(), String> {
        let wrong = || format!("the kernel describes it as '{format}', which is not understood");
        let (word, ranges) = format.split_once(':').ok_or_else(wrong)?;
        let words = ["config", "config1", "config2"];
        let word = words.iter().position(|known| *known == word).ok_or_else(wrong)?;
        let mut rest = value;
        for range in ranges.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = first.parse().ok().zip(last.parse().ok()).ok_or_else(wrong)?;
            if first > last || last > 63 {
                return Err(wrong());
            }
            let mask = u64::MAX >> (63 - (last - first));
            self.config[word] = self.config[word] & !(mask << first) | (rest & mask) << first;
            rest = if last - first == 63 { 0 } else { rest >> (last - first + 1) };
        }
        if rest == 0 { Ok(()) } else { Err(format!("too large for {format}")) }
    }

    fn unknown(&self, key: &str) -> String {
        let [terms, names] = ["format", "events"].map(|folder| listed(&self.folder.join(folder)));
        format!("'{key}' is no term of this PMU: its terms are config, config1, config2 {terms}; its names {names}")
    }
}

/// The names in a folder; those of units and scales are about the names beside them.
fn listed(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.contains('.'));
    names.sort();
    if names.is_empty() { "(none)".into() } else { names.join(", ") }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
    parsed.ok_or_else(|| format!("'{text}' is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PMU as the kernel describes that of a CPU.
    fn devices() -> tempfile::TempDir {
        let devices = tempfile::tempdir().unwrap();
        let pmu = devices.path().join("cpu");
        for (name, text) in [
            ("type", "4\n"),
            ("format/event", "config:0-7,32-35\n"),
            ("format/umask", "config:8-15\n"),
            ("format/inv", "config:23\n"),
            ("format/ldlat", "config1:0-15\n"),
            ("events/cpu-cycles", "event=0x3c\n"),
            ("events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n"),
            ("events/mem-loads.scale", "1\n"),
            ("events/itself", "itself\n"),
            ("events/open", "event=?\n"),
        ] {
            fs::create_dir_all(pmu.join(name).parent().unwrap()).unwrap();
            fs::write(pmu.join(name), text).unwrap();
        }
        devices
    }

    fn config(terms: &[&str]) -> Result<[u64; 3], String> {
        let devices = devices();
        let mut pmu = Pmu::find(devices.path(), "cpu")?;
        assert_eq!(pmu.kind, 4);
        terms.iter().try_for_each(|term| pmu.set(term))?;
        Ok(pmu.config)
    }

    #[test]
    fn terms_become_bits() {
        assert_eq!(config(&["event=0x3c", "umask=1", "inv"]), Ok([0x80_013c, 0, 0]));
        assert_eq!(config(&["event=0x23c"]), Ok([0x2_0000_003c, 0, 0]));
        assert_eq!(config(&["mem-loads", "ldlat=30"]), Ok([0x1cd, 30, 0]));
        assert_eq!(config(&["config=0x1a8", "config2=7"]), Ok([0x1a8, 0, 7]));
        assert_eq!(config(&["cpu-cycles"]), Ok([0x3c, 0, 0]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (term, why) in [
            ("event=0x1000", "too large"),
            ("umask=x", "no number"),
            ("colour=1", "its terms are config, config1, config2 event, inv, ldlat, umask; its names"),
            ("open", "write that out"),
            ("itself", "write that out"),
            ("../type", "no term"),
        ] {
            let error = config(&[term]).unwrap_err();
            assert!(error.contains(why), "{term}: {error}");
        }
        let devices = devices();
        let error = |name: &str| Pmu::find(devices.path(), name).err().unwrap();
        assert_eq!(error("uncore"), "there is no PMU 'uncore' here; there are cpu");
        assert!(error("../cpu").contains("no PMU") && error("uprobe").contains("uprobe:PATH"));
    }
}
