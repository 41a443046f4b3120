//! What there is: kinds, hosts, the time, the labels of samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::app::Work;
use super::error::WebError;
use crate::ids::UnixNanos;
use crate::store::{Row, TIMESTAMP, WindowName, Windows};

/// All time.
pub(super) const EVER: std::ops::Range<UnixNanos> = UnixNanos(i64::MIN)..UnixNanos(i64::MAX);

/// What is known of each kind, by the last window that was looked at for it.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<String, Kind>>);

/// What a window tells of its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    last: Option<WindowName>,
    /// The unit of its values.
    pub(super) unit: String,
    /// The keys of the labels of its samples.
    pub(super) labels: BTreeSet<String>,
}

/// All that there is.
pub(super) struct Info {
    /// The windows, by their start.
    pub(super) names: Vec<WindowName>,
    pub(super) kinds: BTreeMap<String, Kind>,
}

impl Info {
    /// Looks at the names of all windows, and into the last one of each kind.
    pub(super) fn of(work: &Work) -> Result<Info, WebError> {
        let names = work.windows().names(&EVER)?;
        let mut last: BTreeMap<&str, &WindowName> = BTreeMap::new();
        for name in &names {
            last.insert(&name.kind, name);
        }
        let mut kinds = BTreeMap::new();
        for (kind, name) in last {
            kinds.insert(kind.to_owned(), work.app.known.kind(work.windows(), name)?);
        }
        Ok(Info { names, kinds })
    }

    /// When the first window begins, and the last one ends.
    pub(super) fn span(&self) -> Option<(UnixNanos, UnixNanos)> {
        let start = self.names.iter().map(|name| name.start).min()?;
        let end = self.names.iter().map(WindowName::last).max()?;
        Some((start, end))
    }

    /// The keys of the labels of samples, of all kinds.
    pub(super) fn labels(&self) -> BTreeSet<&String> {
        self.kinds.values().flat_map(|kind| &kind.labels).collect()
    }

    /// As the page reads it.
    pub(super) fn to_json(&self, work: &Work) -> Value {
        let hosts: BTreeSet<&str> = self.names.iter().map(|name| &*name.host).filter(|host| !host.is_empty()).collect();
        let span = self.span();
        let kinds = self.kinds.iter().map(|(name, kind)| json!({ "name": name, "unit": kind.unit }));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "name": work.windows().name(),
            "is_file": work.windows().file_range().is_some(),
            "host": hosts.first().copied().unwrap_or_default(),
            "hosts": hosts,
            "kinds": kinds.collect::<Vec<_>>(),
            "from_nanos": span.map_or(0, |(start, _)| start.0),
            "to_nanos": span.map_or(0, |(_, end)| end.0),
            "windows": self.names.len(),
            "labels": self.labels(),
        })
    }
}

impl Known {
    /// What the last window of a kind tells. It is opened once.
    fn kind(&self, windows: &Windows, last: &WindowName) -> Result<Kind, WebError> {
        let known = |kinds: &BTreeMap<String, Kind>| kinds.get(&last.kind).cloned();
        let before = self.0.lock().ok().and_then(|kinds| known(&kinds));
        if let Some(kind) = before.filter(|kind| kind.last.as_ref() == Some(last)) {
            return Ok(kind);
        }
        let rows = windows.all_rows(last.start..UnixNanos(last.last().0.saturating_add(1)))?;
        let row = rows.into_iter().find(|row| row.name == *last);
        let kind = row.map_or_else(Kind::default, |row| Kind::of(windows, &row));
        if let Ok(mut kinds) = self.0.lock() {
            kinds.insert(last.kind.clone(), kind.clone());
        }
        Ok(kind)
    }
}

impl Kind {
    fn of(windows: &Windows, row: &Row) -> Kind {
        // One that was removed meanwhile, or cannot be read, tells no labels.
        let labels = windows.load(row).map_or_else(
            |_| BTreeSet::new(),
            |profile| {
                let keys: BTreeSet<_> =
                    profile.samples.iter().flat_map(|sample| &sample.labels).map(|label| label.key.0).collect();
                let text = |key: u32| profile.text(crate::profile::StringId(key)).to_owned();
                keys.into_iter().map(text).filter(|key| key != TIMESTAMP).collect()
            },
        );
        Kind { last: Some(row.name.clone()), unit: row.summary.unit.clone(), labels }
    }
}
