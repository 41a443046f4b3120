//! What Pyroscope calls a profile type, `name:sample_type:sample_unit:period_type:period_unit`, and which kind of windows it is.

use super::messages::ProfileType;
use crate::profile::Profile;
use crate::store::{Selector, Sum};
use crate::web::app::Work;
use crate::web::error::WebError;
use crate::web::info::Info;

/// The column of counts, as a type of its own beside the time of CPUs.
const SAMPLES: &str = "samples";

/// A profile type and where its values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) shown: ProfileType,
    /// The kind of the windows.
    pub(super) kind: String,
    /// Whether it counts samples, and not the kind's values.
    pub(super) counts: bool,
}

impl Type {
    fn new(name: &str, sample: [&str; 2], period: [&str; 2], kind: &str, counts: bool) -> Type {
        let [sample_type, sample_unit] = sample.map(str::to_owned);
        let [period_type, period_unit] = period.map(str::to_owned);
        let id = format!("{name}:{sample_type}:{sample_unit}:{period_type}:{period_unit}");
        let shown = ProfileType { id, name: name.to_owned(), sample_type, sample_unit, period_type, period_unit };
        Type { shown, kind: kind.to_owned(), counts }
    }

    /// The types of a kind, under the names that Pyroscope's own clients give them.
    fn of_kind(kind: &str, unit: &str) -> Vec<Type> {
        let cpu = ["cpu", "nanoseconds"];
        match kind {
            "cpu" => vec![
                Type::new("process_cpu", ["cpu", unit], cpu, kind, false),
                Type::new("process_cpu", [SAMPLES, "count"], cpu, kind, true),
            ],
            _ if ["alloc_", "inuse_"].iter().any(|heap| kind.starts_with(heap)) => {
                vec![Type::new("memory", [kind, unit], ["space", "bytes"], kind, false)]
            }
            _ => vec![Type::new(kind, [kind, unit], ["", ""], kind, false)],
        }
    }

    /// All types that there are.
    pub(super) fn all(info: &Info) -> Vec<Type> {
        info.kinds.iter().flat_map(|(kind, of)| Type::of_kind(kind, &of.unit)).collect()
    }

    /// The type of an id; `None` if nothing of it was recorded.
    pub(super) fn by_id(work: &Work, id: &str) -> Result<Option<Type>, WebError> {
        check_id(id)?;
        Ok(Type::all(&Info::of(work)?).into_iter().find(|known| known.shown.id == id))
    }

    /// What Pyroscope's own labels tell of it; `None` for other labels.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let ProfileType { id, name: of, sample_type, sample_unit, period_type, period_unit } = &self.shown;
        match name {
            "__name__" => Some(of),
            "__profile_type__" => Some(id),
            "__type__" => Some(sample_type),
            "__unit__" => Some(sample_unit),
            "__period_type__" => Some(period_type),
            "__period_unit__" => Some(period_unit),
            _ => None,
        }
    }

    /// Whether conditions on Pyroscope's own labels hold.
    pub(super) fn matches(&self, selector: &Selector) -> bool {
        selector.holds(|name| self.label(name).unwrap_or_default())
    }

    /// Gives a profile of this type the period that the type's id names: none, where the id names none.
    pub(super) fn tell_period(&self, profile: &mut Profile) {
        let ProfileType { period_type, period_unit, .. } = &self.shown;
        if period_type.is_empty() {
            (profile.period_type, profile.period) = (None, 0);
        } else {
            profile.period_type = Some(profile.value_type(period_type, period_unit));
        }
    }

    /// The column of a sum that holds its values.
    pub(super) fn column(&self, sum: &Sum) -> usize {
        let count = if self.counts { sum.answer.profile.count_column() } else { None };
        count.unwrap_or_else(|| sum.column())
    }
}

/// Names of Pyroscope's own labels.
pub(super) const OWN_LABELS: [&str; 6] =
    ["__name__", "__period_type__", "__period_unit__", "__profile_type__", "__type__", "__unit__"];

/// Refuses what is no id of a type.
pub(super) fn check_id(id: &str) -> Result<(), WebError> {
    if id.split(':').count() == 5 {
        return Ok(());
    }
    let example = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    Err(WebError::bad(format!(
        "a profile type is name:sample_type:sample_unit:period_type:period_unit, like {example}, not {id:?}"
    )))
}
