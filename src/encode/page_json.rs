//! A profile as the page reads it: columns of arrays, indices into them, plain numbers. `docs/page.md` lists the fields.
//!
//! Stacks are a prefix tree from the root: a parent stands before its children, so that whoever reads them sums up a
//! tree in one pass from the back.

mod tables;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use tables::{Frames, Functions, Groups, Samples, Stacks, Tables, file_name, sum};

use super::EncodeError;
use crate::profile::{Profile, Quality, StringId, TIME_LABEL, ValueType};

/// The version of the object; fields are added without a new one.
const VERSION: u32 = 1;

/// What the page shows of a profile that its samples do not tell. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageMeta {
    /// What was counted, as `rprof query --kind` names it.
    pub kind: String,
    /// The beginning of the time that was asked for; 0 if unknown.
    pub from_nanos: i64,
    /// Its end; 0 if unknown.
    pub to_nanos: i64,
    /// How much of it was sampled, in nanoseconds, of all hosts together; 0 if unknown.
    pub covered_nanos: i64,
    /// CPUs that were watched; 0 if unknown.
    pub cpus: u32,
    /// A line for people: a command, a host.
    pub title: String,
    /// Stretches without data.
    #[serde(skip)]
    pub gaps: Vec<[i64; 2]>,
    /// What could not be read, a line each.
    #[serde(skip)]
    pub unreadable: Vec<String>,
    /// Samples that were lost, where the profile's comments do not tell.
    #[serde(skip)]
    pub lost: Option<u64>,
    /// Whether samples keep their own times, one by one.
    #[serde(skip)]
    pub times: bool,
}

impl PageMeta {
    /// What a profile tells of itself; samples keep their times.
    #[must_use]
    pub fn of(profile: &Profile, column: usize) -> PageMeta {
        let kind = profile.sample_types.get(column).map_or("", |kind| profile.text(kind.name));
        PageMeta {
            kind: kind.to_owned(),
            from_nanos: profile.time_nanos,
            to_nanos: profile.time_nanos.saturating_add(profile.duration_nanos),
            covered_nanos: profile.duration_nanos,
            cpus: profile.cpus(),
            title: profile.command().unwrap_or_default().to_owned(),
            times: true,
            ..PageMeta::default()
        }
    }
}

/// A side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its samples.
    pub profile: &'a Profile,
    /// The column that is shown.
    pub column: usize,
    /// What else is told of it.
    pub meta: &'a PageMeta,
}

/// How a function changed. Rates are in the normalised unit of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// The function's comparable name.
    pub function: &'a str,
    /// The file name of its module.
    pub module: &'a str,
    /// Its total in the base.
    pub base_total: f64,
    /// Its total in the new profile.
    pub new_total: f64,
    /// Its own part in the base.
    pub base_self: f64,
    /// Its own part in the new profile.
    pub new_self: f64,
    /// The lower end of the interval that holds the difference of the totals with 95 % confidence.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Whether the difference of the totals, or that of its own part, is more than chance.
    pub significant: bool,
    /// Whether that of the totals is.
    pub significant_total: bool,
    /// Whether that of its own part is.
    pub significant_self: bool,
    /// `new`, `gone`, `up`, `down`, `same` or `shifted`.
    pub verdict: &'static str,
}

/// What is told of a comparison besides its sides.
pub struct Changes<'a> {
    /// How the sides were made comparable: `cpus`, `share` or `samples`.
    pub normalize: &'a str,
    /// A function's name without what changes from build to build.
    pub comparable: fn(&str) -> Cow<'_, str>,
    /// The functions; none if nothing was tested.
    pub changes: &'a [Change<'a>],
    /// What makes the comparison doubtful, a line each.
    pub remarks: &'a [String],
}

