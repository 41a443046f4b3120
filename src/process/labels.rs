//! The labels of a process: its container and its systemd unit.

use std::fs;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::capture::{self, cgroup::Membership};
use crate::ids::Pid;

/// More cgroups than this are not remembered; a host has some hundreds.
const MOST: usize = 4096;

/// What a process is part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessLabels {
    pub(super) container: Option<Arc<str>>,
    pub(super) unit: Option<Arc<str>>,
}

/// The labels that were met, each held once however many processes have it.
#[derive(Default)]
pub(super) struct Labels(FxHashMap<String, ProcessLabels>);

impl Labels {
    /// The labels of a process; `None` if it has ended.
    pub(super) fn of(&mut self, pid: Pid) -> Option<ProcessLabels> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", capture::teller(pid).0)).ok()?;
        if let Some(known) = self.0.get(&text) {
            return Some(known.clone());
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let membership = Membership::parse(&text);
        let [container, unit] = [membership.container(), membership.unit()].map(|label| label.map(Arc::from));
        let labels = ProcessLabels { container, unit };
        self.0.insert(text, labels.clone());
        Some(labels)
    }
}
