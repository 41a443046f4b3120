//! Reading `profile.proto`: straight from its wire form into a profile, without a copy between them.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use rustc_hash::FxHashMap;

use super::super::bounds::Bounds;
use super::super::wire::{Fields, Value};
use super::super::{DecodeError, ReadOptions, Room, folded};
use crate::profile::{
    Function, FunctionId, KeptLabels, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample,
    SourceLine, StringId, Strings, ValueType,
};

/// Decompressed bytes that are read at most. A window of a busy host with 100,000 stacks has 20 MB; 256 MB is a day's.
const MAX_BYTES: usize = 256 << 20;
/// Entries that are read at most, all tables together: an entry of two bytes takes up to 100 in memory.
const MAX_ENTRIES: usize = 4 << 20;
/// Comments that are read at most; a window that was merged of an hour's has some thousand.
const MOST_COMMENTS: usize = 1 << 20;
/// Entries of lists for which room is kept for the next file, of all samples or of all locations together: 100,000 samples of 40. Each
/// entry has the room of the largest list that it ever had, which files could be made to drive up.
const MAX_ROOM: usize = 4 << 20;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Gzip, or a message of which the first field is one of `profile.proto`'s and no text.
pub(in crate::encode) fn recognize(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC) || (!folded::recognize(bytes) && count_entries(bytes).is_ok_and(|n| n > 0))
}

/// Reads a profile, gzipped or plain.
pub(in crate::encode) fn read(bytes: &[u8], options: &ReadOptions, room: &mut Room) -> Result<(), DecodeError> {
    let Room { plain, profile } = room;
    empty(profile);
    if !bytes.starts_with(GZIP_MAGIC) {
        return read_plain(bytes, bytes.len(), options, profile);
    }
    plain.clear();
    let limit = MAX_BYTES as u64 + 1;
    MultiGzDecoder::new(bytes).take(limit).read_to_end(plain).map_err(DecodeError::Gzip)?;
    if plain.len() <= MAX_BYTES && folded::recognize(plain) {
        let text = std::mem::take(plain);
        return folded::read(&text, options, room);
    }
    read_plain(plain, bytes.len(), options, profile)
}

/// Makes a profile as good as new but for the room that it has. The entries of tables whose lists are used again stay until they are
/// read over.
fn empty(profile: &mut Profile) {
    let Profile { mut strings, mut samples, mut locations, .. } = std::mem::take(profile);
    strings.clear();
    let room = |sample: &Sample| sample.stack.capacity() + sample.values.capacity() + sample.labels.capacity();
    if samples.iter().map(room).sum::<usize>() > MAX_ROOM {
        samples.clear();
    }
    if locations.iter().map(|location| location.lines.capacity()).sum::<usize>() > MAX_ROOM {
        locations.clear();
    }
    *profile = Profile { strings, samples, locations, ..Profile::default() };
}

/// Reads what was decompressed of a file of `size` bytes.
fn read_plain(bytes: &[u8], size: usize, options: &ReadOptions, profile: &mut Profile) -> Result<(), DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge { limit: MAX_BYTES, what: "bytes when decompressed" });
    }
    let bounds = Bounds::of_file(size);
    WireProfile::read(bytes)?.profile(options, &bounds, profile)
}

/// The fields of the outermost message, without anything being allocated for them.
fn count_entries(bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut fields = Fields(bytes);
    let mut count = 0;
    while fields.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// A file's outermost message with its tables still in wire form: tables may come in any order, and refer to each other.
#[derive(Default)]
struct WireProfile<'a> {
    sample_types: Vec<&'a [u8]>,
    samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    strings: Vec<&'a [u8]>,
    period_type: Option<WireValueType>,
    comments: Vec<i64>,
    drop_frames: i64,
    keep_frames: i64,
    time_nanos: i64,
    duration_nanos: i64,
    period: i64,
    default_sample_type: i64,
    doc_url: i64,
}

