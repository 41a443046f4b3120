//! The directory of windows: a file for each window and kind, named so that `ls` and `find` need no rprof, and an index of
//! their totals that can be made again from the files at any time. docs/store.md tells what lies where.

mod compact;
mod compare;
mod day;
mod error;
mod folder;
mod index;
mod lock;
mod mode;
mod name;
mod query;
mod reader;
mod retain;
mod selector;
pub mod series;
mod summary;
mod window;
mod windows;
mod writer;

use std::path::PathBuf;

pub use compare::{CompareSidesError, Compared, Read, ReadFile, Side, SideOptions, compare};
pub use error::StoreError;
pub use lock::recorder;
pub use mode::Mode;
pub use name::is_state;
pub use query::{Answer, Limits, Plan, Prepare, Query, QueryError, TIMESTAMP};
pub use reader::{Damaged, Listing, Store};
pub use selector::{Selector, SelectorError};
pub use series::{By, Line, Series};
pub use window::{LabelTotal, Level, Row, Source, Summary, Total, WindowName};
pub use windows::{OpenError, Sum, Windows, column_of};
pub use writer::{Policy, Tended, Usage, Writer, Written};

/// Where windows are kept if nobody says otherwise: `/var/lib/rprof` for root, `$XDG_STATE_HOME/rprof` (`~/.local/state/rprof`) for
/// others; `rprof` in the current folder for those without a home.
#[must_use]
pub fn default_directory() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/rprof".into();
    }
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.unwrap_or_default().join("rprof")
}
