//! Stacks for people, in gdb's shape.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;

use super::{Kind, ShownFrame, frames, summary};
use crate::cli::show::printable;
use crate::ids::Pid;
use crate::profile::LocationId;
use crate::session::stack::{Stacks, Thread};

/// A block for each thread, or for all threads of a process that have the same stack, state and wait channel.
pub(super) fn render(stacks: &Stacks, each: bool) -> String {
    let mut out = String::new();
    let time = Timestamp::try_from(stacks.time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(TimeZone::system());
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# {}, at {}", summary(stacks), time.strftime("%F %T%.3f %:z"));
    for remark in &stacks.remarks {
        let _ = writeln!(out, "# {}", printable(remark));
    }
    for of_one in stacks.threads.chunk_by(|a, b| a.task.pid == b.task.pid) {
        let groups = if each { of_one.iter().map(|thread| vec![thread]).collect() } else { groups(of_one) };
        process(of_one, groups.len(), each, &mut out);
        for group in groups {
            out.push('\n');
            head(&group, &mut out);
            body(stacks, group.first().map_or(&[], |thread| &thread.stack), &mut out);
        }
    }
    out
}

fn process(threads: &[Thread], stacks: usize, each: bool, out: &mut String) {
    let Some(first) = threads.first() else { return };
    let leader = threads.iter().find(|thread| thread.task.tid.0 == thread.task.pid.0).unwrap_or(first);
    let (Pid(pid), name) = (first.task.pid, printable(&leader.task.comm));
    let distinct = if each { String::new() } else { format!(", distinct stacks: {stacks}") };
    let _ = writeln!(out, "\nprocess {pid} {name}, threads: {}{distinct}", threads.len());
}

/// What makes threads look the same.
type Look<'a> = (&'a [LocationId], char, Option<&'a str>, bool);

/// Most threads first, and of as many the one with the lowest number.
fn groups(threads: &[Thread]) -> Vec<Vec<&Thread>> {
    let mut index: FxHashMap<Look<'_>, usize> = FxHashMap::default();
    let mut groups: Vec<Vec<&Thread>> = Vec::new();
    for thread in threads {
        let look = (&thread.stack[..], thread.task.state, thread.task.wait_channel.as_deref(), thread.moved);
        let at = *index.entry(look).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(thread);
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

fn head(group: &[&Thread], out: &mut String) {
    let Some(first) = group.first() else { return };
    let state = state(first);
    if group.len() == 1 {
        let _ = writeln!(out, "{} {}  {state}", first.task.tid.0, printable(&first.task.comm));
    } else {
        let _ = writeln!(out, "{} threads  {state}\n  {}", group.len(), members(group));
    }
}

/// `S (sleeping)  futex_do_wait`.
fn state(thread: &Thread) -> String {
    let word = match thread.task.state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "uninterruptible",
        'T' => "stopped",
        't' => "held by a tracer",
        'Z' | 'X' => "ended",
        'I' => "idle",
        _ => "unknown",
    };
    let mut text = format!("{} ({word})", thread.task.state);
    if let Some(channel) = &thread.task.wait_channel {
        let _ = write!(text, "  {}", printable(channel));
    }
    if thread.moved {
        text.push_str("  (went on before it was held)");
    }
    text
}

/// `worker 12-15 20, main 11`: consecutive numbers of one name as a range.
fn members(group: &[&Thread]) -> String {
    let mut names: Vec<(&str, Vec<(i32, i32)>)> = Vec::new();
    let mut index: FxHashMap<&str, usize> = FxHashMap::default();
    for thread in group {
        let (comm, tid) = (thread.task.comm.as_str(), thread.task.tid.0);
        let at = *index.entry(comm).or_insert_with(|| {
            names.push((comm, Vec::new()));
            names.len() - 1
        });
        match names[at].1.last_mut() {
            Some((_, last)) if *last + 1 == tid => *last = tid,
            _ => names[at].1.push((tid, tid)),
        }
    }
    let range = |&(first, last): &(i32, i32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let names = names.into_iter().map(|(name, ranges)| {
        format!("{} {}", printable(name), ranges.iter().map(range).collect::<Vec<_>>().join(" "))
    });
    names.collect::<Vec<_>>().join(", ")
}

fn body(stacks: &Stacks, stack: &[LocationId], out: &mut String) {
    let mut number = 0;
    for shown in frames(&stacks.profile, stack) {
        if shown.kind == Kind::Marker {
            let _ = writeln!(out, "       {}", shown.function);
        } else {
            let _ = writeln!(out, "  #{number:<3} {}", frame(&shown));
            number += 1;
        }
    }
}

/// `0x000000000000115c main at chain.c:23 (chain)`.
fn frame(frame: &ShownFrame<'_>) -> String {
    let function = printable(frame.function);
    if frame.kind == Kind::Kernel {
        // Of a module, its name stands for the file.
        let module = if frame.file.is_empty() { "[kernel]".into() } else { printable(frame.file) };
        return format!("{:18} {function} {module}", "");
    }
    let mut text = format!("{:#018x} {function}", frame.address);
    if !frame.file.is_empty() {
        let _ = write!(text, " at {}", printable(frame.file));
        if frame.line > 0 {
            let _ = write!(text, ":{}", frame.line);
        }
    }
    let module = frame.module.rsplit('/').next().unwrap_or(frame.module);
    let inlined = if frame.kind == Kind::Inlined { " inlined" } else { "" };
    let _ = write!(text, " ({}){inlined}", printable(module));
    text
}
