//! How a window's file is named: `HOST.KIND.20261123T143200Z-20261123T143300Z[.5m|.1h][.snapshot][.N].pb.gz`, in a folder for
//! the day and one for the hour of its start, all in UTC. A name holds all of [`WindowName`], so that it can be read back.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::{Level, Source, WindowName};
use crate::encode::{FORMATS, Format};
use crate::ids::UnixNanos;

/// The formats that windows are written in, by the ending of their files.
const ENDINGS: [&str; 2] = ["pb.gz", "folded"];
/// Letters of a host or a kind that are kept. A file's name may have 255 bytes; Linux's host names have at most 64.
const MAX_PART: usize = 64;
const MILLISECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600_000_000_000;
/// What ends the name of a pin: the window's file name and this.
pub(super) const PIN: &str = ".pin";

/// An hour since 1970, UTC; its folder is `2026-11-23/14`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hour(i64);

/// A day since 1970, UTC; its folder is `2026-11-23`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Day(i64);

impl Hour {
    /// The hour that holds a point in time.
    pub(super) fn of(time: UnixNanos) -> Hour {
        Hour(time.0.div_euclid(HOUR))
    }

    pub(super) fn start(self) -> UnixNanos {
        UnixNanos(self.0.saturating_mul(HOUR))
    }

    pub(super) fn end(self) -> UnixNanos {
        UnixNanos(self.0.saturating_add(1).saturating_mul(HOUR))
    }

    pub(super) fn day(self) -> Day {
        Day(self.0.div_euclid(24))
    }

    /// The folder, below the directory.
    pub(super) fn folder(self) -> PathBuf {
        self.day().folder().join(format!("{:02}", self.0.rem_euclid(24)))
    }
}

impl Day {
    /// The day that holds a point in time.
    pub(super) fn of(time: UnixNanos) -> Day {
        Hour::of(time).day()
    }

    /// The day of a folder's name; `None` for a folder that is none of ours.
    pub(super) fn parse(name: &str) -> Option<Day> {
        let date: jiff::civil::Date = name.parse().ok()?;
        let day = Day::of(nanos(date.at(0, 0, 0, 0))?);
        (day.folder() == Path::new(name)).then_some(day)
    }

    /// The hour of a folder's name below this day's.
    pub(super) fn hour(self, name: &str) -> Option<Hour> {
        let hour: i64 = name.parse().ok().filter(|hour| (0..24).contains(hour))?;
        (name.len() == 2).then_some(Hour(self.0 * 24 + hour))
    }

    /// The folder, below the directory.
    pub(super) fn folder(self) -> PathBuf {
        let date = civil(UnixNanos(self.0.saturating_mul(24 * HOUR))).date();
        PathBuf::from(format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()))
    }
}

/// The name of a window's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileName {
    /// The window.
    pub(super) name: WindowName,
    /// 1, or more where the same name was there already (a clock that was set back).
    pub(super) number: u32,
    /// The ending that tells the format.
    pub(super) ending: &'static str,
}

