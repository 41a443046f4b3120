//! The archive: windows that are written into the store, which is tended meanwhile.

use std::path::PathBuf;
use std::time::SystemTime;

use super::finisher::Shelf;
use super::record::window_name;
use super::screen::Screen;
use super::status::Status;
use crate::encode::Format;
use crate::ids::UnixNanos;
use crate::profile::Profile;
use crate::store::{Policy, Source, StoreError, Writer};

/// The store, as a recorder fills it.
pub(super) struct Archive {
    writer: Writer,
    policy: Policy,
    format: &'static Format,
    /// Files for the status.
    metrics: Vec<PathBuf>,
    screen: Screen,
    verbose: bool,
    written: u64,
    dropped: u64,
    removed: u64,
    /// Windows dropped since the last one that could be written.
    failing: Option<u64>,
    /// What could not be tended the last time.
    tending: Vec<String>,
}

impl Archive {
    pub(super) fn new(
        writer: Writer,
        policy: Policy,
        format: &'static Format,
        metrics: Vec<PathBuf>,
        screen: Screen,
        verbose: bool,
    ) -> Archive {
        let (written, dropped, removed) = (0, 0, 0);
        let (failing, tending) = (None, Vec::new());
        Archive { writer, policy, format, metrics, screen, verbose, written, dropped, removed, failing, tending }
    }

    /// A recorder goes on whatever happens to its disk.
    fn drop_window(&mut self, error: &StoreError) {
        self.dropped += 1;
        let number = self.failing.get_or_insert(0);
        *number += 1;
        if *number == 1 {
            self.screen.say(&format!("{error}; windows are dropped until there is a way"));
        }
    }

    fn tend(&mut self) {
        let problems = match self.writer.tend(UnixNanos::from(SystemTime::now()), &self.policy) {
            Ok(tended) => {
                self.removed += tended.removed as u64;
                tended.problems
            }
            Err(error) => vec![error],
        };
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        // A directory that cannot be tended now cannot be for a while: it is said once.
        problems.iter().filter(|problem| !self.tending.contains(problem)).for_each(|problem| self.screen.say(problem));
        self.tending = problems;
    }
}

impl Shelf for Archive {
    /// What cannot be kept is told before the first window is lost.
    fn begin(&mut self) {
        self.tend();
    }

    fn remark(&mut self) -> Option<String> {
        self.failing.map(|number| format!("{number} windows before this one could not be written and are lost"))
    }

    fn take(&mut self, profile: Profile) {
        match self.writer.write(&window_name(&profile, Source::Recorder), &profile, self.format) {
            Ok(written) => {
                self.written += 1;
                if let Some(number) = self.failing.take() {
                    self.screen.say(&format!("writing again; {number} windows are lost"));
                }
                if self.verbose {
                    self.screen.say(&format!("wrote {} ({} bytes)", written.path.display(), written.bytes));
                }
            }
            Err(error) => self.drop_window(&error),
        }
    }

    fn end_window(&mut self) {
        self.tend();
    }

    fn tell(&mut self, mut status: Status) {
        let usage = self.writer.usage();
        (status.windows_written, status.windows_dropped) = (self.written, self.dropped);
        status.windows_removed = self.removed;
        (status.files, status.disk_bytes) = (usage.windows as u64, usage.bytes);
        for path in &self.metrics {
            // A status that cannot be written now is written the next time; a full disk is told by the windows.
            if let Err(error) = status.write(path, self.writer.mode())
                && self.verbose
            {
                self.screen.say(&format!("cannot write {}: {error}", path.display()));
            }
        }
    }
}
