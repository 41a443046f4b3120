//! What tells the fields of tracepoints apart: the format files of tracefs, in the form of `tools/perf/util/trace-event-info.c`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::records::Builder;
use crate::record::perf_data::format::user_record;

/// What the data begins with, and its version.
const MAGIC: &[u8] = b"\x17\x08Dtracing";
const VERSION: &[u8] = b"0.6\0";

/// The description of tracepoints (`SYSTEM:NAME`), as a file holds it.
///
/// ```text
/// magic | version | big endian? u8 | size of a long u8 | page size u32 | "header_page\0" sized | "header_event\0" sized
///   | formats of the system "ftrace" | u32 systems { name\0, formats } | kallsyms | printk formats | names of tasks
/// formats: u32 count, { u64 size, text } each     the last three: u32, u32 and u64 size, text
/// ```
///
/// # Errors
/// If tracefs is not there, or may not be read.
pub fn tracing_data<'a>(tracefs: &Path, tracepoints: impl Iterator<Item = &'a str>) -> io::Result<Vec<u8>> {
    let events = tracefs.join("events");
    let mut systems: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for tracepoint in tracepoints {
        // Modifiers may follow.
        let mut parts = tracepoint.split(':');
        let (Some(system), Some(name)) = (parts.next(), parts.next()) else { continue };
        let format = fs::read(events.join(system).join(name).join("format"))?;
        let formats = systems.entry(system).or_default();
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    let mut out = [MAGIC, VERSION, &[u8::from(cfg!(target_endian = "big")), size_of::<usize>() as u8]].concat();
    out.extend((crate::sys::page_size() as u32).to_ne_bytes());
    for name in ["header_page", "header_event"] {
        out.extend(name.as_bytes());
        out.push(0);
        sized(&mut out, &read_at_once(&events.join(name))?);
    }
    put_formats(&mut out, &systems.remove("ftrace").unwrap_or_default());
    out.extend((systems.len() as u32).to_ne_bytes());
    for (system, formats) in &systems {
        out.extend(system.as_bytes());
        out.push(0);
        put_formats(&mut out, formats);
    }
    // The kernel's symbols: readers have them from elsewhere.
    out.extend(0_u32.to_ne_bytes());
    let printk = fs::read(tracefs.join("printk_formats")).unwrap_or_default();
    out.extend((printk.len() as u32).to_ne_bytes());
    out.extend(printk);
    sized(&mut out, &fs::read(tracefs.join("saved_cmdlines")).unwrap_or_default());
    Ok(out)
}

/// These files tell all in one read, and nothing in a second.
fn read_at_once(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << 16];
    let read = File::open(path)?.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn put_formats(out: &mut Vec<u8>, formats: &[Vec<u8>]) {
    out.extend((formats.len() as u32).to_ne_bytes());
    formats.iter().for_each(|format| sized(out, format));
}

fn sized(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_ne_bytes());
    out.extend(text);
}

/// The same in a pipe: a record that tells the size of what lies behind it.
pub(super) fn record(out: &mut Vec<u8>, tracing: &[u8]) {
    let room = tracing.len().next_multiple_of(8);
    Builder::begin(out, user_record::HEADER_TRACING_DATA, 0).u32(room as u32).end();
    let end = out.len() + room;
    out.extend_from_slice(tracing);
    out.resize(end, 0);
}