impl<'a> WireProfile<'a> {
    fn read(bytes: &'a [u8]) -> Result<WireProfile<'a>, DecodeError> {
        let mut message = WireProfile::default();
        let mut fields = Fields(bytes);
        let mut entries = 0;
        while let Some((tag, value)) = fields.next()? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(DecodeError::TooLarge { limit: MAX_ENTRIES, what: "entries" });
            }
            match tag {
                1 => message.sample_types.push(value.bytes()?),
                2 => message.samples.push(value.bytes()?),
                3 => message.mappings.push(value.bytes()?),
                4 => message.locations.push(value.bytes()?),
                5 => message.functions.push(value.bytes()?),
                6 => message.strings.push(value.bytes()?),
                7 => message.drop_frames = value.signed()?,
                8 => message.keep_frames = value.signed()?,
                9 => message.time_nanos = value.signed()?,
                10 => message.duration_nanos = value.signed()?,
                11 => message.period_type.get_or_insert_default().read(value.bytes()?)?,
                12 => message.period = value.signed()?,
                13 => {
                    let count = value.count();
                    if count > MOST_COMMENTS {
                        return Err(DecodeError::TooLarge { limit: MOST_COMMENTS, what: "comments" });
                    }
                    message.comments.reserve(count);
                    value.each_number(|comment| message.comments.push(comment.cast_signed()))?;
                }
                14 => message.default_sample_type = value.signed()?,
                15 => message.doc_url = value.signed()?,
                _ => {}
            }
        }
        Ok(message)
    }

    fn profile(&self, options: &ReadOptions, bounds: &Bounds, profile: &mut Profile) -> Result<(), DecodeError> {
        let strings = Texts::read(&self.strings, &mut profile.strings)?;
        for bytes in &self.sample_types {
            let mut kind = WireValueType::default();
            kind.read(bytes)?;
            profile.sample_types.push(strings.value_type("a sample type", kind)?);
        }
        let mappings =
            table("mapping", &self.mappings, &mut profile.mappings, |bytes, to| mapping(bytes, &strings, to))?;
        let read = |bytes: &[u8], to: &mut Function| function(bytes, &strings, to);
        let functions = table("function", &self.functions, &mut profile.functions, read)?;
        let read = |bytes: &[u8], to: &mut Location| location(bytes, &mappings, &functions, bounds, to);
        let locations = table("location", &self.locations, &mut profile.locations, read)?;
        let kept = options.labels.of(&profile.strings);
        let reader = SampleReader {
            columns: profile.sample_types.len(),
            strings: &strings,
            locations: &locations,
            costs: &profile.locations.iter().map(|location| Cost::of(location, profile)).collect::<Vec<_>>(),
            texts: &profile.strings,
            bounds,
            kept,
        };
        self.samples(&reader, options.labels != KeptLabels::All, &mut profile.samples)?;
        self.header(&strings, profile)?;
        profile.prune().map_err(DecodeError::Pruning)
    }

    /// Reads the samples in the room of those that are there. If `add_up`, those without labels are added to the one with the same
    /// stack, which its wire form tells before it is read.
    fn samples(
        &self,
        reader: &SampleReader<'_, impl Fn(StringId) -> bool>,
        add_up: bool,
        samples: &mut Vec<Sample>,
    ) -> Result<(), DecodeError> {
        let mut by_stack: FxHashMap<&[u8], usize> = FxHashMap::default();
        samples.reserve_exact(self.samples.len().saturating_sub(samples.len()));
        let mut count = 0;
        for (number, bytes) in (1..).zip(&self.samples) {
            if samples.len() == count {
                samples.push(Sample::default());
            }
            let (before, room) = samples.split_at_mut(count);
            let sample = &mut room[0];
            let stack = reader.values_and_labels(number, bytes, sample)?;
            if let Some(stack) = stack.filter(|_| add_up && sample.labels.is_empty()) {
                if by_stack.get(stack).is_some_and(|&at| add(&mut before[at].values, &sample.values)) {
                    continue;
                }
                by_stack.insert(stack, count);
            }
            reader.stack(number, bytes, sample)?;
            count += 1;
        }
        samples.truncate(count);
        Ok(())
    }

    fn header(&self, strings: &Texts, profile: &mut Profile) -> Result<(), DecodeError> {
        for &comment in &self.comments {
            profile.comments.push(strings.get(|| "a comment".into(), comment)?);
        }
        let of_profile = |id| strings.get(|| "the profile".into(), id);
        profile.default_sample_type = of_profile(self.default_sample_type)?;
        profile.drop_frames = of_profile(self.drop_frames)?;
        profile.keep_frames = of_profile(self.keep_frames)?;
        profile.doc_url = of_profile(self.doc_url)?;
        profile.period_type = self.period_type.map(|kind| strings.value_type("the period type", kind)).transpose()?;
        profile.period = self.period;
        profile.time_nanos = self.time_nanos;
        profile.duration_nanos = self.duration_nanos;
        Ok(())
    }
}

