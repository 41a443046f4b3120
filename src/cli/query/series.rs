//! `rprof query --series`: values over time as a table with a small graph in each row, as JSON, or as comma-separated values.

use std::fmt::Write as _;

use super::super::show::{self, cpus, fit, printable};
use super::super::{usage, when};
use super::{QueryArgs, coverage};
use crate::store::series::SeriesError;
use crate::store::{By, Limits, Line, Plan, Query, Row, Series, series};

/// Characters of a graph at most.
const MAX_COLUMNS: i64 = 60;
/// Heights of a graph, from next to nothing to the largest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Width of the numbers in a row.
const NUMBERS: usize = 34;
/// A name is cut to no less than this.
const MIN_NAME: usize = 12;
const NANOS: i64 = 1_000_000_000;

/// Prints the series: of windows, or of parts of a file.
pub(super) fn run(args: &QueryArgs, query: &Query, plan: &Plan, parts: &[Row]) -> anyhow::Result<()> {
    let series = series_of(args, query, parts).map_err(usage)?;
    let is_time = plan.is_time();
    let text = if args.json {
        json(&series, query, plan)?
    } else if args.csv {
        csv(&series)
    } else {
        table(args, &series, query, plan, is_time)
    };
    show::print(&text)
}

fn series_of(args: &QueryArgs, query: &Query, parts: &[Row]) -> Result<Series, SeriesError> {
    let step = series::asked_step(args.step.as_deref(), &query.range, MAX_COLUMNS)?;
    let range = series::whole_steps(&query.range, step);
    if let By::Label(key) = &args.by
        && !series::tells(parts, key)
    {
        return Err(SeriesError::NotBy(key.clone()));
    }
    Series::asked(parts, &range, step, &args.by, &query.selector, &Limits::default())
}

fn table(args: &QueryArgs, series: &Series, query: &Query, plan: &Plan, is_time: bool) -> String {
    let mut out = coverage(query, plan, &plan.counted());
    let (what, columns) = if is_time { ("CPUS", "CPUs") } else { ("/S", "events a second") };
    let step = show::amount(series.step.into(), "nanoseconds");
    let _ =
        writeln!(out, "# {columns}, one character for {step} from {}; a blank has no data\n", when::show(series.start));
    let covered: f64 = series.covered.iter().sum();
    let sum: f64 = series.lines.iter().map(Line::total).sum();
    let limit = if args.show.limit == 0 { series.lines.len() } else { args.show.limit };
    let graph = series.covered.len();
    let room = show::width().saturating_sub(NUMBERS + graph.min(128)).max(MIN_NAME);
    let _ = writeln!(
        out,
        "{:>9}  {:>9}  {:>8}  {:graph$}  NAME",
        format!("MEAN {what}"),
        format!("MAX {what}"),
        "SHARE",
        ""
    );
    let scale = if is_time { 1.0 } else { 1e9 };
    let highest = |line: &Line| series.rates(line, is_time).flatten().fold(0.0_f64, f64::max);
    let top = series.lines.iter().take(limit).map(highest).fold(0.0_f64, f64::max);
    for line in series.lines.iter().take(limit) {
        let mean = if covered > 0.0 { line.total() / covered * scale } else { 0.0 };
        let share = if sum == 0.0 { 0.0 } else { line.total() / sum * 100.0 };
        let graph: String = series.rates(line, is_time).map(|rate| bar(rate, top)).collect();
        let name = fit(&shown_name(&line.name, &args.by), room);
        let _ = writeln!(out, "{:>9}  {:>9}  {share:>6.2} %  {graph}  {name}", rate(mean), rate(highest(line)));
    }
    if series.lines.len() > limit {
        let _ = writeln!(out, "({} more; -n 0 shows all)", series.lines.len() - limit);
    }
    out
}

fn shown_name(name: &str, by: &By) -> String {
    match (name, by) {
        ("", By::All) => "all".into(),
        ("", _) => "[none]".into(),
        _ => printable(name),
    }
}

/// All rows have one scale, so that their graphs can be compared.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one of eight heights")]
fn bar(rate: Option<f64>, top: f64) -> char {
    let Some(rate) = rate else { return ' ' };
    let share = if top > 0.0 { (rate / top).clamp(0.0, 1.0) } else { 0.0 };
    BARS[((share * BARS.len() as f64) as usize).min(BARS.len() - 1)]
}

/// As values of tables are written.
#[allow(clippy::cast_possible_truncation, reason = "three digits are shown")]
fn rate(rate: f64) -> String {
    cpus((rate * 1e9) as i128, NANOS)
}

fn json(series: &Series, query: &Query, plan: &Plan) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&series.to_json(query, plan))?))
}

/// A line for each step and series: `time_nanos,covered_nanos,name,value,samples`.
fn csv(series: &Series) -> String {
    let mut out = String::from("time_nanos,covered_nanos,name,value,samples\n");
    for (at, covered) in series.covered.iter().enumerate() {
        let time = series.start.0.saturating_add(i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(series.step));
        for line in &series.lines {
            let name = format!("\"{}\"", line.name.replace('"', "\"\""));
            let _ = writeln!(out, "{time},{covered:.0},{name},{:.0},{:.0}", line.values[at], line.samples[at]);
        }
    }
    out
}
