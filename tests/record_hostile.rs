//! Targets that lie or break what rprof reads: it must go on, keep its memory in bounds, and name what can be named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use common::programs::{self, c, shared_object};
use common::recording::{Recorded, record, text};
use rprof::health::Count;

const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
const BURN: &[&str] = &["_start", "…", "main", "burn", "burn_leaf", "spin"];

/// A deterministic source of damage.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Copies of an ELF file with each kind of damage.
fn damaged(original: &Path, folder: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(original).unwrap();
    let mut random = Random(1);
    let mut copies: Vec<Vec<u8>> = vec![b"\x7fELF".to_vec(), b"no ELF at all".to_vec(), vec![0xff; 5000]];
    for length in [16, 52, 64, 120, 4096, 5000, bytes.len() / 2, bytes.len() - 1] {
        copies.push(bytes[..length].to_vec());
    }
    // Anywhere, in the headers, and everything behind the headers.
    for (range, flips) in
        [(0..bytes.len(), 40), (0..bytes.len(), 4000), (16..64, 6), (64..800, 60), (800..bytes.len(), 9000)]
    {
        for _ in 0..8 {
            let mut copy = bytes.clone();
            for _ in 0..flips {
                copy[range.start + random.below(range.len())] = random.below(256) as u8;
            }
            copies.push(copy);
        }
    }
    // Section headers and their number point to the end of the world.
    let mut copy = bytes;
    copy[40..48].fill(0xff);
    copy[60..64].fill(0xff);
    copies.push(copy);
    let write = |(at, copy): (usize, Vec<u8>)| {
        let path = folder.join(format!("damaged-{at}.so"));
        fs::write(&path, copy).unwrap();
        path
    };
    copies.into_iter().enumerate().map(write).collect()
}

#[test]
fn code_that_is_no_elf_or_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = c("hostile.c", O2);
    let mut command = vec![text(&program).to_owned(), "0.4".into(), "map".into()];
    for original in [shared_object("plugin.c", &["-O2"]), program.clone()] {
        let inner = folder.path().join(original.file_stem().unwrap());
        fs::create_dir(&inner).unwrap();
        command.extend(damaged(&original, &inner).iter().map(|path| text(path).to_owned()));
    }
    let recorded = record(&["-F", "2999"], &command);
    assert_eq!(recorded.attempt.status, Some(0), "{}", recorded.top());
    assert!(recorded.share(BURN) > 0.9, "{}", recorded.top());
    assert!(recorded.health(Count::ImagesFailed) > 0, "{}", recorded.top());
    // The same for one that has them mapped already.
    command[1] = "0".into();
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    let running = programs::run(&program, &arguments);
    let pid = running.pid().to_string();
    let recorded = record::<&str>(&["-F", "2999", "-p", &pid, "--duration", "0.3"], &[]);
    assert!(recorded.share(BURN) > 0.95, "{}", recorded.top());
}

#[test]
fn a_file_that_is_truncated_while_it_is_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.so");
    fs::copy(shared_object("plugin.c", &["-O2", "-Wl,-Bsymbolic"]), &plugin).unwrap();
    let recorded = record(&["-F", "2999"], &[text(&c("hostile.c", O2)), "0.4", "truncate", text(&plugin)]);
    assert_eq!(recorded.attempt.status, Some(0), "{}", recorded.top());
    assert_eq!(fs::metadata(&plugin).unwrap().len(), 0x2000);
    // Whatever the frames in the plugin are called now.
    let inside = recorded.share_of(|stack| stack.modules.last().is_some_and(|module| module == text(&plugin)));
    assert!(inside > 0.9, "{inside}: {}", recorded.top());
}

const JIT: &[&str] = &["-O2", "-fno-omit-frame-pointer"];

/// Records the program with code made at run time, after something was done to its perf map.
fn jit(change: impl FnOnce(&Path)) -> Recorded {
    let running = programs::run(&c("jit.c", JIT), &["0"]);
    let map = PathBuf::from(format!("/tmp/perf-{}.map", running.pid()));
    change(&map);
    let pid = running.pid().to_string();
    let recorded = record::<&str>(&["-F", "2999", "-p", &pid, "--duration", "0.3"], &[]);
    drop(running);
    fs::remove_file(map).unwrap();
    recorded
}

#[test]
fn a_huge_perf_map_takes_bounded_memory() {
    let recorded = jit(|map| {
        let mut block = String::new();
        for line in 0..20_000 {
            block.push_str(&format!("{:x} 10 a_function_with_a_name_of_usual_length_{line}\n", 0x10_0000 + line * 16));
        }
        let true_lines = fs::read(map).unwrap();
        let mut file = OpenOptions::new().append(true).open(map).unwrap();
        (0..200_000_000 / block.len()).for_each(|_| file.write_all(block.as_bytes()).unwrap());
        file.write_all(&true_lines).unwrap();
    });
    let named = recorded.share(&["_start", "…", "main", "enter", "jit_outer", "jit_leaf"]);
    assert!(named > 0.8, "{named}: {}", recorded.top());
    let said = &recorded.attempt.said;
    let memory = said.split(" MB of memory").next().and_then(|head| head.rsplit(' ').next()).unwrap();
    assert!(memory.parse::<u32>().unwrap() < 200, "{said}");
}

#[test]
fn a_perf_map_of_another_user_is_not_believed() {
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let recorded = jit(|map| std::os::unix::fs::chown(map, Some(nobody), None).unwrap());
    let unnamed = recorded.share(&["_start", "…", "main", "enter", "[anon]+0x*", "[anon]+0x*"]);
    assert!(unnamed > 0.8, "{unnamed}: {}", recorded.top());
    // Nor one that is no regular file, on which a reader would wait for ever.
    let recorded = jit(|map| {
        fs::remove_file(map).unwrap();
        nix::unistd::mkfifo(map, nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    assert!(recorded.share(&["_start", "…", "main", "enter", "[anon]+0x*", "[anon]+0x*"]) > 0.8, "{}", recorded.top());
    // Lines without sense cost only themselves.
    let recorded = jit(|map| {
        let true_lines = fs::read(map).unwrap();
        let mut file = File::create(map).unwrap();
        file.write_all(b"zz 10 x\n\xff\xfe\0\n10\n\n-5 +3 y\nffffffffffffffff ffff wraps\n").unwrap();
        file.write_all(&[b'x'; 100_000]).unwrap();
        file.write_all(b"\n").unwrap();
        file.write_all(&true_lines).unwrap();
    });
    let named = recorded.share(&["_start", "…", "main", "enter", "jit_outer", "jit_leaf"]);
    assert!(named > 0.8, "{named}: {}", recorded.top());
}
