//! Times and durations as people write and read them. Times without a zone are of the local one (`TZ`, else `/etc/localtime`).

use std::ops::Range;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::ids::UnixNanos;

/// What can be written, for errors and help.
pub const TIMES: &str = "now, now-1h, -15m, 15m (ago), 14:32, 14:32:10, yesterday 14:32, 2026-11-23, 2026-11-23T14:30[:05][Z|+01:00], @1795444200";
/// What a duration can be.
const DURATIONS: &str = "20us, 500ms, 90s, 2m, 1h30m, 7d, or a number of seconds";
/// Units of durations, the longer spellings first, in nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3600 * NANOS),
    ("d", 86_400 * NANOS),
    ("w", 7 * 86_400 * NANOS),
];
const NANOS: u64 = 1_000_000_000;
/// The time that is meant if none is asked for: the last hour.
const DEFAULT_WIDTH: Duration = Duration::from_secs(3600);
/// What lies around a time if no width is asked for: the minute before and the minute after.
const AROUND_WIDTH: Duration = Duration::from_secs(120);

/// A time as it was asked for, in the words of `rprof query`: from and to, or around with a width, or from with a width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// From this time on.
    pub from: Option<&'a str>,
    /// Until this time; now, if nothing else says.
    pub to: Option<&'a str>,
    /// What lies around this time.
    pub around: Option<&'a str>,
    /// How much time.
    pub width: Option<&'a str>,
}

impl Asked<'_> {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Asked::default()
    }

    /// The time from its beginning until before its end; without any, the last hour.
    ///
    /// # Errors
    /// A sentence that says what was not understood, or that the time is empty.
    pub fn range(&self, now: UnixNanos) -> Result<Range<UnixNanos>, String> {
        let time = |text: Option<&str>| text.map(|text| parse(text, now)).transpose();
        let width = self.width.map(duration).transpose()?;
        let nanos = |width: Duration| i64::try_from(width.as_nanos()).unwrap_or(i64::MAX);
        let at = |time: UnixNanos, by: i64| UnixNanos(time.0.saturating_add(by));
        let range = match (time(self.around)?, time(self.from)?) {
            (Some(around), _) => {
                let half = nanos(width.unwrap_or(AROUND_WIDTH)) / 2;
                at(around, -half)..at(around, half)
            }
            (None, Some(from)) => match (width, time(self.to)?) {
                (Some(width), _) => from..at(from, nanos(width)),
                (None, to) => from..to.unwrap_or(now),
            },
            (None, None) => {
                let end = time(self.to)?.unwrap_or(now);
                at(end, -nanos(width.unwrap_or(DEFAULT_WIDTH)))..end
            }
        };
        if range.is_empty() {
            let (start, end) = (show(range.start), show(range.end));
            return Err(format!("the asked time is empty: it ends at {end}, and begins at {start}"));
        }
        Ok(range)
    }
}

/// Reads a time. A time of day without a date is the last one that was: 14:32 at noon is yesterday's.
///
/// # Errors
/// A sentence that says what was not understood, and what would be.
pub fn parse(text: &str, now: UnixNanos) -> Result<UnixNanos, String> {
    parse_in(text, now, &TimeZone::system())
}

/// Shows a time with its date, to the second, in the local zone: `2026-11-23 14:31:00 CET`.
#[must_use]
pub fn show(time: UnixNanos) -> String {
    show_in(time, "%Y-%m-%d %H:%M:%S %Z", &TimeZone::system())
}

/// Shows a span of time; a date that is the same on both sides stands once: `2026-11-23 14:31:00–14:33:00 CET`.
#[must_use]
pub fn show_span(start: UnixNanos, end: UnixNanos) -> String {
    show_span_in(start, end, &TimeZone::system())
}

/// Shows the time of day, to the minute, or to the second where that matters: `14:31`.
#[must_use]
pub fn show_clock(time: UnixNanos) -> String {
    let whole = time.0 % 60_000_000_000 == 0;
    show_in(time, if whole { "%H:%M" } else { "%H:%M:%S" }, &TimeZone::system())
}

/// Reads a duration, as every option takes it: numbers with units from `ns` to `w` (weeks), added up, or one number of seconds.
///
/// # Errors
/// A sentence that says what was not understood, and what would be.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim();
    let is_number =
        number.contains(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds = times(number, NANOS).filter(|_| is_number);
    seconds.map_or_else(|| with_units(text), |nanos| Ok(Duration::from_nanos(nanos)))
}