/// As many entries, in the room of those that are there.
fn resize<T: Default>(entries: &mut Vec<T>, number: usize) {
    entries.reserve_exact(number.saturating_sub(entries.len()));
    entries.resize_with(number, T::default);
}

/// What reading an entry of a table gives: its id, which may be any number, and whether it refers to nothing that is not there. The id
/// is looked at first.
type Entry = Result<(u64, Result<(), DecodeError>), DecodeError>;

/// Reads the entries of a table.
fn table<T: Default>(
    name: &'static str,
    messages: &[&[u8]],
    entries: &mut Vec<T>,
    read: impl Fn(&[u8], &mut T) -> Entry,
) -> Result<Ids, DecodeError> {
    resize(entries, messages.len());
    let mut ids = Ids { table: name, sequential: 0, others: FxHashMap::default() };
    for (index, (bytes, to)) in (0_u32..).zip(messages.iter().zip(entries)) {
        let (id, entry) = read(bytes, to)?;
        ids.add(id, index)?;
        entry?;
    }
    Ok(ids)
}

fn mapping(bytes: &[u8], strings: &Texts, to: &mut Mapping) -> Entry {
    let (mut id, mut file, mut build_id, mut mapping) = (0, 0, 0, Mapping::default());
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => mapping.start = value.number()?,
            3 => mapping.limit = value.number()?,
            4 => mapping.offset = value.number()?,
            5 => file = value.signed()?,
            6 => build_id = value.signed()?,
            7 => mapping.has.functions = value.number()? != 0,
            8 => mapping.has.filenames = value.number()? != 0,
            9 => mapping.has.line_numbers = value.number()? != 0,
            10 => mapping.has.inline_frames = value.number()? != 0,
            _ => {}
        }
    }
    let text = |index| strings.get(|| format!("mapping {id}"), index);
    let mut entry = || {
        *to = Mapping { file: text(file)?, build_id: text(build_id)?, ..mapping };
        Ok(())
    };
    Ok((id, entry()))
}

fn function(bytes: &[u8], strings: &Texts, to: &mut Function) -> Entry {
    let (mut id, mut name, mut system_name, mut file, mut start_line) = (0, 0, 0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => name = value.signed()?,
            3 => system_name = value.signed()?,
            4 => file = value.signed()?,
            5 => start_line = value.signed()?,
            _ => {}
        }
    }
    let text = |index| strings.get(|| format!("function {id}"), index);
    // `name` is for people, and optional: writers that do not demangle fill only `system_name`.
    let shown = if name == 0 { system_name } else { name };
    let mut entry = || {
        *to = Function { name: text(shown)?, system_name: text(system_name)?, file: text(file)?, start_line };
        Ok(())
    };
    Ok((id, entry()))
}

fn location(bytes: &[u8], mappings: &Ids, functions: &Ids, bounds: &Bounds, to: &mut Location) -> Entry {
    to.lines.clear();
    *to = Location { lines: std::mem::take(&mut to.lines), ..Location::default() };
    let (mut id, mut mapping) = (0, 0);
    let mut missing = None;
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => mapping = value.number()?,
            3 => to.address = value.number()?,
            4 => {
                let (function, mut line) = line(value.bytes()?)?;
                match functions.index(function) {
                    Some(index) => line.function = FunctionId(index),
                    None => missing = missing.or(Some(function)),
                }
                bounds.list::<SourceLine>(1)?;
                // Most have one; a list that grows would have room for four.
                if to.lines.is_empty() {
                    to.lines.reserve_exact(1);
                }
                to.lines.push(line);
            }
            5 => to.folded = value.number()? != 0,
            _ => {}
        }
    }
    let owner = || format!("location {id}");
    let mut entry = || {
        to.mapping = match mapping {
            0 => None,
            id => Some(MappingId(mappings.find(owner, id)?)),
        };
        missing.map_or(Ok(0), |function| functions.find(owner, function))?;
        Ok(())
    };
    Ok((id, entry()))
}

