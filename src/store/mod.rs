//! The directory of windows: a file for each window and kind, named so that `ls` and `find` need no rprof, and an index of
//! their totals that can be made again from the files at any time.

mod window;

pub use window::{Level, Row, Source, Summary, Total, WindowName};
