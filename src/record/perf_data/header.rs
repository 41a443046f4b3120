//! What a file says of itself: events, and features (`HEADER_*`), each of which may be missing.

use rustc_hash::FxHashMap;

use super::attr::Attr;
use super::fields::{Fields, text};
use super::format::Feature;
use crate::ids::{BuildId, Pid, Timestamp};

/// A file of code that had samples, by its build ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedImage {
    /// -1 for all processes; of a guest's kernel another.
    pub pid: Pid,
    /// The build ID.
    pub build_id: BuildId,
    /// Its path, or a name in brackets.
    pub name: String,
}

/// The same moment on two clocks (`HEADER_CLOCK_DATA`), in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_*` of the samples.
    pub id: u32,
    /// Since 1970.
    pub wall: u64,
    /// On the clock of the samples.
    pub time: u64,
}

/// The header.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The events.
    pub attrs: Vec<Attr>,
    /// The host's name.
    pub hostname: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// The machine, as `uname -m` tells it.
    pub arch: Option<String>,
    /// The version of what wrote the file.
    pub version: Option<String>,
    /// CPUs that were there and that were online.
    pub cpus: Option<(u32, u32)>,
    /// The model of the CPU.
    pub cpu_model: Option<String>,
    /// Kilobytes of memory.
    pub memory: Option<u64>,
    /// The command line.
    pub command: Vec<String>,
    /// Times of the first and last sample.
    pub sample_time: Option<(Timestamp, Timestamp)>,
    /// The clock of the samples, and what it showed when.
    pub clock: Option<Clock>,
    /// Files of code that had samples.
    pub images: Vec<RecordedImage>,
    /// Bits of the features that the file has.
    pub features: [u64; 4],
}

/// Entries of a list in a feature: more than any file has.
const MOST_ENTRIES: u32 = 1 << 20;

impl Header {
    /// Whether the file has a feature.
    #[must_use]
    pub fn has(&self, feature: u32) -> bool {
        self.features.get(feature as usize / 64).is_some_and(|word| word >> (feature % 64) & 1 == 1)
    }

    /// Reads a feature's section. One that is cut short tells what it has, or nothing.
    pub(super) fn read_feature(&mut self, feature: u32, bytes: &[u8], swapped: bool) {
        if let Some(word) = self.features.get_mut(feature as usize / 64) {
            *word |= 1 << (feature % 64);
        }
        let mut fields = Fields::new(bytes, swapped);
        let is = |wanted: Feature| feature == wanted as u32;
        if is(Feature::Hostname) {
            self.hostname = fields.string();
        } else if is(Feature::OsRelease) {
            self.release = fields.string();
        } else if is(Feature::Arch) {
            self.arch = fields.string();
        } else if is(Feature::Version) {
            self.version = fields.string();
        } else if is(Feature::CpuDesc) {
            self.cpu_model = fields.string();
        } else if is(Feature::NrCpus) {
            self.cpus = fields.u32().zip(fields.u32());
        } else if is(Feature::TotalMem) {
            self.memory = fields.u64();
        } else if is(Feature::CmdLine) {
            let count = fields.u32().unwrap_or(0).min(MOST_ENTRIES);
            self.command = (0..count).map_while(|_| fields.string()).collect();
        } else if is(Feature::SampleTime) {
            self.sample_time = fields.u64().zip(fields.u64()).map(|(first, last)| (Timestamp(first), Timestamp(last)));
        } else if is(Feature::ClockData) {
            self.clock = read_clock(fields);
        } else if is(Feature::EventDesc) {
            let _ = self.read_descriptions(fields);
        } else if is(Feature::BuildId) {
            self.read_build_ids(fields);
        }
    }

    /// `{ u32 nr; u32 attr_size; { attr; u32 nr_ids; string name; u64 ids[nr_ids]; }[nr]; }`
    fn read_descriptions(&mut self, mut fields: Fields<'_>) -> Option<()> {
        let (count, size) = (fields.u32()?, usize::try_from(fields.u32()?).ok()?);
        let known = self.attrs.iter().enumerate().flat_map(|(at, attr)| attr.ids.iter().map(move |&id| (id, at)));
        let known: FxHashMap<u64, usize> = known.collect();
        for at in 0..count.min(MOST_ENTRIES) as usize {
            fields.bytes(size)?;
            let ids = fields.u32()?;
            let name = fields.string()?;
            let ids = (0..ids).map_while(|_| fields.u64()).collect::<Vec<u64>>();
            // In the order of the attrs, but only ids prove it.
            let of = ids.iter().find_map(|id| known.get(id)).copied().unwrap_or(at);
            if let Some(attr) = self.attrs.get_mut(of) {
                attr.name = name;
                if attr.ids.is_empty() {
                    attr.ids = ids;
                }
            }
        }
        Some(())
    }

    /// Records without an end of their list.
    fn read_build_ids(&mut self, mut fields: Fields<'_>) {
        while let (Some(_kind), Some(misc), Some(size)) = (fields.u32(), fields.u16(), fields.u16()) {
            let Some(body) = usize::from(size).checked_sub(8).and_then(|size| fields.bytes(size)) else { return };
            let _ = self.read_build_id(misc, fields.of(body));
        }
    }

    /// `struct perf_record_header_build_id` without its header: `{ s32 pid; u8 build_id[24]; char filename[]; }`; the 21st byte of the
    /// id is its size, if the record says so.
    pub(super) fn read_build_id(&mut self, misc: u16, mut fields: Fields<'_>) -> Option<()> {
        const HAS_SIZE: u16 = 1 << 15;
        let pid = Pid(fields.u32()? as i32);
        let id = fields.bytes(24)?;
        let size = if misc & HAS_SIZE != 0 { usize::from(id[20]).min(20) } else { 20 };
        let build_id = BuildId::new(&id[..size]).filter(|id| id.bytes().iter().any(|&byte| byte != 0))?;
        self.images.push(RecordedImage { pid, build_id, name: text(fields.rest()) });
        Some(())
    }
}

/// `{ u32 version, clockid; u64 wall_clock_ns, clockid_time_ns; }`
fn read_clock(mut fields: Fields<'_>) -> Option<Clock> {
    let (_version, id) = (fields.u32()?, fields.u32()?);
    Some(Clock { id, wall: fields.u64()?, time: fields.u64()? })
}
