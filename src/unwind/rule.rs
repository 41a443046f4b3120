//! Rules: how the registers of a caller follow from those of its callee, in eight bytes.

/// How a rule finds the caller. `sp`, `fp`, `lr` and `pc` are the callee's registers and `sp'`, `fp'`, `pc'` the caller's;
/// `[a]` is the word of the stack at `a`; `cfa`, `fp` and `ra` in `«»` are the fields of the [`Rule`].
/// Where an equation says `fp' = [.. «fp»]` and the field is 0, the frame pointer is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `sp' = sp + 8«cfa»`, `pc' = [sp' + 8«ra»]`, `fp' = [sp' + 8«fp»]`
    StackPointer,
    /// `sp' = fp + 8«cfa»`, `pc' = [sp' + 8«ra»]`, `fp' = [sp' + 8«fp»]`
    FramePointer,
    /// `sp' = sp + 8«cfa»`, `pc' = lr`, `fp' = [sp' + 8«fp»]`: a function that has not stored its return address.
    LinkRegister,
    /// `sp' = [fp + 8«cfa»]`, `pc' = [sp' + 8«ra»]`, `fp' = [fp]`: a function that aligned its stack (`-mstackrealign`, AVX).
    Realigned,
    /// `sp' = sp + 8«cfa» + (pc & 15 >= «ra» ? 8 : 0)`, `pc' = [sp' - 8]`, `fp' = fp`: what linkers write for an entry of the
    /// procedure linkage table of x86-64. The entry's own instructions come first ([`super::plt`]).
    Plt,
    /// Registers as the kernel saved them below `sp` when it delivered a signal; `pc'` is an exact address, not a return address.
    Signal,
    /// No caller: the first function of a thread.
    Root,
    /// No caller: the first function of a stack that the program made itself (a fiber, a coroutine).
    Fiber,
    /// A function that goes on on another stack: only its frame pointer leads to the caller.
    StackSwitch,
    /// No unwind information covers the address. Follow the frame pointer.
    Gap,
    /// Code that is known to keep no frame pointer, of a shape that is not recognised: the walk ends here.
    Unknown,
    /// Too odd for a row (an expression, another register as base, a frame of over 256 KiB): interpret the FDE for each frame.
    Interpret,
}

/// A rule. Offsets are in words of eight bytes, as every ABI here keeps the stack aligned to them; the few rules that
/// cannot be said so are [`Kind::Interpret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which equations hold.
    pub kind: Kind,
    /// Words from the base register to the canonical frame address.
    pub cfa: i16,
    /// Words from the canonical frame address to the saved frame pointer; 0 where it is not saved.
    pub fp: i16,
    /// Words from the canonical frame address to the return address.
    pub ra: i16,
}

impl Rule {
    /// No unwind information.
    pub const GAP: Rule = Rule::bare(Kind::Gap);
    /// The first function of a thread.
    pub const ROOT: Rule = Rule::bare(Kind::Root);
    /// The first function of a fiber.
    pub const FIBER: Rule = Rule::bare(Kind::Fiber);
    /// The kernel's signal frame.
    pub const SIGNAL: Rule = Rule::bare(Kind::Signal);
    /// No way to the caller is known.
    pub const UNKNOWN: Rule = Rule::bare(Kind::Unknown);
    /// A change of stacks.
    pub const STACK_SWITCH: Rule = Rule::bare(Kind::StackSwitch);
    /// An FDE to be interpreted.
    pub const INTERPRET: Rule = Rule::bare(Kind::Interpret);

    const fn bare(kind: Kind) -> Rule {
        Rule { kind, cfa: 0, fp: 0, ra: 0 }
    }
}

/// Words of an offset in bytes, if it is so many and few enough.
pub(super) fn words(bytes: i64) -> Option<i16> {
    (bytes % 8 == 0).then(|| i16::try_from(bytes / 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_stays_small() {
        // A line of the cache holds one beside the program counter, the place and the epoch: 32 bytes, half a cache line.
        assert_eq!(size_of::<Rule>(), 8);
    }

    #[test]
    fn only_whole_words_fit() {
        assert_eq!(words(-16), Some(-2));
        assert_eq!(words(12), None);
        assert_eq!(words(8 * 40_000), None);
    }
}
