//! The `rprof` command.

fn main() {}
