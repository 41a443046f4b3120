//! The `rprof` command.

use std::process::ExitCode;

use rprof::sys::memory::{self, Memory};

#[global_allocator]
static MEMORY: Memory = Memory;

fn main() -> ExitCode {
    memory::exit_where_memory_ends();
    rprof::cli::run(std::env::args_os())
}
