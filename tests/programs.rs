//! Builds and runs every program of `tests/programs` in each of the ways in which other tests use it: a program that does not
//! do what its first line says would make those tests lie.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::programs::{self, c, cpp, go, number, rust};

const BRIEF: &str = "0.05";

/// Runs a program briefly; what it printed.
fn brief(program: &Path, arguments: &[&str]) -> String {
    let (status, printed) = programs::run(program, &[&[BRIEF], arguments].concat()).finish();
    assert!(status.success(), "{}: {status}", program.display());
    printed
}

fn briefly(programs: &[PathBuf]) {
    programs.iter().for_each(|program| drop(brief(program, &[])));
}

fn disassembly(program: &Path, function: &str) -> String {
    printed_by(Command::new("objdump").args(["-d", &format!("--disassemble={function}")]).arg(program))
}

fn printed_by(command: &mut Command) -> String {
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[test]
fn a_chain_runs_however_it_is_linked() {
    let omit = ["-O2", "-fomit-frame-pointer"];
    let with = |more: &[&str]| c("chain.c", &[&omit, more].concat());
    briefly(&[
        c("chain.c", &["-O0"]),
        c("chain.c", &["-O2", "-fno-omit-frame-pointer"]),
        with(&["-static"]),
        with(&["-static-pie", "-fPIE"]),
        with(&["-pie", "-fPIE"]),
        with(&["-no-pie", "-fno-pie"]),
        with(&["-s"]),
        programs::mixed(&omit, &["-O2", "-fno-omit-frame-pointer"]),
        programs::mixed(&["-O2", "-fno-omit-frame-pointer"], &omit),
    ]);
}

#[test]
fn odd_frames_run() {
    let o2 = &["-O2", "-fomit-frame-pointer"];
    briefly(
        &["recurse.c", "large_frames.c", "rbp_plain.c", "alloca.c", "tiny.c", "vdso.c"].map(|source| c(source, o2)),
    );
    briefly(&[programs::plt(o2)]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn odd_frames_of_x86_64_are_what_they_say() {
    let o2 = &["-O2", "-fomit-frame-pointer"];
    let (realign, expression) = (c("realign.c", o2), c("cfa_expression.c", o2));
    briefly(&[realign.clone(), expression.clone(), c("jit.c", &["-O2", "-fno-omit-frame-pointer"])]);
    assert!(disassembly(&realign, "realigned").contains("(%rsp),%r10"), "no register holds the caller's frame");
    let plain = disassembly(&c("rbp_plain.c", o2), "plain");
    assert!(plain.contains("$0x5aa5,%rbp") || plain.contains("$0x5aa5,%ebp"), "rbp is no plain register: {plain}");
    for program in [realign, expression] {
        let frames = printed_by(Command::new("readelf").arg("--debug-dump=frames").arg(program));
        assert!(frames.lines().any(|line| line.contains("DW_CFA_def_cfa_expression") && line.contains("DW_OP_deref")));
    }
}

#[test]
fn shared_objects_are_loaded_while_the_program_runs() {
    let plugin = programs::shared_object("plugin.c", &["-O2"]);
    let plugin = plugin.to_str().unwrap();
    let host = c("plugin_host.c", &["-O2"]);
    brief(&host, &[plugin]);
    brief(&host, &[plugin, "reload"]);
    brief(&c("memfd.c", &["-O2"]), &[plugin]);
}

#[test]
fn signals_interrupt() {
    let program = c("signal_handler.c", &["-O2"]);
    for arguments in [&[][..], &["altstack"]] {
        assert!(number(&brief(&program, arguments), "signals") > 0);
    }
}

#[test]
fn programs_measure_themselves() {
    let split = brief(&c("split.c", &["-O2"]), &[]);
    let (heavy, light) = (number(&split, "cpu_ns heavy"), number(&split, "cpu_ns light"));
    assert!(heavy > 2 * light && heavy < 4 * light, "{split}");
    let threads = brief(&c("threads.c", &["-O2"]), &["3"]);
    assert!(number(&threads, "cpu_ns worker-2") >= 50_000_000, "{threads}");
    let ping_pong = c("pingpong.c", &["-O2"]);
    for mode in ["threads", "processes"] {
        let printed = brief(&ping_pong, &[mode]);
        assert!(number(&printed, "switches") >= number(&printed, "iterations"), "{printed}");
    }
    let forks = c("forks.c", &["-O2"]);
    for mode in ["fork", "exec"] {
        assert!(number(&brief(&forks, &[mode]), "children") > 1);
    }
}

#[test]
fn short_lives() {
    let (exits, execs) = (c("exits.c", &["-O2"]), c("execs.c", &["-O2"]));
    assert_eq!(Command::new(&exits).status().unwrap().code(), Some(7));
    assert_eq!(Command::new(execs).arg(exits).status().unwrap().code(), Some(7));
}

#[test]
fn a_program_outlives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = programs::private_copy(&c("chain.c", &["-O2"]), folder.path());
    let running = programs::run(&copy, &[BRIEF]);
    fs::remove_file(copy).unwrap();
    assert!(running.finish().0.success());
}

#[test]
fn cpp_runs() {
    assert!(number(&brief(&cpp("exceptions.cc", &["-O2"]), &[]), "caught") > 0);
    briefly(&["templates.cc", "inlines.cc", "std_threads.cc"].map(|source| cpp(source, &["-O2"])));
}

#[test]
fn rust_runs() {
    assert!(number(&brief(&rust("panics.rs", &["-O"]), &[]), "caught") > 0);
    briefly(&[
        rust("chain.rs", &["-O"]),
        rust("chain.rs", &["-O", "-C", "strip=symbols"]),
        rust("threads.rs", &["-O"]),
    ]);
}

#[test]
fn go_runs() {
    briefly(&["chain.go", "goroutines.go"].map(|source| go(source, &[])));
    briefly(&[go("chain.go", &["-ldflags=-s -w"])]);
    assert!(brief(&go("garbage.go", &[]), &[]).starts_with("collections "));
}
