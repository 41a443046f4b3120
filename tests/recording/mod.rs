//! Real stacks for tests and benchmarks: runs a command under `perf record --call-graph dwarf` and reads what it wrote.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests and benchmarks use a part each, and fail by panicking"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rprof::ids::{Address, ImageId, Rva};
use rprof::process::{AddressSpace, Content, Epochs, Image, Mapping};
use rprof::unwind::StackCopy;
use rprof::unwind::x86_64::Registers;

/// A user stack as the kernel copied it.
pub struct Sample {
    pub pid: u32,
    pub comm: String,
    pub space: AddressSpace,
    pub registers: Registers,
    pub stack: Vec<u8>,
    /// The user part of the kernel's callchain; empty where perf did not ask for one.
    pub chain: Vec<u64>,
}

impl Sample {
    pub fn copy(&self) -> StackCopy<'_> {
        StackCopy { start: Address(self.registers.gpr[7]), bytes: &self.stack }
    }
}

/// Everything that was recorded, with the files that were mapped.
#[derive(Default)]
pub struct Recording {
    pub samples: Vec<Sample>,
    pub images: Vec<Arc<Image>>,
    by_name: HashMap<String, Option<ImageId>>,
    epochs: Epochs,
}

/// Whether `perf record` works here.
pub fn perf_works() -> bool {
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-e", "cpu-clock:u", "-o", "/dev/null", "true"]);
    perf.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Recording {
    /// Records a command at `frequency` samples a second.
    pub fn of(command: &[&str], frequency: u32) -> Recording {
        let directory = tempfile::tempdir().expect("a directory for the recording");
        let file = directory.path().join("perf.data");
        let status = Command::new("perf")
            .args(["record", "-q", "-B", "-N", "-e", "cpu-clock:u", "--call-graph", "dwarf,65528", "-F"])
            .arg(frequency.to_string())
            .arg("-o")
            .arg(&file)
            .arg("--")
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("perf runs");
        assert!(file.exists(), "perf wrote nothing: {status}");
        Recording::read(&file)
    }

    fn read(file: &Path) -> Recording {
        let data = fs::read(file).expect("perf.data");
        let layout = Layout::of(&data);
        let mut records = Vec::new();
        let (mut at, end) = layout.data;
        while at + 8 <= end {
            let size = usize::from(u16_at(&data, at + 6));
            let record = &data[at..at + size];
            // Records from 64 on are perf's own, and not about the processes.
            if u32_at(record, 0) < 64 {
                records.push((layout.time(record), record));
            }
            at += size.max(8);
        }
        records.sort_by_key(|&(time, _)| time);
        let mut recording = Recording::default();
        let mut spaces: HashMap<u32, (AddressSpace, String)> = HashMap::new();
        for (_, record) in records {
            recording.take(&layout, record, &mut spaces);
        }
        recording
    }

    fn take(&mut self, layout: &Layout, record: &[u8], spaces: &mut HashMap<u32, (AddressSpace, String)>) {
        const EXEC: u16 = 1 << 13;
        let (kind, misc) = (u32_at(record, 0), u16_at(record, 4));
        let pid = u32_at(record, 8);
        match kind {
            3 => {
                let entry = spaces.entry(pid).or_insert_with(|| (AddressSpace::new(&mut self.epochs), String::new()));
                entry.1 = string(&record[16..]);
                if misc & EXEC != 0 {
                    entry.0.clear(&mut self.epochs);
                }
            }
            7 => {
                let parent = u32_at(record, 12);
                if let Some(space) = spaces.get(&parent).cloned().filter(|_| parent != pid) {
                    spaces.insert(pid, space);
                }
            }
            10 if u32_at(record, 64) & 4 != 0 => {
                let (start, length, offset) = (u64_at(record, 16), u64_at(record, 24), u64_at(record, 32));
                let content = self.content(&string(&record[72..]), start, offset);
                let mapping = Mapping { start: Address(start), end: Address(start + length), content };
                let entry = spaces.entry(pid).or_insert_with(|| (AddressSpace::new(&mut self.epochs), String::new()));
                entry.0.insert(mapping, &mut self.epochs);
            }
            9 => {
                let pid = layout.sample_pid(record);
                if let (Some((space, comm)), Some((registers, stack, chain))) =
                    (spaces.get(&pid), layout.sample(record))
                {
                    let (space, comm) = (space.clone(), comm.clone());
                    self.samples.push(Sample { pid, comm, space, registers, stack, chain });
                }
            }
            _ => {}
        }
    }

    fn content(&mut self, name: &str, start: u64, offset: u64) -> Content {
        let images = &mut self.images;
        let image = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
            let id = ImageId(images.len() as u32);
            let image = if name == "[vdso]" {
                Image::from_bytes(id, name, own_vdso()?)
            } else {
                Image::from_file(id, name, &File::open(name).ok()?)
            };
            images.push(image.ok()?);
            Some(id)
        });
        let base = image.map(|id| {
            let rva = self.images[id.0 as usize].rva_of_offset(if name == "[vdso]" { 0 } else { offset });
            (id, start.wrapping_sub(rva.unwrap_or(Rva(offset)).0))
        });
        base.map_or(Content::Anonymous, |(image, bias)| Content::Image { image, bias })
    }
}