/// Writes a profile.
///
/// # Errors
/// [`EncodeError::Io`] if the output fails.
pub fn write(profile: &Profile, column: usize, meta: &PageMeta, out: &mut dyn Write) -> Result<(), EncodeError> {
    let mut tables = Tables::new(meta.times && has_times(profile), None);
    tables.add(Side { profile, column, meta }, 0);
    write_object(&tables.page(Side { profile, column, meta }, None), out)
}

/// Writes a comparison: the values of both sides meet in functions of the same comparable name and module.
///
/// # Errors
/// [`EncodeError::Io`] if the output fails.
pub fn write_diff(
    base: Side<'_>,
    new: Side<'_>,
    changes: &Changes<'_>,
    out: &mut dyn Write,
) -> Result<(), EncodeError> {
    let mut tables = Tables::new(false, Some(changes.comparable));
    tables.add(new, 0);
    tables.add(base, 1);
    write_object(&tables.page(new, Some((base, changes))), out)
}

fn write_object(page: &Page<'_>, out: &mut dyn Write) -> Result<(), EncodeError> {
    let mut to = serde_json::Serializer::with_formatter(out, Escaped);
    page.serialize(&mut to).map_err(io::Error::from)?;
    Ok(())
}

/// JSON that can stand in an HTML file's script: what could end or begin a tag or a comment is escaped.
struct Escaped;

impl serde_json::ser::Formatter for Escaped {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            out.write_all(&rest.as_bytes()[..at])?;
            let special = rest[at..].chars().next().unwrap_or('<');
            write!(out, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

fn has_times(profile: &Profile) -> bool {
    profile.strings.find(TIME_LABEL).is_some()
}

impl Tables {
    fn page<'a>(&'a self, new: Side<'a>, base: Option<(Side<'a>, &'a Changes<'a>)>) -> Page<'a> {
        // A side without samples may not tell what it counts; the other one does.
        let mut sides = [Some(new), base.map(|(side, _)| side)].into_iter().flatten();
        let known = sides.find_map(|side| Some((side.profile, side.profile.sample_types.get(side.column)?)));
        let text = |of: fn(&ValueType) -> StringId| known.map_or("", |(profile, kind)| profile.text(of(kind)));
        Page {
            version: VERSION,
            meta: new.meta,
            value: Value { name: text(|kind| kind.name), unit: text(|kind| kind.unit) },
            total: sum(&self.samples.value),
            samples_total: sum(&self.samples.count),
            quality: QualityRow::of(new, self.unknown[0]),
            strings: &self.strings,
            functions: &self.functions,
            frames: &self.frames,
            stacks: &self.stacks,
            groups: Groups(&self.groups),
            samples: &self.samples,
            normalize: base.map(|(_, changes)| changes.normalize),
            base: base.map(|(side, _)| BasePart {
                meta: side.meta,
                total: sum(&self.samples.base),
                samples_total: sum(&self.samples.base_count),
                quality: QualityRow::of(side, self.unknown[1]),
            }),
            changes: base
                .filter(|(_, changes)| !changes.changes.is_empty())
                .map(|(_, changes)| self.change_columns(changes.changes)),
            remarks: base.map(|(_, changes)| changes.remarks),
        }
    }

    fn change_columns(&self, changes: &[Change<'_>]) -> ChangeColumns {
        let mut columns = ChangeColumns::default();
        for change in changes {
            let name = self.string_ids.get(change.function).copied();
            let module = self.string_ids.get(file_name(change.module)).copied();
            let Some(id) = name.zip(module).and_then(|(name, module)| self.function_ids.get(&[name, module, 0])) else {
                continue;
            };
            columns.function.push(*id);
            columns.base_total.push(change.base_total);
            columns.new_total.push(change.new_total);
            columns.base_self.push(change.base_self);
            columns.new_self.push(change.new_self);
            columns.low.push(change.low);
            columns.high.push(change.high);
            columns.significant.push(change.significant.into());
            columns.significant_total.push(change.significant_total.into());
            columns.significant_self.push(change.significant_self.into());
            columns.verdict.push(change.verdict);
        }
        columns
    }
}

