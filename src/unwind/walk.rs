//! The walk: one rule after the other from the leaf to the root.

use std::marker::PhantomData;
use std::sync::Arc;

use gimli::UnwindContext;
use rustc_hash::FxHashMap;

use super::arch::{Arch, Frameless, RegisterFile};
use super::cache::{Cache, Line};
use super::cfi::{Cfi, Context};
use super::evaluate;
use super::made::{Made, MadeCode};
use super::rule::{Kind, Rule};
use super::stack::{End, Reach, StackCopy, UserFrame, Why};
use super::table::Table;
use super::trampoline;
use crate::health::{Count, Health};
use crate::ids::{Address, ImageId, Pid, Place, Rva};
use crate::process::AddressSpace;

/// Frames that a walk follows: more than any stack but that of a runaway recursion has, which shows in fewer as well.
pub const MAX_FRAMES: usize = 2048;

/// Look-ups without a table before an image is worth compiling. One costs a microsecond, a table some milliseconds for
/// each megabyte of code; but an image that was met so often in one sampling period will be met again.
const LOOKUPS_BEFORE_TABLE: u32 = 32;

/// Words above the stack pointer in which the return address to a process's entry point is looked for.
const ENTRY_WORDS: i16 = 16;

/// How far above the stack pointer a frame pointer can point: the limit of a stack is 8 MiB, of a thread's as well.
const MAX_STACK: u64 = 8 << 20;

/// Walks the stacks of all processes; one for each thread that collects.
pub struct Unwinder {
    images: Images,
    cache: Cache,
    /// Code that processes made at run time and told of.
    made: FxHashMap<Pid, Made>,
    pub(super) reach: Reach,
}

/// What is known of one image.
#[derive(Default)]
struct Known {
    /// Whether its file was opened. Until then its addresses are not cached, as it may turn out to have rules.
    open: bool,
    cfi: Option<Arc<Cfi>>,
    table: Option<Arc<Table>>,
    lookups: u32,
}

struct Images {
    known: FxHashMap<ImageId, Known>,
    wanted: Vec<ImageId>,
    context: Box<Context>,
}

