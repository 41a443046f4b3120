//! Probes of programs as events: `uprobe:PATH:FUNCTION`.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use procfs::process::{MMapPath, MemoryMap};

use super::alive::teller;
use super::event::{EACH, Event, EventError, modified};
use super::grammar::Terms;
use super::sites::{self, Code, FileId, SiteError};
use crate::ids::{Pid, Unit};
use crate::sys;

/// A place in a file where the kernel stops whoever comes by (`format/` of `/sys/bus/event_source/devices/uprobe`).
#[derive(Clone, Debug)]
pub struct Uprobe {
    /// The file, as it was named.
    pub path: Arc<CStr>,
    /// The very file that was looked at, whatever that name leads to later: `perf_event_attr.config1` points to it.
    pub held: Arc<CStr>,
    /// Bytes from its beginning: `config2`.
    pub offset: u64,
    /// Open, so that its inode is not given to another.
    file: Arc<fs::File>,
    /// What it was when it was looked at.
    id: FileId,
}

impl PartialEq for Uprobe {
    fn eq(&self, other: &Uprobe) -> bool {
        (&self.path, self.offset, self.id) == (&other.path, other.offset, other.id)
    }
}

impl Eq for Uprobe {}

impl Uprobe {
    /// A place in this file.
    fn new(path: &str, file: fs::File, offset: u64) -> io::Result<Uprobe> {
        let id = FileId::of(&file.metadata()?);
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        // In another's PID namespace we do not find ourselves.
        let held = if fs::metadata(&held).is_ok() { CString::new(held)? } else { CString::new(path)? };
        Ok(Uprobe { path: CString::new(path)?.into(), held: held.into(), offset, file: Arc::new(file), id })
    }

    /// Whether the file was written to since: what lies at the offset by now, nobody knows, and to stop there could break whoever runs it.
    pub(super) fn overwritten(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| FileId::of(&meta) != self.id)
    }

    /// What became of its file: written to, or another one by now under its name, as an upgrade makes it.
    pub(super) fn changed(&self) -> Option<String> {
        let path = self.path.to_string_lossy();
        if self.overwritten() {
            return Some(format!(
                "{path} was written to while it was recorded: the probe was taken out of it, and its calls are not counted any more; record again"
            ));
        }
        let same = fs::metadata(&*path).is_ok_and(|meta| FileId::of(&meta).is_same_file(self.id));
        (!same).then(|| {
            format!("{path} was replaced or removed while it was recorded: calls of the new file are not counted; record again")
        })
    }

    /// What keeps it from being met by processes that run: they have not mapped the file, or another one of its name.
    pub(super) fn unmet(&self, pids: &[Pid]) -> Option<String> {
        let path = self.path.to_string_lossy();
        let inode = fs::metadata(&*path).ok()?.ino();
        let mut namesake = None;
        for Pid(pid) in pids.iter().map(|&pid| teller(pid)) {
            let maps = procfs::process::Process::new(pid).and_then(|process| process.maps()).ok()?;
            if maps.iter().any(|map| map.inode == inode) {
                return None;
            }
            let named = |map: &&MemoryMap| matches!(&map.pathname, MMapPath::Path(other) if other.to_string_lossy().trim_end_matches(" (deleted)") == path);
            namesake = namesake.or(maps.iter().find(named).map(|map| (pid, map.address)));
        }
        Some(match namesake {
            Some((pid, (start, end))) => format!(
                "process {pid} has mapped another file that was {path} before: its calls are not seen; write uprobe:/proc/{pid}/map_files/{start:x}-{end:x}:…"
            ),
            None => format!("no process of the target has mapped {path} now: its calls are counted from when one does"),
        })
    }
}

/// Where the kernel describes its probes of programs.
const UPROBES: &str = "/sys/bus/event_source/devices/uprobe";

/// `uprobe:PATH:SYMBOL`, `uprobe:PATH:SYMBOL+OFFSET`, `uprobe:PATH:0xADDRESS`, and `uretprobe:` for returns; modifiers may follow.
pub(super) fn uprobe(spelling: &str) -> Option<Result<Event, EventError>> {
    let (returns, place) = match spelling.split_once(':')? {
        ("uprobe", place) => (false, place),
        ("uretprobe", place) => (true, place),
        _ => return None,
    };
    let fail = |reason: String| EventError::Uprobe { name: spelling.into(), reason };
    let Some((path, rest)) = place.split_once(':').filter(|(path, rest)| !path.is_empty() && !rest.is_empty()) else {
        return Some(Err(fail(
            "write uprobe:PATH:FUNCTION, uprobe:PATH:FUNCTION+OFFSET or uprobe:PATH:0xADDRESS".into(),
        )));
    };
    let (place, modifiers) = rest.split_once(':').unwrap_or((rest, ""));
    let opened = uprobe_event(spelling, path, place, returns).map_err(fail);
    Some(opened.and_then(|event| modified(event, modifiers)))
}

fn uprobe_event(spelling: &str, path: &str, place: &str, returns: bool) -> Result<Event, String> {
    let number = fs::read_to_string(format!("{UPROBES}/type"));
    let number = number.map_err(|error| format!("this kernel has no probes of programs ({UPROBES}: {error})"))?;
    let kind = number.trim().parse().map_err(|_| format!("{UPROBES}/type is no number"))?;
    let file =
        sys::open_regular(None, Path::new(path), true).map_err(|error| format!("cannot open {path}: {error}"))?;
    let offset = offset_of(&file, place, returns).map_err(|error| format!("{path}: {error}"))?;
    let function = place.split(['+', ':']).next().unwrap_or(place);
    let uprobe = Uprobe::new(path, file, offset).map_err(|error| format!("{path}: {error}"))?;
    Ok(Event {
        name: spelling.into(),
        value_name: function.replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        unit: Unit::Count,
        kind,
        config: returns.into(),
        rate: EACH,
        user: true,
        kernel: true,
        probe: None,
        uprobe: Some(uprobe),
        terms: Terms::default(),
    })
}

fn offset_of(file: &fs::File, place: &str, returns: bool) -> Result<u64, SiteError> {
    let map = sites::map(file)?;
    let code = Code::read(&map)?;
    let number = |text: &str| {
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
    };
    if let Some(address) = number(place) {
        return code.offset(address);
    }
    let (name, within) =
        place.rsplit_once('+').and_then(|(name, within)| Some((name, number(within)?))).unwrap_or((place, 0));
    let address = code.function(name)?;
    // Where it returns to is found at its very beginning.
    if within > 0 || returns { code.offset(address.saturating_add(within)) } else { Ok(code.site(address)?.offset) }
}