/// Reads a duration of which every number has a unit.
fn with_units(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write one like {DURATIONS}");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("{text:?} has no unit; write one like {DURATIONS}"))?;
        let (number, behind) = rest.split_at(digits);
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit)).ok_or_else(wrong)?;
        sum = sum.checked_add(times(number, *nanos).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = &behind[unit.len()..];
    }
    Ok(Duration::from_nanos(sum))
}

/// A decimal number of units, exactly.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut sum = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        sum = sum.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(sum)
}

fn parse_in(text: &str, now: UnixNanos, zone: &TimeZone) -> Result<UnixNanos, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is no time; write one like {TIMES}");
    if let Some(seconds) = text.strip_prefix('@') {
        if let Some(nanos) = seconds.strip_suffix("ns") {
            return nanos.parse().map(UnixNanos).map_err(|_| wrong());
        }
        return unix(seconds).ok_or_else(wrong);
    }
    let offset = text.strip_prefix("now").unwrap_or(text);
    if offset.is_empty() && !text.is_empty() {
        return Ok(now);
    }
    if let Some(back) = offset.strip_prefix('-').map(str::trim) {
        return shift(now, back, |now, by| now.checked_sub(by));
    }
    if let Some(on) = offset.strip_prefix('+').map(str::trim) {
        return shift(now, on, |now, by| now.checked_add(by));
    }
    // `5m` alone is five minutes ago.
    if let Ok(ago) = with_units(text) {
        let ago = i64::try_from(ago.as_nanos()).map_err(|_| wrong())?;
        return now.0.checked_sub(ago).map(UnixNanos).ok_or_else(wrong);
    }
    civil(text, now, zone).ok_or_else(wrong)
}

fn shift(now: UnixNanos, by: &str, add: fn(i64, i64) -> Option<i64>) -> Result<UnixNanos, String> {
    let by = i64::try_from(with_units(by)?.as_nanos()).map_err(|_| format!("{by:?} is too long"))?;
    add(now.0, by).map(UnixNanos).ok_or_else(|| "the time lies outside of what can be counted".into())
}

fn unix(seconds: &str) -> Option<UnixNanos> {
    let (negative, digits) = seconds.strip_prefix('-').map_or((false, seconds), |digits| (true, digits));
    let nanos = i64::try_from(times(digits, NANOS)?).ok()?;
    Some(UnixNanos(if negative { -nanos } else { nanos }))
}

/// A date, a time of day, both, or both with a zone.
fn civil(text: &str, now: UnixNanos, zone: &TimeZone) -> Option<UnixNanos> {
    let today = Timestamp::from_nanosecond(now.0.into()).ok()?.to_zoned_datetime(zone.clone()).date();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["today"] => at(today, Time::midnight(), zone),
        ["yesterday"] => at(today.yesterday().ok()?, Time::midnight(), zone),
        ["today", clock] => at(today, time_of_day(clock)?, zone),
        ["yesterday", clock] => at(today.yesterday().ok()?, time_of_day(clock)?, zone),
        [date, clock] => date_and_time(&format!("{date}T{clock}"), zone),
        [word] if word.contains(['T', 't']) => date_and_time(word, zone),
        [word] if word.contains(':') => {
            let clock = time_of_day(word)?;
            let last = at(today, clock, zone)?;
            if last <= now { Some(last) } else { at(today.checked_sub(1.day()).ok()?, clock, zone) }
        }
        [word] => at(word.parse::<Date>().ok()?, Time::midnight(), zone),
        _ => None,
    }
}

/// jiff reads `14:30` as the offset of an hour too, and a date with a clock; a time of day has digits and colons alone.
fn time_of_day(text: &str) -> Option<Time> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.') && text.contains(':');
    // `9:05` as well as `09:05`.
    let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
    plain.then(|| padded.parse().ok()).flatten()
}

fn date_and_time(text: &str, zone: &TimeZone) -> Option<UnixNanos> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanos(time);
    }
    let civil: DateTime = text.parse().ok()?;
    at(civil.date(), civil.time(), zone)
}

