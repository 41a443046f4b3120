//! Holds the street that `src/lib.rs` draws: data flows one way, so a station may import only from those before it, and `unsafe`
//! stays in `sys`. Tests inside the stations are held to it too.

#![allow(clippy::expect_used)] // a helper that cannot read the sources fails its test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The one station that may hold `unsafe` code.
const FENCE: &str = "sys";

#[test]
fn imports_run_one_way() {
    let street = street();
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let Some(station) = station_of(&file) else { continue };
        let Some(here) = street.iter().position(|name| *name == station) else {
            wrong.push(format!("{}: {station} has no place on the street that src/lib.rs draws", file.display()));
            continue;
        };
        for import in imports(&code) {
            if street.iter().position(|name| *name == import).is_some_and(|there| there > here) {
                wrong.push(format!("{}: {station} imports {import}, which lies behind it", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_inside_its_fence() {
    let outside = |file: &Path| station_of(file).as_deref() != Some(FENCE);
    let wrong: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|(file, code)| outside(file) && words(code).any(|word| word == "unsafe"))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "unsafe outside src/{FENCE}: {wrong:?}");
}

/// Who opens or reads files by path beside `sys`'s door, and of what: paths that neither a target nor whoever writes to a store chose.
const OPENERS: &[(&str, &str)] = &[
    ("capture/event.rs", "tracefs"),
    ("capture/live/open.rs", "/proc/sys/kernel"),
    ("capture/namespace.rs", "/proc/self"),
    ("capture/pmu.rs", "/sys/bus/event_source"),
    ("capture/selector.rs", "/proc/PID"),
    ("capture/snapshot.rs", "/proc/sys/kernel"),
    ("capture/snapshot/task.rs", "/proc/PID/task"),
    ("capture/target.rs", "/proc, /sys, and the folder of a cgroup"),
    ("capture/uprobe.rs", "/sys/bus/event_source"),
    ("cli/doctor.rs", "/proc and /sys"),
    ("cli/perf.rs", "/proc/sys/kernel"),
    ("encode/file.rs", "the profile that the user named, which may be a FIFO: <(command)"),
    ("process/labels.rs", "/proc/PID/cgroup"),
    ("process/maps.rs", "/proc/PID"),
    ("process/open.rs", "/proc/PID/root, as a place (O_PATH)"),
    ("record/perf_data/reader.rs", "the recording that the user named, which may be a FIFO, and the standard input"),
    ("record/perf_data/write/host.rs", "/proc and /sys"),
    ("record/perf_data/write/tracing.rs", "tracefs"),
    ("session/control.rs", "the FIFO of --control, opened without waiting"),
    ("session/replay.rs", "/sys/kernel/notes"),
    ("session/signals.rs", "/dev/tty"),
    ("sys/open.rs", "the door"),
    ("sys/output.rs", "the door for what is written"),
    ("web/guard.rs", "the token's file, which the user named"),
];

#[test]
fn files_are_opened_by_one_door() {
    let ways = [
        "File::open",
        "File::create",
        "File::options",
        "OpenOptions",
        "fs::read",
        "fs::read_to_string",
        "fs::write",
        "fs::copy",
    ];
    let opens = |code: &str| {
        ways.iter().any(|way| code.split(way).skip(1).any(|rest| rest.starts_with(['(', ':', ' ', ';', ','])))
    };
    let mut found = BTreeSet::new();
    for (file, code) in sources() {
        // Tests make the files that they open.
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        if opens(code) {
            found.insert(file.strip_prefix(root()).expect("a source lies below src").to_string_lossy().into_owned());
        }
    }
    let allowed: BTreeSet<String> = OPENERS.iter().map(|(file, _)| (*file).to_owned()).collect();
    let wrong: Vec<_> = found.difference(&allowed).collect();
    assert!(wrong.is_empty(), "these open files beside sys::open_regular, open_own and sys::output: {wrong:?}");
    let past: Vec<_> = allowed.difference(&found).collect();
    assert!(past.is_empty(), "these open no file any more and need not stand in OPENERS: {past:?}");
}

#[test]
fn the_reader_of_code_is_not_fooled() {
    let code = code_only(
        "a /* crate::b /* */ */ \"crate::c \\\" unsafe\" 'x' '\\'' r#\"crate::d\"# // crate::e\nfn f<'a>() {} crate::g",
    );
    assert_eq!(imports(&code), BTreeSet::from(["g".to_owned()]));
    assert!(words(&code).all(|word| word != "unsafe") && words(&code).any(|word| word == "fn"));
    let grouped = "use crate::{health::{Count, Health}, ids, sys::ring as r}; let x = crate::record::parse();";
    assert_eq!(imports(grouped), ["health", "ids", "record", "sys"].map(str::to_owned).into());
}

/// The stations in order, as the documentation of the crate draws them between the first pair of backticks that holds arrows.
fn street() -> Vec<String> {
    let text = fs::read_to_string(root().join("lib.rs")).expect("read src/lib.rs");
    let line =
        text.lines().find(|line| line.starts_with("//!") && line.contains('→')).expect("src/lib.rs draws the street");
    let drawn = line.split('`').find(|part| part.contains('→')).expect("the street stands between backticks");
    drawn.split(['·', '→']).map(|name| name.trim().to_owned()).collect()
}

/// The station that a file belongs to; none for `lib.rs` and `main.rs`, which only join the stations.
fn station_of(file: &Path) -> Option<String> {
    let first = file.strip_prefix(root()).ok()?.components().next()?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_str()?;
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// The names that follow `crate::`, those of `crate::{…}` too.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(words(rest).next().map(str::to_owned)),
        }
    }
    found
}

/// The first name of each entry of a group, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut entry) = (0, Vec::new(), String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(std::mem::take(&mut entry)),
            _ => {}
        }
        entry.push(letter);
    }
    heads.push(entry);
    heads.iter().filter_map(|entry| words(entry).next()).map(str::to_owned).collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// A source without its comments, strings and characters.
fn code_only(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        let skipped = length_of_text(rest);
        if skipped == 0 {
            code.push(letter);
        }
        rest = &rest[skipped.max(letter.len_utf8())..];
    }
    code
}

/// How many bytes at the start are a comment, a string or a character; 0 for code.
fn length_of_text(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return length_of_block(rest);
    }
    let hashes = rest.strip_prefix('r').map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let start = 2 + hashes;
        return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
    }
    match rest.chars().next() {
        Some('"') => length_of_quoted(rest, '"'),
        // `'a` is a lifetime, `'a'` and `'\n'` are characters.
        Some('\'') if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => length_of_quoted(rest, '\''),
        _ => 0,
    }
}

fn length_of_block(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = &rest.as_bytes()[at..];
        if step.starts_with(b"/*") {
            depth += 1;
        } else if step.starts_with(b"*/") {
            depth -= 1;
        }
        at += if step.starts_with(b"/*") || step.starts_with(b"*/") { 2 } else { 1 };
        if depth == 0 {
            break;
        }
    }
    at
}

fn length_of_quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list src").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let code = code_only(&fs::read_to_string(&path).expect("read a source"));
                files.push((path, code));
            }
        }
    }
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
