//! What a file tells of the machine and its kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::ids::{BuildId, Timestamp};
use crate::sys;

/// A clock of the kernel that times are told by (`perf_event_attr.clockid`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelClock {
    /// `CLOCK_MONOTONIC`, by which all events of ours are timed.
    #[default]
    Monotonic,
    /// Another, by how many nanoseconds it was ahead of it when the recording began. Their seconds are the same.
    Other {
        /// Its number.
        id: i32,
        /// How far it is ahead.
        ahead: i64,
    },
}

impl KernelClock {
    /// A clock by its number; `None` for one that does not keep step with `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn new(id: i32) -> Option<KernelClock> {
        match id {
            libc::CLOCK_MONOTONIC => Some(KernelClock::Monotonic),
            libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI => {
                let ahead = i128::from(now(id)) - i128::from(now(libc::CLOCK_MONOTONIC));
                Some(KernelClock::Other { id, ahead: ahead as i64 })
            }
            _ => None,
        }
    }

    pub(super) fn id(self) -> i32 {
        match self {
            KernelClock::Monotonic => libc::CLOCK_MONOTONIC,
            KernelClock::Other { id, .. } => id,
        }
    }

    /// A time of ours on this clock.
    pub(super) fn of(self, time: Timestamp) -> Timestamp {
        match self {
            KernelClock::Monotonic => time,
            KernelClock::Other { ahead, .. } => Timestamp(time.0.wrapping_add_signed(ahead)),
        }
    }

    /// Nanoseconds between two ticks.
    pub(super) fn resolution(self) -> u64 {
        clock_getres(ClockId::from_raw(self.id())).map_or(1, |time| Duration::from(time).as_nanos() as u64)
    }

    /// Nanoseconds since 1970, and the same moment on this clock.
    pub(super) fn both(self) -> (u64, u64) {
        (now(libc::CLOCK_REALTIME), self.of(Timestamp(now(libc::CLOCK_MONOTONIC))).0)
    }
}

fn now(clock: i32) -> u64 {
    clock_gettime(ClockId::from_raw(clock)).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// The machine, in the words that perf uses.
pub(super) struct Machine {
    pub(super) host: String,
    pub(super) release: String,
    pub(super) architecture: String,
    /// CPUs there are, and those on line.
    pub(super) cpus: [u32; 2],
    pub(super) cpu: String,
    pub(super) cpu_id: String,
    pub(super) memory_kb: u64,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let uname = nix::sys::utsname::uname().ok();
        let told = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map_or(String::new(), |uname| part(uname).to_string_lossy().into_owned())
        };
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let of_cpu = |name: &str| field(&info, name).unwrap_or_default().to_owned();
        let family = ["vendor_id", "cpu family", "model", "stepping"].map(of_cpu);
        let midr = || fs::read_to_string("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1");
        let cpu_id = if family[0].is_empty() { midr().unwrap_or_default().trim().to_owned() } else { family.join(",") };
        let cpu = of_cpu("model name");
        let count = |list: &str| cpu_count(&fs::read_to_string(format!("/sys/devices/system/cpu/{list}")).ok()?);
        let online = count("online").or_else(|| Some(std::thread::available_parallelism().ok()?.get() as u32));
        let online = online.unwrap_or(1);
        Machine {
            host: told(|uname| uname.nodename()),
            release: told(|uname| uname.release()),
            architecture: told(|uname| uname.machine()),
            cpus: [count("present").unwrap_or(online), online],
            // Readers take it for granted that these have a text.
            cpu: if cpu.is_empty() { "unknown".into() } else { cpu },
            cpu_id: if cpu_id.is_empty() { "unknown".into() } else { cpu_id },
            memory_kb: field(&memory, "MemTotal")
                .and_then(|size| size.split(' ').next()?.parse().ok())
                .unwrap_or_default(),
        }
    }
}

/// The value behind `name :` in a file of `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// How many CPUs a list such as `0-3,8` names.
fn cpu_count(list: &str) -> Option<u32> {
    let parts = list.trim().split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    });
    parts.sum()
}

/// Where the kernel or a module of it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelMap {
    pub(super) start: u64,
    pub(super) size: u64,
    /// For the kernel the address of `_text`, by which readers tell where it was moved to.
    pub(super) offset: u64,
    /// `[kernel.kallsyms]_text`, or a module's file, or its name in brackets.
    pub(super) name: String,
    pub(super) build_id: Option<BuildId>,
}

