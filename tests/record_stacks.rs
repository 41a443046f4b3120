//! Whole stacks: each program of `tests/programs` is recorded as it runs, and what is known of it must be what the profile says.
//! Needs the right to open perf events on CPUs (root), and the compilers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::PathBuf;

use common::programs::{self, c, cpp, go, rust, shared_object};
use common::recording::{Recorded, Stack, record, text};
use rprof::health::Count;

/// Without frame pointers, as distributions compile.
const O2: &[&str] = &["-O2", "-fomit-frame-pointer"];
/// The CPU seconds of a program: 900 samples.
const SECONDS: &str = "0.3";
const RATE: &[&str] = &["-F", "2999"];

/// A program and the stack that nearly all of its samples have.
struct Case<'a> {
    program: PathBuf,
    arguments: &'a [&'a str],
    options: &'a [&'a str],
    /// The user frames, root first; see [`common::recording::Stack::is`].
    stack: &'a [&'a str],
    /// The least share of samples that have it. The rest is the program's start and the look at its clock.
    share: f64,
    /// The least share of stacks that reach the root.
    whole: f64,
}

impl<'a> Case<'a> {
    fn new(program: PathBuf, stack: &'a [&'a str]) -> Case<'a> {
        Case { program, arguments: &[], options: &[], stack, share: 0.93, whole: 0.995 }
    }

    fn record(&self) -> Recorded {
        let command = [&[text(&self.program), SECONDS], self.arguments].concat();
        record(&[RATE, self.options].concat(), &command)
    }

    fn check(&self) -> Recorded {
        let recorded = self.record();
        let (name, top) = (self.program.file_stem().unwrap().to_string_lossy(), recorded.top());
        assert_eq!(recorded.attempt.status, Some(0), "{name}: {top}");
        assert!(recorded.samples() > 60, "{name}: {top}");
        let share = recorded.share(self.stack);
        assert!(share >= self.share, "{name}: {share} of stacks are {:?}: {top}", self.stack);
        // Stacks walked before an image was open say so; a busy machine has some.
        let early = recorded.health(Count::StacksEarly);
        let whole = recorded.quality().complete_share().unwrap() + early as f64 / recorded.samples() as f64;
        assert!(
            early * 100 <= recorded.samples() && whole >= self.whole,
            "{name}: {whole} of stacks reach the root: {top}"
        );
        if !self.stack.iter().any(|frame| frame.contains("+0x")) {
            let path = text(&self.program);
            let unnamed = recorded.count(|stack| {
                stack.user.iter().zip(&stack.modules).any(|(frame, module)| module == path && frame.contains("+0x"))
            });
            // The head of the PLT, which binds a function at its first call, is nobody's.
            assert!(unnamed <= 2, "{name}: frames of the program have no name: {top}");
        }
        recorded
    }
}