impl Default for Unwinder {
    fn default() -> Unwinder {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder that knows no image.
    #[must_use]
    pub fn new() -> Unwinder {
        let images =
            Images { known: FxHashMap::default(), wanted: Vec::new(), context: Box::new(UnwindContext::new()) };
        Unwinder { images, cache: Cache::new(), made: FxHashMap::default(), reach: Reach::default() }
    }

    /// From the moment an image is open; with `None` its frames are followed by frame pointer. Rules are looked up one by
    /// one until its table arrives.
    pub fn add_image(&mut self, image: ImageId, cfi: Option<Arc<Cfi>>) {
        let known = self.images.known.entry(image).or_default();
        known.open = true;
        known.cfi = cfi;
    }

    /// From now on the image's rules come from its table. One that was removed meanwhile stays so.
    pub fn add_table(&mut self, image: ImageId, table: Arc<Table>) {
        if let Some(known) = self.images.known.get_mut(&image) {
            known.table = Some(table);
        }
    }

    /// Forgets an image that no process has mapped any more.
    pub fn remove_image(&mut self, image: ImageId) {
        self.images.known.remove(&image);
    }

    /// Takes in code that a process made at run time. Its address space needs another epoch from now on.
    pub fn add_code(&mut self, process: Pid, code: Vec<MadeCode>) {
        let made = self.made.entry(process).or_default();
        code.into_iter().for_each(|code| made.add(code));
    }

    /// Forgets the code that a process made.
    pub fn remove_code(&mut self, process: Pid) {
        self.made.remove(&process);
    }

    /// Images that were met often enough since the last call to be worth a table: to be given to [`Table::compile`].
    pub fn take_wanted(&mut self) -> Vec<ImageId> {
        std::mem::take(&mut self.images.wanted)
    }

    /// Appends the frames of a stack, leaf first, and tells how it ended. `stack` begins at the stack pointer.
    /// Counts expressions and frame pointer steps; how the walk ended is for the caller to count ([`End::count`]).
    pub fn walk<A: Arch>(
        &mut self,
        space: &AddressSpace,
        registers: &A::Registers,
        stack: StackCopy<'_>,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> End {
        match self.follow::<A>(space, &A::file(registers), true, stack, frames, health) {
            Ok(bottom) => bottom.end,
            Err(stop) => End::Truncated(stop.why),
        }
    }

    /// Appends the frames from a function on whose registers are known. `exact` says that its address is that of the next instruction, not
    /// of a call. Answers the stack pointer of the first function of the thread.
    pub(super) fn follow<A: Arch>(
        &mut self,
        space: &AddressSpace,
        file: &RegisterFile,
        exact: bool,
        stack: StackCopy<'_>,
        frames: &mut Vec<UserFrame>,
        health: &mut Health,
    ) -> Result<Bottom, Stop> {
        let mut walk = Walk::<A> {
            unwinder: self,
            space,
            stack,
            health,
            cursor: Cursor::new::<A>(file),
            walked: (0, *file),
            exact,
            by_chain: false,
            elsewhere: false,
            missing: None,
            certain: file[usize::from(A::ABI.sp)],
            first: frames.len(),
            arch: PhantomData,
        };
        let end = walk.run(frames);
        let missing = walk.missing.filter(|_| end == Err(Why::Truncated));
        let bytes = walk.certain.wrapping_sub(stack.start.0);
        // A signal's stack may be another one.
        let bytes = if bytes <= stack.bytes.len() as u64 { bytes } else { 0 };
        let reach = Reach { bytes, missing: missing.map(Address) };
        let followed = match end {
            Ok(end) => Ok(Bottom { end, sp: walk.cursor.sp }),
            Err(why) => Err(walk.stop(why)),
        };
        self.reach = reach;
        followed
    }

    /// The unwind information at a place.
    pub(super) fn cfi(&self, place: Place) -> Option<&Arc<Cfi>> {
        self.images.cfi(place)
    }

    /// How far up its own stack the last walk went, by what the sample copied of it.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The place and rule at an address; `None` where nothing is mapped.
    pub(super) fn look_up(&mut self, space: &AddressSpace, address: u64) -> Option<Line> {
        match self.cache.get(address, space.epoch()) {
            Some(line) => Some(*line),
            None => self.look_up_uncached(space, address),
        }
    }

    #[inline(never)]
    fn look_up_uncached(&mut self, space: &AddressSpace, address: u64) -> Option<Line> {
        let mapping = space.find(Address(address))?;
        let place = mapping.place(Address(address));
        let (rule, lasting) = match place {
            Some(place) => self.images.rule(place),
            None => {
                let made = space.process().and_then(|process| self.made.get(&process)?.rule(address));
                (made.unwrap_or_else(|| trampoline::rule(space, mapping, address)), true)
            }
        };
        let line = Line::new(address, space.epoch(), place, rule);
        if lasting {
            self.cache.put(line);
        }
        Some(line)
    }
}

impl Images {
    fn cfi(&self, place: Place) -> Option<&Arc<Cfi>> {
        self.known.get(&place.image)?.cfi.as_ref()
    }

    /// The rule at a place, and whether it stays the same.
    fn rule(&mut self, place: Place) -> (Rule, bool) {
        let Some(known) = self.known.get_mut(&place.image) else { return (Rule::GAP, false) };
        let rule = match (&known.table, &known.cfi) {
            (Some(table), _) => table.rule(place.rva),
            (None, Some(cfi)) => {
                known.lookups = known.lookups.saturating_add(1);
                if known.lookups == LOOKUPS_BEFORE_TABLE {
                    self.wanted.push(place.image);
                }
                cfi.rule(place.rva, &mut self.context)
            }
            (None, None) => Rule::GAP,
        };
        match &known.cfi {
            Some(cfi) if matches!(rule.kind, Kind::Gap | Kind::Plt) => (cfi.rule_by_code(place.rva, rule), known.open),
            _ => (rule, known.open),
        }
    }
}

/// The registers that nearly every rule needs, and no more.
#[derive(Clone, Copy)]
struct Cursor {
    /// The address to look up: of the next instruction, or within the call.
    address: u64,
    sp: u64,
    fp: u64,
    lr: u64,
}

impl Cursor {
    fn new<A: Arch>(file: &RegisterFile) -> Cursor {
        Cursor {
            address: file[A::ABI.pc],
            sp: file[usize::from(A::ABI.sp)],
            fp: file[usize::from(A::ABI.fp)],
            lr: file[usize::from(A::ABI.ra)],
        }
    }
}

/// Where a walk ended that reached the first function of a stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bottom {
    /// The root, or a fiber's entry.
    pub(super) end: End,
    /// That function's stack pointer.
    pub(super) sp: u64,
}

