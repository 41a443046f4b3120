//! The `rprof` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    rprof::cli::run(std::env::args_os())
}
