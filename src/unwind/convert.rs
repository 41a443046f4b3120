//! A row of call frame information, as gimli interprets it, becomes a [`Rule`].

use gimli::{
    CfaRule, EndianSlice, Expression, LittleEndian, Operation, Register, RegisterRule, UnwindExpression, UnwindTableRow,
};

use super::arch::Abi;
use super::rule::{Kind, Rule, words};

/// The bytes of a section of unwind information.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// How the walk reads expressions: DWARF for addresses of 8 bytes.
pub(super) const ENCODING: gimli::Encoding =
    gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// A row, and the section that holds its expressions.
pub(super) struct Row<'a> {
    pub(super) row: &'a UnwindTableRow<usize>,
    pub(super) section: &'a [u8],
}

impl<'a> Row<'a> {
    /// The bytes of an expression.
    pub(super) fn expression(&self, at: UnwindExpression<usize>) -> Expression<Slice<'a>> {
        let bytes = at.offset.checked_add(at.length).and_then(|end| self.section.get(at.offset..end));
        Expression(EndianSlice::new(bytes.unwrap_or_default(), LittleEndian))
    }

    /// The rule that says the same; [`Rule::INTERPRET`] if none does.
    pub(super) fn rule(&self, abi: &Abi) -> Rule {
        match self.row.register(Register(abi.ra)) {
            Some(RegisterRule::Undefined) => return Rule::ROOT,
            // A return address that is nowhere says nothing of a root: only with a link register does "unchanged" mean something.
            None | Some(RegisterRule::SameValue) if !abi.link_register => return Rule::GAP,
            _ => {}
        }
        let rule = match *self.row.cfa() {
            CfaRule::RegisterAndOffset { register: Register(base), offset } => self.plain(abi, base, offset),
            CfaRule::Expression(expression) => self.pattern(abi, self.expression(expression)),
        };
        rule.unwrap_or(Rule::INTERPRET)
    }

    fn plain(&self, abi: &Abi, base: u16, offset: i64) -> Option<Rule> {
        let cfa = words(offset)?;
        let ra = self.saved(abi.ra)?;
        let kind = match (base == abi.sp, base == abi.fp, ra) {
            (true, _, None) => Kind::LinkRegister,
            (true, _, Some(_)) => Kind::StackPointer,
            (_, true, Some(_)) => Kind::FramePointer,
            _ => return None,
        };
        let fp = self.saved(abi.fp)?.unwrap_or(0);
        // A slot that lies above the stack pointer's end was popped again: compilers do not say so, and the register is right.
        let popped = base == abi.sp && i32::from(cfa) + i32::from(fp) < 0;
        Some(Rule { kind, cfa, fp: if popped { 0 } else { fp }, ra: ra.unwrap_or(0) })
    }

    /// Where a register is saved, in words from the canonical frame address: `Some(None)` if it is not, `None` if a rule cannot say it.
    fn saved(&self, register: u16) -> Option<Option<i16>> {
        match self.row.register(Register(register)) {
            None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(None),
            // Word 0 means "not saved".
            Some(RegisterRule::Offset(offset)) => words(offset).filter(|&words| words != 0).map(Some),
            Some(_) => None,
        }
    }

    fn pattern(&self, abi: &Abi, expression: Expression<Slice<'_>>) -> Option<Rule> {
        if !abi.link_register
            && let Some(plt) = plt(abi, expression)
        {
            return self.saved(abi.fp)?.is_none().then_some(plt);
        }
        // DW_OP_breg«fp» n; DW_OP_deref, and the frame pointer itself at DW_OP_breg«fp» 0.
        let mut operations = expression.operations(ENCODING);
        let cfa = base_offset(abi.fp, operations.next().ok()??)?;
        let dereferences = matches!(operations.next().ok()??, Operation::Deref { size: 8, .. });
        let Some(RegisterRule::Expression(fp)) = self.row.register(Register(abi.fp)) else { return None };
        let mut fp = self.expression(fp).operations(ENCODING);
        let in_place = base_offset(abi.fp, fp.next().ok()??)? == 0;
        let ended = operations.next().ok()?.is_none() && fp.next().ok()?.is_none();
        let ra = self.saved(abi.ra)??;
        (dereferences && in_place && ended).then_some(Rule { kind: Kind::Realigned, cfa: words(cfa)?, fp: 0, ra })
    }
}

/// `n` of `DW_OP_breg«register» n`.
fn base_offset(register: u16, operation: Operation<Slice<'_>>) -> Option<i64> {
    match operation {
        Operation::RegisterOffset { register: Register(base), offset, .. } if base == register => Some(offset),
        _ => None,
    }
}

/// What linkers write for `.plt`: `DW_OP_breg7 n; breg16 0; lit15; and; lit11 or lit10 or lit9; ge; lit3; shl; plus`.
fn plt(abi: &Abi, expression: Expression<Slice<'_>>) -> Option<Rule> {
    let bytes = expression.0.slice();
    let &[0x77, cfa @ 8..0x40, 0x80, 0, 0x3f, 0x1a, limit @ 0x30..=0x3f, 0x2a, 0x33, 0x24, 0x22] = bytes else {
        return None;
    };
    debug_assert_eq!(abi.sp, 7);
    Some(Rule { kind: Kind::Plt, cfa: words(i64::from(cfa))?, fp: 0, ra: i16::from(limit - 0x30) })
}