impl FileName {
    /// The ending of a format's windows; `None` for a format that holds too little to be read again.
    pub(super) fn ending(format: &Format) -> Option<&'static str> {
        let readable = FORMATS.iter().find(|known| known.name == format.name && known.read.is_some())?;
        ENDINGS.into_iter().find(|ending| readable.endings.contains(ending))
    }

    /// Reads a name; `None` for a file that is no window.
    pub(super) fn parse(text: &str) -> Option<FileName> {
        let with_dot = |ending: &&str| text.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'));
        let ending = ENDINGS.into_iter().find(with_dot)?;
        let mut parts = text[..text.len() - ending.len() - 1].splitn(3, '.');
        let (host, kind, rest) = (parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?);
        let (start, rest) = rest.split_once('-')?;
        let (end, rest) = rest.split_at(rest.find('Z')? + 1);
        let (mut level, mut source, mut number) = (Level::Window, Source::Recorder, 1);
        for part in rest.split('.').skip(1) {
            match part {
                "5m" => level = Level::FiveMinutes,
                "1h" => level = Level::Hour,
                "snapshot" => source = Source::Snapshot,
                _ => number = part.parse().ok()?,
            }
        }
        let name = WindowName { host, kind, source, level, start: parse_time(start)?, end: parse_time(end)? };
        let file = FileName { name: name.safe(), number, ending };
        // One name for one window: what is spelled otherwise is somebody else's.
        (file.to_string() == text).then_some(file)
    }

    /// The hour whose folder holds it.
    pub(super) fn hour(&self) -> Hour {
        Hour::of(self.name.start)
    }

    /// The file, below the directory.
    pub(super) fn path(&self) -> PathBuf {
        self.hour().folder().join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WindowName { host, kind, source, level, start, end } = &self.name;
        write!(f, "{host}.{kind}.{}-{}", show_time(*start), show_time(*end))?;
        f.write_str(match level {
            Level::Window => "",
            Level::FiveMinutes => ".5m",
            Level::Hour => ".1h",
        })?;
        f.write_str(if *source == Source::Snapshot { ".snapshot" } else { "" })?;
        if self.number > 1 {
            write!(f, ".{}", self.number)?;
        }
        write!(f, ".{}", self.ending)
    }
}

/// Whether windows of a kind tell of the state at their end (what is in use), and not of what happened within them (what was used):
/// states are not added up over time, but the last one counts.
#[must_use]
pub fn is_state(kind: &str) -> bool {
    kind.starts_with("inuse_")
}

impl WindowName {
    /// Whether it tells of a state: see [`is_state`].
    #[must_use]
    pub fn is_state(&self) -> bool {
        is_state(&self.kind)
    }

    /// The name as a file can hold it: of host and kind the letters `a-z A-Z 0-9 _ -` and `_` for others, at most 64; times in
    /// whole milliseconds, rounded down, so that windows that touch still do.
    #[must_use]
    pub fn safe(&self) -> WindowName {
        WindowName {
            host: safe_part(&self.host),
            kind: safe_part(&self.kind),
            source: self.source,
            level: self.level,
            start: whole_milliseconds(self.start),
            end: whole_milliseconds(self.end),
        }
    }

    /// When it ended; its start, where a clock that was set back meanwhile says otherwise.
    #[must_use]
    pub fn last(&self) -> UnixNanos {
        self.end.max(self.start)
    }
}

/// A host or a kind as the name of a file can hold it.
pub(super) fn safe_part(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let text: String = text.chars().take(MAX_PART).map(safe).collect();
    if text.is_empty() { "_".into() } else { text }
}

fn whole_milliseconds(time: UnixNanos) -> UnixNanos {
    let above = time.0.rem_euclid(MILLISECOND);
    // The first millisecond that 64 bits hold is not whole.
    UnixNanos(time.0.checked_sub(above).unwrap_or(time.0 + (MILLISECOND - above)))
}

fn civil(time: UnixNanos) -> DateTime {
    // 64 bits of nanoseconds are the years 1677 to 2262, all of which the calendar has.
    let time = jiff::Timestamp::from_nanosecond(time.0.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Offset::UTC.to_datetime(time)
}

fn nanos(time: DateTime) -> Option<UnixNanos> {
    let time = Offset::UTC.to_timestamp(time).ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(UnixNanos)
}

/// `20261123T143200Z`, or `20261123T143200.250Z`.
fn show_time(time: UnixNanos) -> String {
    let at = civil(time);
    let seconds = (at.hour(), at.minute(), at.second());
    let fraction = i64::from(at.subsec_nanosecond()) / MILLISECOND;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}{fraction}Z",
        at.year(),
        at.month(),
        at.day(),
        seconds.0,
        seconds.1,
        seconds.2
    )
}

