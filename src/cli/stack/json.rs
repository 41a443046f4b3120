//! Stacks for programs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Kind, ShownFrame, frames, nanoseconds};
use crate::capture::snapshot::NoStack;
use crate::session::stack::{Stacks, Thread};

/// One document with all threads; docs/stack.md describes it.
pub(super) fn render(stacks: &Stacks) -> anyhow::Result<String> {
    let time = Timestamp::try_from(stacks.time).unwrap_or(Timestamp::UNIX_EPOCH);
    let document = json!({
        "time": time.to_string(),
        "held_ns": i64::try_from(nanoseconds(stacks)).unwrap_or(i64::MAX),
        "remarks": stacks.remarks,
        "threads": stacks.threads.iter().map(|of| thread(stacks, of)).collect::<Vec<_>>(),
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}

fn thread(stacks: &Stacks, thread: &Thread) -> Value {
    let task = &thread.task;
    let shown = || frames(&stacks.profile, &thread.stack);
    let marker = shown().find(|frame| frame.kind == Kind::Marker).map(|frame| frame.function);
    json!({
        "pid": task.pid.0,
        "tid": task.tid.0,
        "comm": task.comm,
        "state": task.state.to_string(),
        "wait_channel": task.wait_channel,
        "system_call": task.system_call,
        "moved": thread.moved,
        "no_user_stack": thread.missing.map(reason),
        "incomplete": marker,
        "frames": shown().filter(|frame| frame.kind != Kind::Marker).map(|of| frame(&of)).collect::<Vec<_>>(),
    })
}

fn reason(missing: NoStack) -> &'static str {
    match missing {
        NoStack::Uninterruptible => "uninterruptible",
        NoStack::NotInTime => "not_in_time",
        NoStack::KernelThread => "kernel_thread",
        NoStack::Ended => "ended",
        NoStack::Traced(_) => "traced",
        NoStack::Denied => "denied",
    }
}

fn frame(frame: &ShownFrame<'_>) -> Value {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let of_kernel = frame.kind == Kind::Kernel;
    // Of a function of the kernel, the module stands for the file.
    let module = if of_kernel { known(frame.file) } else { known(frame.module) };
    json!({
        "kind": frame.kind.name(),
        "function": frame.function,
        "address": (!of_kernel).then(|| format!("{:#x}", frame.address)),
        "file": if of_kernel { None } else { known(frame.file) },
        "line": (frame.line > 0).then_some(frame.line),
        "module": module,
    })
}