/// Where a walk could not go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) why: Why,
    /// The last frame's registers.
    pub(super) fp: u64,
    pub(super) sp: u64,
    /// Whether the frame pointer leads to the caller of the last frame: `[fp + 8]` is the return address.
    pub(super) tells_caller: bool,
    /// Whether the last frame goes on on another stack.
    pub(super) switched: bool,
}

struct Walk<'a, 's, A: Arch> {
    unwinder: &'a mut Unwinder,
    space: &'a AddressSpace,
    stack: StackCopy<'s>,
    health: &'a mut Health,
    cursor: Cursor,
    /// All registers behind so many frames, for the few rules that need another one than the cursor has: at first those of the leaf.
    walked: (usize, RegisterFile),
    /// Whether the cursor's address is that of the next instruction, not of a call.
    exact: bool,
    /// Whether the stack pointer is unknown, since the last step was by frame pointer and that does not tell it.
    by_chain: bool,
    /// Whether the stack pointer is that of a stack that was not copied.
    elsewhere: bool,
    /// Where a return address would lie that the copy does not hold.
    missing: Option<u64>,
    /// The stack pointer behind the last step that was not by a frame pointer which may be none.
    certain: u64,
    /// Where this stack begins among the frames.
    first: usize,
    arch: PhantomData<A>,
}

/// Where a step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// To the caller, which the cursor is at.
    Caller,
    /// Nowhere: the function is the first one of its thread.
    Root,
    /// Nowhere: by its unwind information the function returns to address 0, which is what programs put below the first function of a
    /// stack that they made. Where a frame pointer leads to 0, that is luck.
    Fiber,
}

/// The step to a caller.
type Step = Result<Next, Why>;

impl<A: Arch> Walk<'_, '_, A> {
    fn run(&mut self, frames: &mut Vec<UserFrame>) -> Result<End, Why> {
        let mut by_frame_pointer = false;
        loop {
            let line = self.unwinder.look_up(self.space, self.cursor.address);
            let Some(line) = line else {
                if frames.len() > self.first {
                    return Err(if by_frame_pointer { Why::NoUnwindInfo } else { Why::Broken });
                }
                frames.push(UserFrame { address: Address(self.cursor.address), place: None });
                self.return_from_nowhere()?;
                continue;
            };
            frames.push(self.frame(&line));
            if frames.len() - self.first >= MAX_FRAMES {
                return Err(Why::TooDeep);
            }
            by_frame_pointer = false;
            if self.elsewhere && !matches!(line.rule.kind, Kind::Root | Kind::Fiber) {
                return Err(Why::Truncated);
            }
            let next = match line.rule.kind {
                Kind::Root => Ok(Next::Root),
                Kind::Fiber => Ok(Next::Fiber),
                _ if self.by_chain => self.follow_chain(),
                Kind::StackPointer => self.plain(self.cursor.sp, line.rule),
                Kind::FramePointer => self.plain(self.cursor.fp, line.rule),
                Kind::Gap => {
                    by_frame_pointer = true;
                    self.gap(line.place())
                }
                _ => self.rare(line.rule, &frames[self.first..]),
            };
            if !by_frame_pointer {
                self.certain = self.cursor.sp;
            }
            match next? {
                Next::Caller => {}
                Next::Root => return Ok(End::Root),
                // Go makes no fibers: a function of its own that seems to return to 0 was called on another stack.
                Next::Fiber if self.is_go(line.place()) => return Err(Why::NoUnwindInfo),
                Next::Fiber => return Ok(End::Fiber),
            }
        }
    }

    /// What is known of the last frame where the walk cannot go on.
    fn stop(&mut self, why: Why) -> Stop {
        let Cursor { address, sp, fp, .. } = self.cursor;
        let rule = self.unwinder.look_up(self.space, address).map_or(Rule::GAP, |line| line.rule);
        let record = |cfa| rule.ra == -1 && rule.fp == -2 && offset(cfa, -2) == fp;
        let tells_caller = match rule.kind {
            Kind::StackSwitch => true,
            // A function that a signal interrupted in another stack may have no frame: then the frame pointer is its caller's.
            Kind::StackPointer => record(offset(sp, rule.cfa)) || (self.elsewhere && rule.fp == 0),
            Kind::FramePointer => record(offset(fp, rule.cfa)),
            _ => self.by_chain,
        };
        Stop { why, fp, sp, tells_caller, switched: rule.kind == Kind::StackSwitch }
    }