#[derive(Serialize)]
struct Page<'a> {
    version: u32,
    #[serde(flatten)]
    meta: &'a PageMeta,
    value: Value<'a>,
    total: i64,
    samples_total: i64,
    quality: QualityRow<'a>,
    strings: &'a [String],
    functions: &'a Functions,
    frames: &'a Frames,
    stacks: &'a Stacks,
    groups: Groups<'a>,
    samples: &'a Samples,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<BasePart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangeColumns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remarks: Option<&'a [String]>,
}

#[derive(Serialize)]
struct Value<'a> {
    name: &'a str,
    unit: &'a str,
}

#[derive(Serialize)]
struct BasePart<'a> {
    #[serde(flatten)]
    meta: &'a PageMeta,
    total: i64,
    samples_total: i64,
    quality: QualityRow<'a>,
}

#[derive(Default, Serialize)]
struct ChangeColumns {
    function: Vec<u32>,
    base_total: Vec<f64>,
    new_total: Vec<f64>,
    base_self: Vec<f64>,
    new_self: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
    significant: Vec<u8>,
    significant_total: Vec<u8>,
    significant_self: Vec<u8>,
    verdict: Vec<&'static str>,
}

/// How good a side is. Shares are 0 to 1, `null` where nothing tells.
#[derive(Serialize)]
struct QualityRow<'a> {
    lost: Option<u64>,
    lost_share: Option<f64>,
    throttled: u64,
    complete_share: Option<f64>,
    /// The part of the value whose stacks have a frame without a name.
    unnamed_share: Option<f64>,
    /// Distinct frames without a name, and all.
    frames: Option<(u64, u64)>,
    /// The same shares for people, as every other view writes them.
    told: Told,
    unknown_share: Option<f64>,
    /// The rows of the health table that are not zero.
    health: Vec<HealthRow>,
    remarks: Vec<&'a str>,
    gaps: &'a [[i64; 2]],
    unreadable: &'a [String],
}

/// Shares in percent; `null` where nothing tells.
#[derive(Serialize)]
struct Told {
    lost: Option<String>,
    cut: Option<String>,
    unnamed: Option<String>,
    unnamed_frames: Option<String>,
}

#[derive(Serialize)]
struct HealthRow {
    name: &'static str,
    meaning: &'static str,
    count: u64,
}

impl QualityRow<'_> {
    fn of(side: Side<'_>, unknown: [i128; 2]) -> QualityRow<'_> {
        let quality = Quality::of(side.profile);
        let known = quality.as_ref();
        let rows = known.into_iter().flat_map(|quality| quality.health.rows());
        let counted = known.map(|quality| quality.of_column(side.profile, side.column));
        QualityRow {
            lost: counted.map(|counted| counted.lost).or(side.meta.lost),
            lost_share: counted.map(|counted| counted.lost_share()),
            throttled: counted.map_or(0, |counted| counted.throttled),
            complete_share: known.and_then(Quality::complete_share),
            unnamed_share: counted.and_then(|counted| counted.unnamed_share()),
            frames: known.map(Quality::frames).filter(|&(_, all)| all > 0),
            told: Told {
                lost: counted.map(|counted| counted.lost_percent()),
                cut: known.and_then(Quality::cut_percent),
                unnamed: counted.and_then(|counted| counted.unnamed_percent()),
                unnamed_frames: known.and_then(Quality::frames_percent),
            },
            unknown_share: (unknown[1] > 0).then(|| ratio(unknown)),
            health: rows.map(|(row, count)| HealthRow { name: row.name(), meaning: row.meaning(), count }).collect(),
            remarks: side.profile.remarks().collect(),
            gaps: &side.meta.gaps,
            unreadable: &side.meta.unreadable,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share is shown with one decimal")]
fn ratio([part, all]: [i128; 2]) -> f64 {
    part as f64 / all as f64
}