/// The other way round; what is not spelled exactly so gives another name when shown again.
fn parse_time(text: &str) -> Option<UnixNanos> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let digits =
        |text: &str| (text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok());
    let (date, time, fraction): (i32, i32, i32) = (digits(date)??, digits(time)??, digits(fraction)??);
    let small = |number: i32| i8::try_from(number % 100).ok();
    let date = jiff::civil::Date::new(i16::try_from(date / 10_000).ok()?, small(date / 100)?, small(date)?).ok()?;
    let hour = i8::try_from(time / 10_000).ok()?;
    let fraction = fraction.checked_mul(1_000_000)?;
    let time = jiff::civil::Time::new(hour, small(time / 100)?, small(time)?, fraction).ok()?;
    nanos(date.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> FileName {
        FileName::parse(text).unwrap_or_else(|| panic!("{text} is a name"))
    }

    #[test]
    fn a_name_says_what_ls_and_find_need() {
        let name = WindowName {
            host: "web1.example".into(),
            kind: "cpu".into(),
            source: Source::Snapshot,
            level: Level::FiveMinutes,
            start: UnixNanos(1_795_444_320_000_000_000),
            end: UnixNanos(1_795_444_380_250_999_999),
        };
        let file = FileName { name: name.safe(), number: 2, ending: "pb.gz" };
        assert_eq!(
            file.path().to_str(),
            Some("2026-11-23/14/web1_example.cpu.20261123T143200Z-20261123T143300.250Z.5m.snapshot.2.pb.gz")
        );
        assert_eq!(Day::parse("2026-11-23"), Some(file.hour().day()));
        assert_eq!(file.hour().day().hour("14"), Some(file.hour()));
    }

    #[test]
    fn other_files_are_none_of_ours() {
        let good = "h.cpu.20261123T143200Z-20261123T143300Z.pb.gz";
        assert_eq!(file(good).to_string(), good);
        for bad in [
            "notes.txt",
            "h.cpu.20261123T143200Z-20261123T143300Z.svg",
            "h.cpu.20261123T143200Z-20261123T143300Z.1.pb.gz",
            "h.cpu.20261123T143200Z-20261123T143300Z.02.pb.gz",
            "h.cpu.20261123T143200Z-20261123T143300Z.snapshot.5m.pb.gz",
            "h.cpu.20261123T143200.000Z-20261123T143300Z.pb.gz",
            "h.cpu.20261323T143200Z-20261123T143300Z.pb.gz",
            "h.cpu.20261123T143260Z-20261123T143300Z.pb.gz",
            ".h.cpu.20261123T143200Z-20261123T143300Z.pb.gz",
            "h.cpu.20261123T143200Z-20261123T143300Z.pb.gz.pin",
        ] {
            assert_eq!(FileName::parse(bad), None, "{bad}");
        }
        for bad in ["2026-1-23", "2026-11-31", "20261123", "lost+found"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_are_read_back(
            host in ".{0,80}", kind in ".{0,80}", start: i64, end: i64, snapshot: bool,
            level in prop::sample::select(vec![Level::Window, Level::FiveMinutes, Level::Hour]),
            number in 1_u32.., ending in prop::sample::select(ENDINGS.to_vec()),
        ) {
            let source = if snapshot { Source::Snapshot } else { Source::Recorder };
            let name = WindowName { host, kind, source, level, start: UnixNanos(start), end: UnixNanos(end) }.safe();
            let file = FileName { name, number, ending };
            let text = file.to_string();
            prop_assert!(text.len() + PIN.len() < 256 && !text.starts_with('.') && !text.contains('/'));
            prop_assert_eq!(FileName::parse(&text), Some(file.clone()));
            let mut folders = file.path().parent().into_iter().flat_map(|path| path.iter().map(|name| name.to_owned())).collect::<Vec<_>>();
            let hour = folders.pop().and_then(|hour| hour.into_string().ok()).unwrap();
            let day = Day::parse(folders.pop().and_then(|day| day.into_string().ok()).as_deref().unwrap()).unwrap();
            prop_assert_eq!(day.hour(&hour), Some(file.hour()));
        }

        #[test]
        fn any_text_is_a_name_or_none(text in ".{0,60}", at in 0_usize..60) {
            let _ = FileName::parse(&text);
            let mut name = "h.cpu.20261123T143200Z-20261123T143300.250Z.5m.pb.gz".to_owned();
            name.replace_range(at.min(name.len())..(at + 1).min(name.len()).max(at.min(name.len())), &text);
            let _ = FileName::parse(&name);
        }
    }
}