    /// Whether the last frame has left its goroutine for the thread's first stack, of which it is the first function then.
    fn has_left(&self, frames: &[UserFrame]) -> bool {
        let place = frames.last().and_then(|frame| frame.place);
        place.and_then(|place| self.unwinder.cfi(place)?.go()?.left(place.rva)).is_some()
    }

    /// Whether a place lies in a function of Go's.
    #[cold]
    fn is_go(&self, place: Option<Place>) -> bool {
        place.and_then(|place| self.unwinder.images.cfi(place)?.go()?.find(place.rva)).is_some()
    }

    /// The frame at the cursor. The return address into a signal's trampoline, or to where a fiber ends, is an instruction that no call
    /// stands before, so that there is none to name.
    #[inline]
    fn frame(&self, line: &Line) -> UserFrame {
        let uncalled = u64::from(matches!(line.rule.kind, Kind::Signal | Kind::Fiber) && !self.exact);
        let place = line.place().map(|place| Place { rva: Rva(place.rva.0.wrapping_add(uncalled)), ..place });
        UserFrame { address: Address(self.cursor.address.wrapping_add(uncalled)), place }
    }

    /// The two kinds of nearly every frame.
    #[inline]
    fn plain(&mut self, base: u64, rule: Rule) -> Step {
        let cfa = offset(base, rule.cfa);
        let ra = self.return_address(offset(cfa, rule.ra))?;
        if rule.fp != 0 {
            self.cursor.fp = self.saved(offset(cfa, rule.fp))?;
        }
        self.enter(ra, cfa)
    }

    /// The return address at a slot.
    #[inline]
    fn return_address(&mut self, slot: u64) -> Result<u64, Why> {
        let word = self.stack.read(slot);
        if word.is_err() {
            self.missing = Some(slot);
        }
        word
    }

    /// The word at a slot where a register was saved; the register itself if the slot lies below the stack pointer and so was popped.
    #[inline]
    fn saved(&self, slot: u64) -> Result<u64, Why> {
        if slot < self.cursor.sp { Ok(self.cursor.fp) } else { self.stack.read(slot) }
    }

    /// Makes the caller the current function. A stack grows towards lower addresses: a caller's frame that is not above its
    /// callee's would lead in a circle. Only the leaf, and what a signal interrupted, can have no frame at all: where its return
    /// address is in a register (always at first on ARM; in `vfork` of the C library on x86-64 too).
    #[inline]
    fn enter(&mut self, ra: u64, sp: u64) -> Step {
        if sp < self.cursor.sp || (sp == self.cursor.sp && !self.exact) {
            return Err(Why::Broken);
        }
        let ra = ra & A::ABI.address_bits;
        self.cursor.sp = sp;
        self.cursor.lr = ra;
        self.cursor.address = ra.wrapping_sub(1);
        self.exact = false;
        Ok(if ra == 0 { Next::Fiber } else { Next::Caller })
    }

    #[cold]
    fn rare(&mut self, rule: Rule, frames: &[UserFrame]) -> Step {
        let Cursor { address, sp, fp, lr } = self.cursor;
        match rule.kind {
            // Only the leaf, or what a signal interrupted, can still have its return address in the register.
            Kind::LinkRegister if self.exact => {
                let cfa = offset(sp, rule.cfa);
                if rule.fp != 0 {
                    self.cursor.fp = self.saved(offset(cfa, rule.fp))?;
                }
                self.enter(lr, cfa)
            }
            Kind::LinkRegister => Err(Why::Broken),
            Kind::Realigned => {
                let cfa = self.stack.read(offset(fp, rule.cfa))?;
                let ra = self.return_address(offset(cfa, rule.ra))?;
                self.cursor.fp = self.stack.read(fp)?;
                self.enter(ra, cfa)
            }
            Kind::Plt => {
                let pushed = i16::from(address & 15 >= u64::from(rule.ra.unsigned_abs()));
                let cfa = offset(sp, rule.cfa + pushed);
                let ra = self.return_address(offset(cfa, -1))?;
                self.enter(ra, cfa)
            }
            Kind::Signal => self.signal(),
            Kind::StackSwitch if fp == 0 && self.has_left(frames) => Ok(Next::Root),
            Kind::StackSwitch => self.follow_chain(),
            Kind::Interpret => self.interpret(frames),
            Kind::Root => Ok(Next::Root),
            Kind::Fiber => Ok(Next::Fiber),
            Kind::StackPointer | Kind::FramePointer | Kind::Gap | Kind::Unknown => Err(Why::NoUnwindInfo),
        }
    }