/// The vDSO is the same in every process.
fn own_vdso() -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let mut bytes = vec![0; (end - start) as usize];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
    Some(bytes)
}

/// What the file's one event says of its records.
struct Layout {
    data: (usize, usize),
    sample_type: u64,
    registers: u64,
}

const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const CALLCHAIN: u64 = 1 << 5;
const REGS_USER: u64 = 1 << 12;
const STACK_USER: u64 = 1 << 13;
const IDENTIFIER: u64 = 1 << 16;
/// The fields of a sample between its start and the callchain, each of eight bytes: identifier, IP, TID, time, address, id,
/// stream id, CPU, period.
const HEAD: [u64; 9] = [IDENTIFIER, 1, TID, TIME, 1 << 3, 1 << 6, 1 << 9, 1 << 7, 1 << 8];
/// The fields of `struct sample_id`, last first.
const TRAILER: [u64; 5] = [IDENTIFIER, 1 << 7, 1 << 9, 1 << 6, TIME];

impl Layout {
    fn of(data: &[u8]) -> Layout {
        let attributes = u64_at(data, 24) as usize;
        let start = u64_at(data, 40) as usize;
        Layout {
            data: (start, start + u64_at(data, 48) as usize),
            sample_type: u64_at(data, attributes + 24),
            registers: u64_at(data, attributes + 80),
        }
    }

    fn head(&self, field: u64) -> usize {
        let before = HEAD.iter().take_while(|&&f| f != field).filter(|&&f| self.sample_type & f != 0);
        8 + 8 * before.count()
    }

    fn sample_pid(&self, record: &[u8]) -> u32 {
        u32_at(record, self.head(TID))
    }

    fn time(&self, record: &[u8]) -> u64 {
        match u32_at(record, 0) {
            9 => u64_at(record, self.head(TIME)),
            _ => {
                let fields = TRAILER.iter().filter(|&&field| self.sample_type & field != 0).count();
                u64_at(record, record.len() - 8 * fields)
            }
        }
    }

    fn sample(&self, record: &[u8]) -> Option<(Registers, Vec<u8>, Vec<u64>)> {
        let mut at = self.head(0);
        let word = |at: &mut usize| {
            *at += 8;
            u64_at(record, *at - 8)
        };
        let mut chain = Vec::new();
        if self.sample_type & CALLCHAIN != 0 {
            let length = word(&mut at);
            chain = (0..length).map(|_| word(&mut at)).collect();
        }
        assert_eq!(self.sample_type & (REGS_USER | STACK_USER), REGS_USER | STACK_USER);
        if word(&mut at) != 2 {
            return None;
        }
        let values: Vec<u64> = (0..self.registers.count_ones()).map(|_| word(&mut at)).collect();
        let size = word(&mut at) as usize;
        let copied = u64_at(record, at + size) as usize;
        // PERF_CONTEXT_USER begins the user's part.
        let user = chain.iter().position(|&address| address == -512_i64 as u64).map_or(chain.len(), |at| at + 1);
        let stack = record[at..at + copied.min(size)].to_vec();
        Some((Registers::from_perf(self.registers, &values)?, stack, chain.split_off(user)))
    }
}

fn string(bytes: &[u8]) -> String {
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*data[at..].first_chunk().unwrap())
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*data[at..].first_chunk().unwrap())
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*data[at..].first_chunk().unwrap())
}
