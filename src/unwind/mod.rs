//! Walks a user stack: from the registers and a copy of the stack's top to the frames of the thread.
//!
//! Compilers leave the frame pointer out, and say in `.eh_frame` how a caller's registers are found at every
//! instruction. To interpret that for each frame of each sample costs microseconds; so each image's `.eh_frame` is
//! compiled once into a [`Table`] of four bytes a row, and the walk is one look-up, one comparison and two reads a
//! frame. In front of the tables lies a cache of the program counters that were met last.
//!
//! ```text
//! Image ── Cfi::open ──▶ Cfi ── Table::compile ──▶ Table        in the loader thread
//!                         │ one FDE, by gimli        │ rows
//!                         └────────▶ Rule ◀──────────┘          in the collector thread
//!                                     │ cached by program counter
//!                 registers, stack ──▶ Unwinder::walk ──▶ frames, End
//! ```
//!
//! An image is walked from the moment that its [`Cfi`] is open: until its table is there, a look-up interprets the one
//! FDE that it needs. Both ways end in the same [`Rule`], so a stack does not depend on which of them was taken.
//!
//! Where an image says nothing (code made at run time, hand-written assembly) the walk follows the frame pointer, and
//! counts that. Stubs that linkers write, and trampolines that CPython makes, are recognised by their bytes ([`plt`]). What the copy
//! does not hold (another stack, or what lies behind the copied part) the kernel's own walk may have seen: `Unwinder::splice`.

pub mod aarch64;
mod arch;
mod cache;
mod cfi;
mod compile;
mod convert;
mod cross;
mod evaluate;
pub mod go;
mod goroutine;
mod made;
pub mod plt;
mod rule;
mod section;
mod splice;
mod stack;
mod table;
mod trampoline;
mod walk;
pub mod x86_64;

pub use aarch64::Aarch64;
pub use arch::{Abi, Arch, RegisterFile};
pub use cfi::Cfi;
pub use cross::{Evidence, ReadMemory};
pub use made::MadeCode;
pub use rule::{Kind, Rule};
pub use stack::{End, Reach, StackCopy, UserFrame, Why};
pub use table::Table;
pub use walk::{MAX_FRAMES, Unwinder};
pub use x86_64::X86_64;