fn with(flags: &[&'static str]) -> Vec<&'static str> {
    [O2, flags].concat()
}

const CHAIN: &[&str] = &["_start", "…", "main", "a", "b", "leaf", "spin"];

#[test]
fn however_a_program_is_linked() {
    let static_pie: &[_] = &["-static-pie", "-fPIE"];
    for flags in [&[][..], &["-static"], static_pie, &["-pie", "-fPIE"], &["-no-pie", "-fno-pie"]] {
        Case::new(c("chain.c", &with(flags)), CHAIN).check();
    }
    Case::new(c("chain.c", &["-O2", "-fno-omit-frame-pointer"]), CHAIN).check();
    Case::new(c("chain.c", &["-O0"]), CHAIN).check();
}

#[test]
fn without_debug_information_inlined_calls_have_no_frame() {
    Case::new(c("chain.c", &with(&["-g0"])), &["_start", "…", "main", "a", "b", "leaf"]).check();
}

#[test]
fn without_names_a_frame_is_a_place_in_its_module() {
    // _start, main, a, b and leaf; a static one has the C library's own start between the first two.
    let dynamic: &[_] = &["chain+0x*", "…", "chain+0x*", "chain+0x*", "chain+0x*", "chain+0x*"];
    let alone: &[_] = &["chain+0x*"; 7];
    for (flags, stack) in
        [(&["-s"][..], dynamic), (&["-s", "-static"], alone), (&["-s", "-static-pie", "-fPIE"], alone)]
    {
        let recorded = Case::new(c("chain.c", &with(flags)), stack).check();
        assert!(recorded.health(Count::FramesUnnamed) >= 5, "{}", recorded.top());
    }
}

#[test]
fn code_with_and_without_frame_pointers_mixed() {
    let keep: &[_] = &["-O2", "-fno-omit-frame-pointer"];
    let stack: &[_] = &["_start", "…", "main", "outer", "middle", "inner", "leaf", "spin"];
    for (outer, inner) in [(O2, keep), (keep, O2)] {
        Case::new(programs::mixed(outer, inner), stack).check();
    }
}

#[test]
fn odd_frames() {
    Case::new(c("alloca.c", O2), &["_start", "…", "main", "a", "variable", "leaf", "spin"]).check();
    Case::new(c("rbp_plain.c", O2), &["_start", "…", "main", "a", "plain", "leaf", "spin"]).check();
    let vdso =
        Case { share: 0.8, ..Case::new(c("vdso.c", O2), &["_start", "…", "main", "ask", "clock_ns", "…"]) }.check();
    let inside = vdso.share_of(|stack| stack.modules.last().is_some_and(|module| module == "[vdso]"));
    assert!(inside > 0.5, "{inside}: {}", vdso.top());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn odd_frames_of_x86_64() {
    Case::new(c("realign.c", O2), &["_start", "…", "main", "a", "realigned", "leaf", "spin"]).check();
    let expression = c("cfa_expression.c", O2);
    let recorded = Case::new(expression, &["_start", "…", "main", "a", "expression", "leaf", "spin"]).check();
    assert!(recorded.health(Count::CfiExpressions) > 500, "{}", recorded.top());
}

#[test]
fn every_instruction_of_prologues_and_epilogues() {
    let recorded = Case { whole: 0.999, ..Case::new(c("tiny.c", O2), &["_start", "…", "main", "loop", "…"]) }.check();
    let [saver, tiny] = [&["saver"][..], &["saver", "tiny"]].map(|below| {
        let stack = [&["_start", "…", "main", "loop"], below].concat();
        recorded.count(|found| found.is(&stack))
    });
    assert!(saver > 200 && tiny > 10, "{}", recorded.top());
}

#[test]
fn stubs_of_the_plt_have_their_caller() {
    // At which of a few instructions in a row interrupts come is the machine's choice, and another one in some runs.
    let shares = || {
        let recorded = Case::new(programs::plt(O2), &["_start", "…", "main", "caller", "…"]).check();
        let stub = recorded.share(&["_start", "…", "main", "caller", "plugin_tiny@plt"]);
        (stub, recorded.share(&["_start", "…", "main", "caller", "plugin_tiny"]))
    };
    let runs: Vec<(f64, f64)> = (0..3).map(|_| shares()).collect();
    assert!(runs.iter().any(|&(stub, callee)| stub > 0.05 && callee > 0.1), "{runs:?}");
}

#[test]
fn deep_recursion_is_shown_whole() {
    let stack = |depth| [&["_start", "…", "main"][..], &vec!["down"; depth], &["leaf", "spin"]].concat();
    let recurse = || c("recurse.c", O2);
    Case::new(recurse(), &stack(60)).check();
    let deep = stack(1500);
    let options: &[_] = &["--call-graph", "dwarf,65528"];
    // The way down and up again takes time as well.
    Case { arguments: &["1500"], options, share: 0.8, ..Case::new(recurse(), &deep) }.check();
}

#[test]
fn a_runaway_recursion_is_cut_and_says_so() {
    let case = Case::new(c("recurse.c", O2), &["[too deep]", "down", "…", "down", "leaf", "spin"]);
    let options: &[_] = &["--call-graph", "dwarf,65528"];
    let recorded = Case { arguments: &["3000"], options, share: 0.5, whole: 0.0, ..case }.check();
    let shown = recorded.count(|stack| stack.user.first().is_some_and(|root| root == "[too deep]"));
    assert_eq!(shown, recorded.health(Count::StacksTooDeep));
}

#[test]
fn stacks_longer_than_the_largest_copy_are_cut_and_say_so() {
    let options: &[_] = &["--call-graph", "dwarf,65528"];
    let whole: &[_] = &["_start", "…", "main", "wide", "wide", "wide", "wide", "wide", "leaf", "spin"];
    let program = || c("large_frames.c", O2);
    Case { arguments: &["5"], options, ..Case::new(program(), whole) }.check();
    // 65,528 bytes hold seven frames of 8 KB, and the eighth function is known by its return address.
    let cut: &[_] = &["[truncated]", "wide", "wide", "wide", "wide", "wide", "wide", "wide", "…", "leaf", "spin"];
    let recorded = Case { options, whole: 0.0, ..Case::new(program(), cut) }.check();
    let shown = recorded.count(|stack| stack.user.first().is_some_and(|root| root == "[truncated]"));
    assert_eq!(shown, recorded.health(Count::StacksTruncated), "{}", recorded.top());
    assert!(recorded.attempt.said.contains(&format!("{shown} longer than the copied part")), "{}", recorded.top());
}

#[test]
fn a_copy_ends_at_a_page_that_was_never_touched() {
    let cut: &[_] = &["[truncated]", "wide", "leaf", "spin"];
    Case { whole: 0.0, ..Case::new(c("large_frames.c", &with(&["-DSPARSE"])), cut) }.check();
}

#[test]
fn the_first_stacks_are_whole_already() {
    let program = c("large_frames.c", O2);
    // At the default frequency the default rings lose nothing, whatever else runs.
    let recorded = record(&[], &[text(&program), "0.5", "6"]);
    assert!(!recorded.attempt.said.contains("copying"), "{}", recorded.top());
    let wide = ["wide"; 6];
    let whole = recorded.share(&[&["_start", "…", "main"], &wide[..], &["leaf", "spin"]].concat());
    assert!(whole > 0.9, "{whole}: {}", recorded.top());
    assert_eq!(recorded.quality().all().lost, 0, "{}", recorded.top());
}

#[test]
fn the_copy_follows_what_stacks_need() {
    let program = c("deepens.c", O2);
    let recorded = record(&["-F", "999"], &[text(&program), "4"]);
    assert!(
        recorded.attempt.said.contains("longer than the 16 KB copied of each: copying 64 KB"),
        "{}",
        recorded.top()
    );
    // Between the first long stacks and the larger copy there is one drain of the rings, if the machine is not busy.
    let wide = ["wide"; 8];
    let whole = recorded.share(&[&["_start", "…", "main"], &wide[..], &["leaf", "spin"]].concat());
    assert!(whole > 0.3, "{whole}: {}", recorded.top());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn trampolines_of_cpython() {
    let program = c("trampoline.c", O2);
    let stack: &[_] = &["_start", "…", "main", "enter", "py::work:/app/work.py", "work", "spin"];
    Case::new(program.clone(), stack).check();
    // Of other code without unwind information nothing is known, and a larger copy would not change that.
    let recorded = record(&["-F", "999"], &[text(&program), "2.5", "odd"]);
    assert!(!recorded.attempt.said.contains("copying"), "{}", recorded.top());
    assert!(recorded.comments("stack bytes copied: 16384"), "{}", recorded.top());
    let rooted = recorded.share(&["_start", "…"]);
    assert!(rooted < 0.1, "{rooted}: {}", recorded.top());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn code_that_a_jitdump_tells_of() {
    let folder = tempfile::tempdir().unwrap();
    let stack: &[_] = &["_start", "…", "main", "enter", "jit_outer", "jit_leaf"];
    let case = Case::new(c("jitdump.c", O2), stack);
    let recorded = Case { arguments: &[text(folder.path())], ..case }.check();
    let line = |name: &str| {
        let profile = &recorded.profile;
        let lines = profile.locations.iter().flat_map(|location| &location.lines);
        let mut found = lines.filter_map(|line| {
            let function = &profile.functions[line.function.0 as usize];
            (profile.text(function.name) == name).then(|| (profile.text(function.file).to_owned(), line.line))
        });
        found.next().unwrap()
    };
    assert_eq!(line("jit_outer"), ("/app/code.jit".to_owned(), 10));
    assert_eq!(line("jit_leaf"), ("/app/code.jit".to_owned(), 20));
}

#[test]
fn code_loaded_at_run_time() {
    let plugin = shared_object("plugin.c", &["-O2"]);
    let stack: &[_] = &["_start", "…", "main", "host", "plugin_work", "plugin_leaf", "spin"];
    let host = || c("plugin_host.c", O2);
    Case { arguments: &[text(&plugin)], ..Case::new(host(), stack) }.check();
    Case { arguments: &[text(&plugin), "reload"], ..Case::new(host(), stack) }.check();
    Case { arguments: &[text(&plugin)], ..Case::new(c("memfd.c", O2), stack) }.check();
}

#[test]
fn signal_handlers_lead_to_what_they_interrupted() {
    let program = || c("signal_handler.c", O2);
    let stack: &[_] = &["_start", "…", "main", "…", "__restore_rt", "handler", "handler_leaf", "spin"];
    let recorded = Case { share: 0.8, ..Case::new(program(), stack) }.check();
    let interrupted: &[_] = &["_start", "…", "main", "interrupted", "spin", "…", "handler", "handler_leaf", "spin"];
    assert!(recorded.share(interrupted) > 0.2, "{}", recorded.top());
    // The interrupted stack is not the one that is copied: its innermost function is known from the signal's frame alone.
    let cut: &[_] = &["[truncated]", "*", "…", "__restore_rt", "handler", "handler_leaf", "spin"];
    Case { arguments: &["altstack"], share: 0.8, whole: 0.0, ..Case::new(program(), cut) }.check();
}

#[test]
fn threads_begin_where_they_are_started() {
    let stack: &[_] = &["clone3", "start_thread", "worker", "worker_leaf", "spin"];
    let recorded = Case { arguments: &["3"], ..Case::new(c("threads.c", O2), stack) }.check();
    for number in 0..3 {
        let share = recorded.share_of(|stack| stack.comm == format!("worker-{number}"));
        assert!((share - 1.0 / 3.0).abs() < 0.08, "worker-{number} has {share}: {}", recorded.top());
    }
    let recorded = Case::new(cpp("std_threads.cc", O2), &["clone3", "start_thread", "…", "spin"]).check();
    for [function, leaf] in [["crunch*", "crunch_leaf*"], ["sift*", "sift_leaf*"]] {
        let share = recorded.share(&["clone3", "start_thread", "…", function, "…", leaf, "spin"]);
        assert!((share - 0.5).abs() < 0.1, "{function} has {share}: {}", recorded.top());
    }
}

#[test]
fn children_and_what_they_become() {
    let fork: &[_] = &["_start", "…", "main", "child_work", "burn_child", "child_leaf", "spin"];
    let recorded = Case { share: 0.85, ..Case::new(c("forks.c", O2), fork) }.check();
    let mut children: Vec<i32> = recorded.stacks.iter().filter(|stack| stack.is(fork)).map(|stack| stack.pid).collect();
    children.sort_unstable();
    children.dedup();
    assert!(children.len() > 20, "{} children: {}", children.len(), recorded.top());
    // Within execve the old stack is gone while the registers still point to it.
    let exec: &[_] = &["_start", "…", "main", "exec_work", "burn_child", "child_leaf", "spin"];
    Case { arguments: &["exec"], share: 0.6, whole: 0.95, ..Case::new(c("forks.c", O2), exec) }.check();
}

#[test]
fn a_program_that_becomes_another() {
    let chain = c("chain.c", O2);
    let recorded = Case { arguments: &[], ..Case::new(chain.clone(), CHAIN) };
    let execs = c("execs.c", O2);
    let recorded = record(RATE, &[text(&execs), text(&recorded.program), SECONDS]);
    assert!(recorded.share(CHAIN) > 0.93, "{}", recorded.top());
    assert!(recorded.stacks.iter().any(|stack| stack.is(CHAIN) && stack.comm == "chain"), "{}", recorded.top());
    let main = recorded.profile.mappings.first().map(|mapping| recorded.profile.text(mapping.file));
    assert_eq!(main, Some(text(&chain)));
}

#[test]
fn inlined_calls_are_frames_of_their_own() {
    let outer: &[_] = &["_start", "…", "main", "outer*", "one*", "two<int>*", "three*", "four*", "five*"];
    Case::new(cpp("inlines.cc", O2), outer).check();
}

#[test]
fn cpp_programs() {
    let stack: &[_] = &[
        "_start",
        "…",
        "main",
        "unsigned long shapes::each<4, main::{lambda(int)#1}>*",
        "…",
        "shapes::Derived::work(unsigned long) const",
        "unsigned long shapes::leaf<unsigned long>(unsigned long)",
        "spin",
    ];
    Case::new(cpp("templates.cc", O2), stack).check();
    let stack: &[_] = &["_start", "…", "main", "catcher*", "…"];
    // The last instructions of _Unwind_RaiseException leave for the handler's frame, which its unwind information doesn't describe:
    // a quarter of a percent of this program's time.
    let recorded = Case { whole: 0.99, ..Case::new(cpp("exceptions.cc", O2), stack) }.check();
    let raised =
        recorded.share(&["_start", "…", "main", "catcher*", "thrower*", "…", "__cxa_throw", "…", "_Unwind_*", "…"]);
    assert!(raised > 0.5, "{raised}: {}", recorded.top());
}

#[test]
fn rust_programs() {
    let stack: &[_] = &[
        "_start",
        "…",
        "main",
        "…",
        "chain::main",
        "chain::Pipeline<F>::run",
        "…",
        "chain::middle",
        "chain::leaf",
        "…",
    ];
    let recorded = Case::new(rust("chain.rs", &["-O"]), stack).check();
    let inlined =
        recorded.share(&["_start", "…", "chain::leaf", "…", "chain::mix", "chain::rotate", "chain::step", "…"]);
    assert!(inlined > 0.3, "{inlined}: {}", recorded.top());
    let stripped: &[_] = &["chain+0x*", "…", "chain+0x*", "chain+0x*", "chain+0x*", "chain+0x*"];
    Case::new(rust("chain.rs", &["-O", "-C", "strip=symbols"]), stripped).check();
    let stack: &[_] = &["clone3", "start_thread", "…", "threads::spinner", "threads::spinner_leaf", "…"];
    let recorded = Case::new(rust("threads.rs", &["-O"]), stack).check();
    assert!(recorded.stacks.iter().any(|stack| stack.comm == "spinner-2"), "{}", recorded.top());
    // While libgcc puts the registers of the catching function into place, no row of its tells where they are; how much of the time
    // that takes differs from machine to machine.
    let stack: &[_] = &["_start", "…", "main", "…", "panics::main", "panics::catcher", "…"];
    let recorded = Case { share: 0.85, whole: 0.9, ..Case::new(rust("panics.rs", &["-O"]), stack) }.check();
    let in_libgcc = |stack: &Stack| stack.user.iter().any(|frame| frame.starts_with("_Unwind_"));
    let broken = |stack: &Stack| stack.user.first().is_some_and(|root| root.starts_with('['));
    let elsewhere = recorded.count(|stack| broken(stack) && !in_libgcc(stack));
    assert!(elsewhere * 200 <= recorded.samples(), "{elsewhere} stacks are broken elsewhere: {}", recorded.top());
}

#[test]
fn go_programs() {
    let stack: &[_] = &["runtime.goexit", "runtime.main", "main.main", "main.outer", "main.middle", "main.leaf"];
    Case::new(go("chain.go", &[]), stack).check();
    Case::new(go("chain.go", &["-ldflags=-s -w"]), stack).check();
    let stack: &[_] = &["runtime.goexit", "main.main.gowrap1", "main.worker", "main.workerLeaf"];
    Case { share: 0.85, ..Case::new(go("goroutines.go", &[]), stack) }.check();
    let stack: &[_] = &["runtime.goexit", "runtime.main", "main.main", "main.fill", "…"];
    let recorded = Case { share: 0.2, whole: 0.99, ..Case::new(go("garbage.go", &[]), stack) }.check();
    let collecting = recorded.share(&["runtime.goexit", "…", "runtime.gcBgMarkWorker", "…"]);
    assert!(collecting > 0.02, "{collecting}: {}", recorded.top());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn code_made_at_run_time_is_named_by_its_perf_map() {
    let program = c("jit.c", &["-O2", "-fno-omit-frame-pointer"]);
    for memory in [&["0"][..], &["0", "doublemapper"]] {
        let running = programs::run(&program, memory);
        let pid = running.pid().to_string();
        let recorded = record::<&str>(&["-F", "2999", "-p", &pid, "--duration", "0.4"], &[]);
        let share = recorded.share(&["_start", "…", "main", "enter", "jit_outer", "jit_leaf"]);
        assert!(share > 0.95, "{memory:?} {share}: {}", recorded.top());
        assert!(recorded.quality().complete_share().unwrap() > 0.995, "{}", recorded.top());
        drop(running);
        std::fs::remove_file(format!("/tmp/perf-{pid}.map")).unwrap();
    }
}

#[test]
fn frame_pointers_alone_and_no_stacks_at_all() {
    let keep = || c("chain.c", &["-O2", "-fno-omit-frame-pointer"]);
    // The kernel follows frame pointers: the start of the C library has none, and gcc gives none to a leaf, whose caller is missed.
    let fp = record(&["-F", "2999", "--call-graph", "fp"], &[text(&keep()), SECONDS]);
    assert!(fp.share(&["…", "main", "a", "…", "leaf", "spin"]) > 0.93, "{}", fp.top());
    assert_eq!(fp.count(|stack| stack.user.iter().skip(1).any(|frame| frame.starts_with("[anon]"))), 0, "{}", fp.top());
    let no = record(&["-F", "2999", "--call-graph", "no"], &[text(&keep()), SECONDS]);
    assert!(no.share(&["leaf", "spin"]) > 0.93, "{}", no.top());
    let short = record(&["-F", "2999", "--call-graph", "dwarf,64"], &[text(&c("recurse.c", O2)), SECONDS]);
    assert!(short.share(&["[truncated]", "down", "…", "leaf", "spin"]) > 0.93, "{}", short.top());
}

/// How a recorded stack ended: at the root, at a fiber's entry, or for want of unwind information, of all samples.
fn ends(recorded: &Recorded) -> [f64; 3] {
    let all = recorded.samples() as f64;
    [Count::StacksRoot, Count::StacksFiber, Count::StacksNoCfi].map(|row| recorded.health(row) as f64 / all)
}

#[test]
fn a_fibers_stack_ends_at_its_entry_and_not_at_the_root() {
    for flags in [O2, &["-O2", "-fno-omit-frame-pointer"], &["-O2", "-static", "-s"]] {
        for how in ["makecontext", "zero"] {
            let recorded = record(RATE, &[text(&c("fibers.c", flags)), SECONDS, how]);
            let [root, fiber, _] = ends(&recorded);
            assert!(fiber > 0.95 && root < 0.05, "{how} {flags:?}: {root} {fiber}: {}", recorded.top());
            assert!(recorded.quality().complete_share().unwrap() < 0.05, "{}", recorded.top());
            let said = &recorded.attempt.said;
            assert!(said.contains(" of user stacks end at a fiber's entry"), "{said}");
        }
    }
}

#[test]
fn a_walk_that_ends_by_luck_is_not_one_that_reached_the_root() {
    let recorded = record(RATE, &[text(&c("fibers.c", O2)), SECONDS, "luck"]);
    let [root, fiber, lost] = ends(&recorded);
    assert!(root < 0.05 && fiber < 0.01 && lost > 0.94, "{root} {fiber} {lost}: {}", recorded.top());
}

/// The first functions of processes and threads in musl and in static programs have neither unwind information nor names.
#[test]
fn the_first_function_of_a_process_and_a_thread_is_known_without_unwind_information() {
    let bare = [
        "-O2",
        "-nostdlib",
        "-static",
        "-fno-stack-protector",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    for flags in [&["-fno-omit-frame-pointer"][..], &["-fno-omit-frame-pointer", "-s"]] {
        let program = c("bare.c", &[&bare[..], flags].concat());
        for thread in [&[][..], &["thread"]] {
            let recorded = record(RATE, &[&[text(&program)], thread].concat());
            let [root, ..] = ends(&recorded);
            assert!(recorded.samples() > 60 && root > 0.95, "{flags:?} {thread:?}: {root}: {}", recorded.top());
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_musl() {
    for (source, arguments) in [("chain.c", &[SECONDS][..]), ("threads.c", &[SECONDS, "3"])] {
        for flags in [&["-O2", "-static"][..], &["-O2", "-static", "-s"], &["-O2"]] {
            let recorded = record(RATE, &[&[text(&programs::musl(source, flags))], arguments].concat());
            let [root, ..] = ends(&recorded);
            assert!(root > 0.97, "{source} {flags:?}: {root}: {}", recorded.top());
        }
    }
}
