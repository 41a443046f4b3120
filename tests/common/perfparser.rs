//! Reads what hotspot's perfparser makes of a perf.data: a stream of Qt's, big endian, of messages that define strings, symbols and places,
//! and samples that refer to them.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The stacks of all samples, root first; functions without a name are `?`.
pub fn stacks(file: &Path) -> Result<Vec<Vec<String>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = Command::new("hotspot-perfparser")
        .args([Path::new("--input"), file, Path::new("--output"), &out])
        .stdin(Stdio::null())
        .output()
        .expect("run hotspot-perfparser; see scripts/install-test-tools");
    let bytes = std::fs::read(&out).unwrap_or_default();
    let said = String::from_utf8_lossy(&run.stderr);
    let messages =
        messages(&bytes).filter(|_| run.status.success()).ok_or_else(|| format!("{:?}: {said}", run.status))?;
    Ok(stacks_of(&messages))
}

/// `"QPERFSTREAM\0" i32 version { u32 size (little endian); u8 type; … }*`
fn messages(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let start = bytes.windows(12).position(|magic| magic == b"QPERFSTREAM\0")? + 16;
    let mut rest = bytes.get(start..)?;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let size = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let message = rest.get(4..4 + size)?;
        messages.push((*message.first()?, &message[1..]));
        rest = &rest[4 + size..];
    }
    Some(messages)
}

fn number(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(-1, |bytes| i32::from_be_bytes(*bytes))
}

fn stacks_of(messages: &[(u8, &[u8])]) -> Vec<Vec<String>> {
    const LOCATION: u8 = 3;
    const SYMBOL: u8 = 4;
    const STRING: u8 = 5;
    const SAMPLES: [u8; 2] = [13, 14];
    let of = |kind: u8| messages.iter().filter(move |(other, _)| *other == kind).map(|(_, bytes)| *bytes);
    let strings: HashMap<i32, String> =
        of(STRING).map(|text| (number(text, 0), String::from_utf8_lossy(&text[8..]).into_owned())).collect();
    // A place that has no symbol of its own is one of a function, which has.
    let parents: HashMap<i32, i32> = of(LOCATION).map(|place| (number(place, 0), number(place, 28))).collect();
    let symbols: HashMap<i32, &String> =
        of(SYMBOL).filter_map(|symbol| Some((number(symbol, 0), strings.get(&number(symbol, 4))?))).collect();
    let name = |place: i32| {
        let symbol = symbols.get(&place).or_else(|| symbols.get(parents.get(&place)?));
        symbol.map_or_else(|| "?".to_owned(), |name| (*name).clone())
    };
    // `i32 pid, tid; u64 time; u32 cpu; { u32 count; i32 place; }`, the leaf first.
    let stack = |sample: &[u8]| {
        let frames = number(sample, 20).max(0) as usize;
        (0..frames).rev().map(|frame| name(number(sample, 24 + 4 * frame))).collect()
    };
    messages.iter().filter(|(kind, _)| SAMPLES.contains(kind)).map(|(_, bytes)| stack(bytes)).collect()
}
