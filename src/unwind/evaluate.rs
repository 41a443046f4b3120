//! The exact but slow step: all registers of the caller by the row of call frame information itself.

use gimli::{CfaRule, EvaluationResult, Expression, Location, Register, RegisterRule, Value};

use super::arch::{Abi, RegisterFile};
use super::convert::{ENCODING, Row, Slice};
use super::stack::{StackCopy, Why};

/// Operations of an expression that are run; real ones have a dozen.
const MAX_OPERATIONS: u32 = 256;

/// The caller's registers, or `None` at the first function of a thread.
///
/// # Errors
/// What stands in the way of reading or computing one that the walk needs.
pub(super) fn caller(
    row: &Row<'_>,
    abi: &Abi,
    registers: &RegisterFile,
    stack: StackCopy<'_>,
) -> Result<Option<RegisterFile>, Why> {
    let state = State { row, registers, stack };
    let cfa = state.cfa()?;
    let ra = match row.row.register(Register(abi.ra)) {
        Some(RegisterRule::Undefined) => return Ok(None),
        None | Some(RegisterRule::SameValue) if !abi.link_register => return Err(Why::NoUnwindInfo),
        None => registers[usize::from(abi.ra)],
        Some(rule) => state.register(abi.ra, &rule, cfa)?,
    };
    let mut caller = *registers;
    caller[usize::from(abi.sp)] = cfa;
    for (register, rule) in row.row.registers() {
        let number = register.0;
        if number == abi.ra {
            continue;
        }
        let Some(slot) = caller.get_mut(usize::from(number)) else { continue };
        match state.register(number, rule, cfa) {
            Ok(value) => *slot = value,
            // Only what the next step may start from has to be right; and a slot below the stack pointer was popped.
            Err(Why::Truncated) if number == abi.fp || number == abi.sp => return Err(Why::Truncated),
            Err(_) => {}
        }
    }
    caller[usize::from(abi.ra)] = ra;
    caller[abi.pc] = ra & abi.address_bits;
    Ok(Some(caller))
}

struct State<'a> {
    row: &'a Row<'a>,
    registers: &'a RegisterFile,
    stack: StackCopy<'a>,
}

impl State<'_> {
    fn value(&self, register: u16) -> Result<u64, Why> {
        self.registers.get(usize::from(register)).copied().ok_or(Why::NoUnwindInfo)
    }

    fn cfa(&self) -> Result<u64, Why> {
        match *self.row.row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Ok(self.value(register.0)?.wrapping_add_signed(offset)),
            CfaRule::Expression(expression) => self.evaluate(self.row.expression(expression), None),
        }
    }

    fn register(&self, number: u16, rule: &RegisterRule<usize>, cfa: u64) -> Result<u64, Why> {
        match *rule {
            RegisterRule::Undefined | RegisterRule::SameValue => self.value(number),
            RegisterRule::Offset(offset) => self.stack.read(cfa.wrapping_add_signed(offset)),
            RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(offset)),
            RegisterRule::Register(register) => self.value(register.0),
            RegisterRule::Expression(expression) => {
                self.stack.read(self.evaluate(self.row.expression(expression), Some(cfa))?)
            }
            RegisterRule::ValExpression(expression) => self.evaluate(self.row.expression(expression), Some(cfa)),
            RegisterRule::Constant(value) => Ok(value),
            RegisterRule::Architectural => Err(Why::NoUnwindInfo),
        }
    }

    /// The value of an expression, with the canonical frame address on its stack where DWARF wants that.
    fn evaluate(&self, expression: Expression<Slice<'_>>, initial: Option<u64>) -> Result<u64, Why> {
        let mut evaluation = expression.evaluation(ENCODING);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut result = evaluation.evaluate().map_err(|_| Why::NoUnwindInfo)?;
        loop {
            let next = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(self.stack.read(address)?))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.value(register.0)?))
                }
                _ => return Err(Why::NoUnwindInfo),
            };
            result = next.map_err(|_| Why::NoUnwindInfo)?;
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                _ => Err(Why::NoUnwindInfo),
            },
            _ => Err(Why::NoUnwindInfo),
        }
    }
}