fn line(bytes: &[u8]) -> Result<(u64, SourceLine), DecodeError> {
    let (mut function, mut line, mut column) = (0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => function = value.number()?,
            2 => line = value.signed()?,
            3 => column = value.signed()?,
            _ => {}
        }
    }
    Ok((function, SourceLine { function: FunctionId(0), line, column }))
}

/// What samples refer to, and how they are read.
struct SampleReader<'a, Kept> {
    columns: usize,
    strings: &'a Texts,
    locations: &'a Ids,
    /// What each location stands for.
    costs: &'a [Cost],
    texts: &'a Strings,
    bounds: &'a Bounds,
    kept: Kept,
}

/// What a location adds to whatever shows a stack with it.
#[derive(Clone, Copy)]
struct Cost {
    frames: u32,
    /// Bytes of names.
    text: u32,
}

impl Cost {
    fn of(location: &Location, profile: &Profile) -> Cost {
        /// No path that a kernel knows is longer; those within are not counted, as few outputs have one for each frame.
        const PATH_MAX: usize = 4096;
        let length = |text: StringId| profile.text(text).len();
        let path = |text: StringId| length(text).saturating_sub(PATH_MAX);
        let function = |line: &SourceLine| profile.functions.get(line.function.0 as usize);
        let names = location.lines.iter().filter_map(function).map(|of| length(of.name) + path(of.file)).sum::<usize>();
        let mapping = location.mapping.and_then(|mapping| profile.mappings.get(mapping.0 as usize));
        let text = names + mapping.map_or(0, |mapping| path(mapping.file));
        Cost {
            frames: u32::try_from(location.lines.len().max(1)).unwrap_or(u32::MAX),
            text: u32::try_from(text).unwrap_or(u32::MAX),
        }
    }
}

impl<Kept: Fn(StringId) -> bool> SampleReader<'_, Kept> {
    /// All but the stack, which is answered in wire form if it is one packed list, as nearly every writer makes it.
    fn values_and_labels<'a>(
        &self,
        number: usize,
        bytes: &'a [u8],
        to: &mut Sample,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        let owner = || format!("sample {number}");
        let Sample { values, labels, .. } = to;
        values.clear();
        labels.clear();
        let (mut stack, mut parts) = (None, 0);
        let mut fields = Fields(bytes);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => {
                    parts += 1;
                    stack = if let Value::Bytes(packed) = value { Some(packed) } else { None };
                }
                2 => {
                    self.bounds.list::<i64>(value.count())?;
                    reserve(values, value);
                    value.each_number(|value| values.push(value.cast_signed()))?;
                }
                3 => {
                    let label = label(value.bytes()?, owner, self.strings)?;
                    if (self.kept)(label.key) {
                        self.bounds.list::<Label>(1)?;
                        if let LabelValue::Text(text) = label.value {
                            self.bounds.text(self.texts.get(text).len())?;
                        }
                        labels.push(label);
                    }
                }
                _ => {}
            }
        }
        if values.len() != self.columns {
            let problem = format!("has {} values for {} sample types", values.len(), self.columns);
            return Err(DecodeError::Invalid { owner: owner(), problem });
        }
        Ok(stack.filter(|_| parts == 1))
    }

    fn stack(&self, number: usize, bytes: &[u8], to: &mut Sample) -> Result<(), DecodeError> {
        let stack = &mut to.stack;
        stack.clear();
        let mut missing = None;
        let mut fields = Fields(bytes);
        while let Some((tag, value)) = fields.next()? {
            if tag == 1 {
                self.bounds.list::<LocationId>(value.count())?;
                reserve(stack, value);
                value.each_number(|id| match self.locations.index(id) {
                    Some(index) => stack.push(LocationId(index)),
                    None => missing = missing.or(Some(id)),
                })?;
            }
        }
        let cost =
            |id: &LocationId| self.costs.get(id.0 as usize).map_or((1, 0), |of| (of.frames.into(), of.text.into()));
        let add = |(frames, text): (u64, u64), of: (u64, u64)| (frames.saturating_add(of.0), text.saturating_add(of.1));
        let (frames, text) = stack.iter().map(cost).fold((0, 0), add);
        self.bounds.stack(frames, text)?;
        let missing = missing.map(|id| self.locations.find(|| format!("sample {number}"), id));
        missing.transpose().map(|_| ())
    }
}