/// A time that a change to summer time skips is taken as the hour later, one that stands twice as the first.
fn at(date: Date, clock: Time, zone: &TimeZone) -> Option<UnixNanos> {
    nanos(date.to_datetime(clock).to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

fn nanos(time: Timestamp) -> Option<UnixNanos> {
    i64::try_from(time.as_nanosecond()).ok().map(UnixNanos)
}

fn show_in(time: UnixNanos, format: &str, zone: &TimeZone) -> String {
    let time = Timestamp::from_nanosecond(time.0.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned_datetime(zone.clone()).strftime(format).to_string()
}

fn show_span_in(start: UnixNanos, end: UnixNanos, zone: &TimeZone) -> String {
    let day = |time| show_in(time, "%Y-%m-%d", zone);
    let zones = [start, end].map(|time| show_in(time, "%Z", zone));
    let start_zone = if zones[0] == zones[1] { "" } else { " %Z" };
    let left = show_in(start, &format!("%Y-%m-%d %H:%M:%S{start_zone}"), zone);
    let right = if day(start) == day(end) { "%H:%M:%S %Z" } else { "%Y-%m-%d %H:%M:%S %Z" };
    format!("{left}–{}", show_in(end, right, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-23 12:00 in Berlin.
    const NOON: UnixNanos = UnixNanos(1_795_431_600_000_000_000);

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn shown(text: &str) -> String {
        match parse_in(text, NOON, &berlin()) {
            Ok(time) => show_in(time, "%Y-%m-%d %H:%M:%S %Z", &berlin()),
            Err(error) => error,
        }
    }

    #[test]
    fn times_as_people_write_them() {
        for (text, time) in [
            ("now", "2026-11-23 12:00:00 CET"),
            ("now-1h", "2026-11-23 11:00:00 CET"),
            ("now-1h30m", "2026-11-23 10:30:00 CET"),
            ("-15m", "2026-11-23 11:45:00 CET"),
            ("15m", "2026-11-23 11:45:00 CET"),
            ("now+90s", "2026-11-23 12:01:30 CET"),
            ("11:32", "2026-11-23 11:32:00 CET"),
            ("9:05", "2026-11-23 09:05:00 CET"),
            ("14:32", "2026-11-22 14:32:00 CET"),
            ("14:32:10", "2026-11-22 14:32:10 CET"),
            ("today 14:32", "2026-11-23 14:32:00 CET"),
            ("yesterday", "2026-11-22 00:00:00 CET"),
            ("yesterday 09:00", "2026-11-22 09:00:00 CET"),
            ("2026-11-20", "2026-11-20 00:00:00 CET"),
            ("2026-07-01 08:15", "2026-07-01 08:15:00 CEST"),
            ("2026-11-20T08:15", "2026-11-20 08:15:00 CET"),
            ("2026-11-20T08:15:05Z", "2026-11-20 09:15:05 CET"),
            ("2026-11-20T08:15Z", "2026-11-20 09:15:00 CET"),
            ("2026-11-20T08:15+03:00", "2026-11-20 06:15:00 CET"),
            ("@1795431600", "2026-11-23 12:00:00 CET"),
        ] {
            assert_eq!(shown(text), time, "{text}");
        }
        assert_eq!(parse_in("@1.25", NOON, &berlin()), Ok(UnixNanos(1_250_000_000)));
        assert_eq!(parse_in("@1250000001ns", NOON, &berlin()), Ok(UnixNanos(1_250_000_001)));
    }

    #[test]
    fn an_hour_that_summer_time_skips_or_repeats_has_a_time() {
        assert_eq!(shown("2026-03-29 02:30"), "2026-03-29 03:30:00 CEST");
        assert_eq!(shown("2026-10-25 02:30"), "2026-10-25 02:30:00 CEST");
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for text in
            ["", "noon", "25:00", "2026-13-01", "@", "@x", "now-", "-5", "1432", "14:3x", "yesterday noon", "12:00-"]
        {
            let error = parse_in(text, NOON, &berlin()).unwrap_err();
            assert!(error.contains("write one like"), "{text:?}: {error}");
        }
        let far = parse_in("-99999999w", NOON, &berlin()).unwrap_err();
        assert!(!far.is_empty());
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("2", 2.0),
            ("0.5", 0.5),
            ("20us", 0.000_02),
            ("2m", 120.0),
            ("1h30m", 5400.0),
            ("7d", 604_800.0),
            ("1.5m", 90.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "m", ".", "5x", "1h30", "-5m", "999999999w", "1..5s"] {
            assert!(duration(text).unwrap_err().contains("write one like"), "{text}");
        }
    }

    #[test]
    fn a_span_tells_its_date_once() {
        let later = |seconds: i64| UnixNanos(NOON.0 + seconds * 1_000_000_000);
        assert_eq!(show_span_in(NOON, later(120), &berlin()), "2026-11-23 12:00:00–12:02:00 CET");
        assert_eq!(
            show_span_in(NOON, later(86_400), &berlin()),
            "2026-11-23 12:00:00 CET–2026-11-24 12:00:00 CET".replace(" CET–", "–")
        );
    }
}