    /// A handler can run on a stack of its own, so that the interrupted function's lies anywhere.
    fn signal(&mut self) -> Step {
        let frame = self.cursor.sp;
        let register = |number: usize| self.stack.read(frame.wrapping_add(A::ABI.signal_frame[number].into()));
        self.cursor = Cursor {
            address: register(A::ABI.pc)?,
            sp: register(usize::from(A::ABI.sp))?,
            fp: register(usize::from(A::ABI.fp))?,
            lr: if A::ABI.link_register { register(usize::from(A::ABI.ra))? } else { 0 },
        };
        self.elsewhere = self.stack.read(self.cursor.sp).is_err();
        self.exact = true;
        Ok(Next::Caller)
    }

    /// Code without unwind information: no step from it shows that a stack ends there.
    #[cold]
    fn gap(&mut self, place: Option<Place>) -> Step {
        let before = self.cursor;
        let exact = self.exact;
        match self.step_in_gap(place) {
            Ok(Next::Caller) => Ok(Next::Caller),
            step => {
                (self.cursor, self.exact) = (before, exact);
                let entry = self.step_to_entry();
                if entry.is_some() {
                    self.missing = None;
                }
                entry.unwrap_or(step.and(Err(Why::NoUnwindInfo)))
            }
        }
    }

    /// The first functions in C of some C libraries (musl) have neither unwind information nor frame pointers: the process's entry point
    /// is found by its return address, a few words above.
    fn step_to_entry(&mut self) -> Option<Step> {
        let Cursor { sp, .. } = self.cursor;
        let code = |word: u64| (word & A::ABI.address_bits).wrapping_sub(1);
        let mut words = (0..ENTRY_WORDS).map_while(|at| Some((at, self.stack.read(offset(sp, at)).ok()?)));
        // The first word that points into code is the nearest caller's: where that is another function, frames would be left out.
        let (at, word) = words.find(|&(_, word)| self.space.find(Address(code(word))).is_some())?;
        let line = self.unwinder.look_up(self.space, code(word))?;
        (line.rule.kind == Kind::Root).then(|| self.enter(word, offset(sp, at + 1)))
    }

    fn step_in_gap(&mut self, place: Option<Place>) -> Step {
        self.health.add(Count::FramePointerFrames, 1);
        let frameless = place.filter(|_| self.exact).and_then(|place| self.frameless(place));
        match frameless {
            Some(Frameless::Words(words)) => {
                let ra = self.return_address(offset(self.cursor.sp, i16::from(words) - 1))?;
                self.enter(ra, offset(self.cursor.sp, i16::from(words)))
            }
            Some(Frameless::LinkRegister) => self.enter(self.cursor.lr, self.cursor.sp),
            None => match self.follow_chain() {
                // Code made at run time runs on its caller's stack: a frame pointer to somewhere else is none.
                Err(Why::Truncated) if place.is_none() && self.missing.is_none() => Err(Why::NoUnwindInfo),
                // An interrupted function that keeps no frame pointer most often keeps nothing on the stack either.
                Err(Why::NoUnwindInfo) if self.exact && self.has_return_address() => self.return_from_nowhere(),
                step => step,
            },
        }
    }

    fn frameless(&self, place: Place) -> Option<Frameless> {
        self.unwinder.images.cfi(place)?.frameless(place.rva)
    }

    /// Follows the frame pointer: `[fp]` is the caller's, `[fp + 8]` the return address, on both architectures.
    fn follow_chain(&mut self) -> Step {
        let Cursor { sp, fp, .. } = self.cursor;
        if fp == 0 {
            return Err(Why::NoUnwindInfo);
        }
        if fp < sp || fp % 8 != 0 || fp - sp >= MAX_STACK {
            // Go's goroutines have stacks of their own, anywhere: those the kernel's walk may have followed.
            return Err(if fp % 8 == 0 && !self.exact { Why::Truncated } else { Why::NoUnwindInfo });
        }
        let ra = self.return_address(fp.wrapping_add(8))? & A::ABI.address_bits;
        let next = self.stack.read(fp)?;
        if self.space.find(Address(ra.wrapping_sub(1))).is_none() {
            return Err(Why::NoUnwindInfo);
        }
        self.cursor.fp = next;
        self.by_chain = !A::ABI.fp_tells_sp;
        self.enter(ra, fp.wrapping_add(16))
    }