/// The kernel and its modules; nothing where this user may not see addresses.
pub(super) fn kernel_maps(root: &Path) -> Vec<KernelMap> {
    let text = kernel_text(&root.join("proc/kallsyms")).map(|(start, end)| KernelMap {
        start,
        size: end - start,
        offset: start,
        name: "[kernel.kallsyms]_text".into(),
        build_id: fs::read(root.join("sys/kernel/notes")).ok().and_then(|notes| gnu_build_id(&notes)),
    });
    text.into_iter().chain(modules(root)).collect()
}

/// First and last address of the kernel's code.
fn kernel_text(kallsyms: &Path) -> Option<(u64, u64)> {
    let (mut start, mut end) = (None, None);
    for line in BufReader::with_capacity(1 << 16, sys::open_regular(None, kallsyms, true).ok()?).lines() {
        let line = line.ok()?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), _, Some(name)) = (words.next(), words.next(), words.next()) else { continue };
        match name {
            "_text" => start = u64::from_str_radix(address, 16).ok(),
            "_stext" => start = start.or(u64::from_str_radix(address, 16).ok()),
            "_etext" => end = u64::from_str_radix(address, 16).ok(),
            _ => continue,
        }
        if let (Some(start), Some(end)) = (start, end) {
            return (start > 0 && end > start).then_some((start, end));
        }
    }
    None
}

fn modules(root: &Path) -> Vec<KernelMap> {
    let list = fs::read_to_string(root.join("proc/modules")).unwrap_or_default();
    if list.is_empty() {
        return Vec::new();
    }
    let files = module_files(root);
    let module = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, size, address) = (words.first()?, words.get(1)?, words.get(5)?);
        let start = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok().filter(|&start| start > 0)?;
        let notes = fs::read(root.join(format!("sys/module/{name}/notes/.note.gnu.build-id"))).ok();
        Some(KernelMap {
            start,
            size: size.parse().ok()?,
            offset: 0,
            name: files.get(*name).cloned().unwrap_or_else(|| format!("[{name}]")),
            build_id: notes.and_then(|notes| gnu_build_id(&notes)),
        })
    };
    list.lines().filter_map(module).collect()
}

/// The files of all modules that could be loaded, by name.
fn module_files(root: &Path) -> BTreeMap<String, String> {
    let release = nix::sys::utsname::uname().map_or(String::new(), |uname| uname.release().to_string_lossy().into());
    let folder = format!("/lib/modules/{release}");
    let list = fs::read_to_string(root.join(&folder[1..]).join("modules.dep")).unwrap_or_default();
    let file = |line: &str| {
        let path = line.split(':').next()?;
        let name = path.rsplit('/').next()?.split(".ko").next()?.replace('-', "_");
        Some((name, format!("{folder}/{path}")))
    };
    list.lines().filter_map(file).collect()
}

/// The build ID among ELF notes: `{ u32 namesz, descsz, type; char name[]; u8 desc[]; }`, each part padded to four bytes.
fn gnu_build_id(mut notes: &[u8]) -> Option<BuildId> {
    const BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (name_size, size) = (word(0) as usize, word(4) as usize);
        let name = rest.get(..name_size)?;
        let rest = rest.get(name_size.checked_next_multiple_of(4)?..)?;
        let bytes = rest.get(..size)?;
        if word(8) == BUILD_ID && name == b"GNU\0" {
            return BuildId::new(bytes);
        }
        notes = rest.get(size.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_its_modules_are_read_from_proc() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/kallsyms", b"ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff82000000 T _etext\n");
        write("proc/modules", b"ext4 4096 1 jbd2, Live 0xffffffffc0000000\nhidden 1 0 - Live 0x0000000000000000\n");
        let note = [&[4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[0xab, 0xcd, 0, 0]].concat();
        write("sys/module/ext4/notes/.note.gnu.build-id", &note);
        let maps = kernel_maps(root.path());
        let names: Vec<_> = maps.iter().map(|map| (map.name.as_str(), map.start, map.size)).collect();
        let (kernel, module) = (0xffff_ffff_8100_0000, 0xffff_ffff_c000_0000);
        assert_eq!(names, [("[kernel.kallsyms]_text", kernel, 0x100_0000), ("[ext4]", module, 4096)]);
        assert_eq!(maps[1].build_id.as_ref().unwrap().to_string(), "abcd");
    }

    #[test]
    fn addresses_that_are_hidden_are_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0000000000000000 T _text\n0000000000000000 T _etext\n").unwrap();
        assert_eq!(kernel_text(file.path()), None);
    }

    #[test]
    fn cpus_are_counted() {
        assert_eq!((cpu_count("0-3,8\n"), cpu_count("5"), cpu_count("")), (Some(5), Some(1), None));
    }
}