/// Adds values to others, all or, if a sum would be too large, none.
fn add(sums: &mut [i64], values: &[i64]) -> bool {
    let pairs = || sums.iter().zip(values);
    if pairs().any(|(sum, &value)| sum.checked_add(value).is_none()) {
        return false;
    }
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    true
}

/// Room for just what a packed field holds. Further fields of the same list, which no writer makes, grow it as usual.
fn reserve<T>(list: &mut Vec<T>, value: Value<'_>) {
    if list.is_empty() {
        list.reserve_exact(value.count());
    }
}

fn label(bytes: &[u8], owner: impl Fn() -> String + Copy, strings: &Texts) -> Result<Label, DecodeError> {
    let (mut key, mut text, mut number, mut unit) = (0, 0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => key = value.signed()?,
            2 => text = value.signed()?,
            3 => number = value.signed()?,
            4 => unit = value.signed()?,
            _ => {}
        }
    }
    let value = match text {
        0 => LabelValue::Number(number, strings.get(owner, unit)?),
        text => LabelValue::Text(strings.get(owner, text)?),
    };
    Ok(Label { key: strings.get(owner, key)?, value })
}

/// The ids of a table, which may be any numbers, and the indices that they get. Nearly every writer counts from 1.
struct Ids {
    table: &'static str,
    /// Ids from 1 to this are their index plus one.
    sequential: u32,
    others: FxHashMap<u64, u32>,
}

impl Ids {
    fn add(&mut self, id: u64, index: u32) -> Result<(), DecodeError> {
        let problem = match id {
            0 => "has the id 0, which means none",
            _ if self.index(id).is_some() => "is there twice",
            _ if self.sequential == index && id == u64::from(index) + 1 => {
                self.sequential += 1;
                return Ok(());
            }
            _ => {
                self.others.insert(id, index);
                return Ok(());
            }
        };
        Err(DecodeError::Invalid { owner: format!("{} {id}", self.table), problem: problem.into() })
    }

    fn index(&self, id: u64) -> Option<u32> {
        match u32::try_from(id) {
            Ok(id) if (1..=self.sequential).contains(&id) => Some(id - 1),
            _ => self.others.get(&id).copied(),
        }
    }

    fn find(&self, owner: impl Fn() -> String, id: u64) -> Result<u32, DecodeError> {
        self.index(id).ok_or_else(|| DecodeError::Invalid {
            owner: owner(),
            problem: format!("refers to {} {id}, which is not there", self.table),
        })
    }
}

/// A type and its unit, as indices of strings.
#[derive(Clone, Copy, Default)]
struct WireValueType {
    name: i64,
    unit: i64,
}

impl WireValueType {
    fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut fields = Fields(bytes);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.name = value.signed()?,
                2 => self.unit = value.signed()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The strings of a file. A file may have the same string twice; a profile has it once.
struct Texts(Vec<StringId>);

impl Texts {
    fn read(table: &[&[u8]], strings: &mut Strings) -> Result<Texts, DecodeError> {
        if table.first().is_some_and(|first| !first.is_empty()) {
            let problem = "is not the empty string".into();
            return Err(DecodeError::Invalid { owner: "string 0".into(), problem });
        }
        strings.reserve(table.len(), table.iter().map(|text| text.len()).sum());
        let intern = |text: &&[u8]| strings.intern(&utf8(text));
        Ok(Texts(table.iter().map(intern).collect()))
    }

    /// A file without strings may still refer to the empty one.
    fn get(&self, owner: impl Fn() -> String, index: i64) -> Result<StringId, DecodeError> {
        let found = usize::try_from(index).ok().and_then(|index| self.0.get(index).copied());
        found.or((index == 0).then_some(StringId::EMPTY)).ok_or_else(|| DecodeError::Invalid {
            owner: owner(),
            problem: format!("refers to string {index}, but there are {}", self.0.len()),
        })
    }

    fn value_type(&self, owner: &str, kind: WireValueType) -> Result<ValueType, DecodeError> {
        let owner = || owner.to_owned();
        Ok(ValueType { name: self.get(owner, kind.name)?, unit: self.get(owner, kind.unit)? })
    }
}

/// Nearly every string is UTF-8, which is quicker to see than to mend.
fn utf8(text: &[u8]) -> Cow<'_, str> {
    str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed)
}