    /// Whether a function that was just called would return to code.
    fn has_return_address(&self) -> bool {
        let ra = if A::ABI.link_register { Ok(self.cursor.lr) } else { self.stack.read(self.cursor.sp) };
        ra.is_ok_and(|ra| self.space.find(Address((ra & A::ABI.address_bits).wrapping_sub(1))).is_some())
    }

    /// A call of a bad pointer leaves the thread where nothing is mapped, just after the call.
    #[cold]
    fn return_from_nowhere(&mut self) -> Step {
        if !self.has_return_address() {
            return Err(Why::Broken);
        }
        let Cursor { sp, lr, .. } = self.cursor;
        if A::ABI.link_register { self.enter(lr, sp) } else { self.enter(self.stack.read(sp)?, offset(sp, 1)) }
    }

    /// Finds the caller by the row itself, with all registers: those are followed up to here from where they were known last.
    #[cold]
    fn interpret(&mut self, frames: &[UserFrame]) -> Step {
        self.health.add(Count::CfiExpressions, 1);
        let (done, mut file) = self.walked;
        for frame in &frames[done..] {
            match self.step_fully(&file, frame)? {
                Some(caller) => file = caller,
                None => return Ok(Next::Root),
            }
        }
        self.walked = (frames.len(), file);
        let cursor = Cursor::new::<A>(&file);
        self.cursor.fp = cursor.fp;
        self.enter(file[A::ABI.pc], cursor.sp)
    }

    /// All registers of the caller of one frame.
    fn step_fully(&mut self, file: &RegisterFile, frame: &UserFrame) -> Result<Option<RegisterFile>, Why> {
        let line = self.unwinder.look_up(self.space, frame.address.0);
        let rule = line.map_or(Rule::GAP, |line| line.rule);
        if rule.kind == Kind::Signal {
            let sp = file[usize::from(A::ABI.sp)];
            let mut caller = *file;
            for (register, &at) in caller.iter_mut().zip(&A::ABI.signal_frame).filter(|(_, at)| **at != 0) {
                *register = self.stack.read(sp.wrapping_add(at.into()))?;
            }
            return Ok(Some(caller));
        }
        let Images { known, context, .. } = &mut self.unwinder.images;
        let cfi = frame.place.and_then(|place| Some((known.get(&place.image)?.cfi.as_ref()?, place.rva)));
        let stack = self.stack;
        let by_row = cfi.and_then(|(cfi, rva): (_, Rva)| {
            cfi.with_row(rva, context, |row, _| evaluate::caller(row, cfi.abi, file, stack))
        });
        match by_row {
            Some(caller) => caller,
            None => self.step_by_rule(file, rule, frame.place),
        }
    }

    /// The step of a frame without a row: what its rule does not change stays.
    fn step_by_rule(
        &mut self,
        file: &RegisterFile,
        rule: Rule,
        place: Option<Place>,
    ) -> Result<Option<RegisterFile>, Why> {
        let (cursor, exact) = (self.cursor, self.exact);
        self.cursor = Cursor::new::<A>(file);
        let step = match rule.kind {
            Kind::StackPointer => self.plain(self.cursor.sp, rule),
            Kind::FramePointer => self.plain(self.cursor.fp, rule),
            Kind::Gap => self.gap(place),
            Kind::Interpret => Err(Why::NoUnwindInfo),
            _ => self.rare(rule, &[]),
        };
        let Cursor { sp, fp, lr, .. } = self.cursor;
        (self.cursor, self.exact) = (cursor, exact);
        let mut caller = *file;
        caller[usize::from(A::ABI.sp)] = sp;
        caller[usize::from(A::ABI.fp)] = fp;
        caller[usize::from(A::ABI.ra)] = lr;
        caller[A::ABI.pc] = lr;
        Ok((step? == Next::Caller).then_some(caller))
    }
}

/// An address some words away.
#[inline]
fn offset(address: u64, words: i16) -> u64 {
    address.wrapping_add_signed(8 * i64::from(words))
}
