//! Command line: arguments and one file a command.

pub mod report;
