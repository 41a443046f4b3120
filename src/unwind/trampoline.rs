//! Code that lies in no file but whose shape is known: the trampolines of CPython's `-X perf`.
//!
//! From 3.12 on, CPython with `-X perf` or `PYTHONPERFSUPPORT=1` calls each Python function through a copy of one piece of machine
//! code of its own (`Objects/asm_trampoline.S`), so that a profiler sees an address for each. It comes without unwind information and,
//! on x86-64, without a frame pointer. The code is recognised by its bytes, which are read from the process; everything else that was
//! made at run time is followed by its frame pointer.

use super::arch::Abi;
use super::rule::Rule;
use super::{aarch64, x86_64};
use crate::ids::Address;
use crate::process::{AddressSpace, Mapping};
use crate::sys;

/// The instruction set of the processes that can be read.
pub(super) const HOST: &Abi = if cfg!(target_arch = "aarch64") { &aarch64::ABI } else { &x86_64::ABI };
/// Bytes before and from an address on that tell a trampoline.
const AROUND: u64 = 24;

/// Code of which each instruction's rule is known.
pub(super) struct Trampoline {
    pub(super) code: &'static [u8],
    /// From which byte on each rule holds.
    pub(super) rules: &'static [(usize, Rule)],
}

impl Trampoline {
    /// The rule at a byte of code, if it is that of this trampoline.
    fn rule(&self, code: &[u8], at: usize) -> Option<Rule> {
        let mut starts = (0..self.code.len()).filter_map(|offset| Some((offset, at.checked_sub(offset)?)));
        let (offset, _) =
            starts.find(|&(_, start)| code.get(start..).is_some_and(|code| code.starts_with(self.code)))?;
        self.rules.iter().rev().find(|(from, _)| *from <= offset).map(|&(_, rule)| rule)
    }
}

/// The rule at an address of code that lies in no file: [`Rule::GAP`] unless it is a known trampoline of a process that can be read.
pub(super) fn rule(space: &AddressSpace, mapping: &Mapping, address: u64) -> Rule {
    let Some(process) = space.memory() else { return Rule::GAP };
    let start = address.saturating_sub(AROUND).max(mapping.start.0);
    let end = address.saturating_add(AROUND).min(mapping.end.0);
    let mut code = [0; 2 * AROUND as usize];
    let wanted = usize::try_from(end - start).map_or(0, |bytes| bytes.min(code.len()));
    let read = sys::read_memory(crate::ids::Tid(process.0), Address(start), &mut code[..wanted]);
    let at = (address - start) as usize;
    let known = HOST.trampolines.iter().find_map(|trampoline| trampoline.rule(&code[..read], at));
    known.unwrap_or(Rule::GAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::rule::Kind;

    #[test]
    fn each_instruction_of_a_trampoline_has_its_rule() {
        // ret; sub $8, %rsp; call *%rcx; add $8, %rsp; ret; nop
        let code = [0xc3, 0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3, 0x90];
        let depth = |at: usize| {
            let rules = x86_64::ABI.trampolines.iter().find_map(|trampoline| trampoline.rule(&code, at));
            rules.map(|rule| (rule.kind, rule.cfa, rule.ra))
        };
        assert_eq!(depth(1), Some((Kind::StackPointer, 1, -1)));
        assert_eq!([5, 6, 7].map(depth), [Some((Kind::StackPointer, 2, -1)); 3]);
        assert_eq!(depth(11), Some((Kind::StackPointer, 1, -1)));
        assert_eq!([depth(0), depth(12)], [None, None]);
        assert_eq!(x86_64::ABI.trampolines[0].rule(&code[..11], 5), None, "cut off");
    }
}
