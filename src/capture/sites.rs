//! Where in a file the kernel is to stop a program that calls a function.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use memmap2::Mmap;
use object::{Object, ObjectSegment, SegmentFlags};

use crate::elf::{self, Table};
use crate::sys;

/// A place in a file's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Bytes from the beginning of the file.
    pub(super) offset: u64,
    /// Whether the kernel has to execute the instruction there in a step of its own. Others it acts out itself, for a fraction of the
    /// price: in a virtual machine, where each debug exception ends in the hypervisor, for a tenth.
    pub(super) stepped: bool,
}

/// Why a function cannot be probed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiteError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// It is no program.
    #[error("it is no ELF file of this machine ({0})")]
    Elf(String),
    /// It has no symbols.
    #[error(
        "it has no symbols (stripped); name an address instead, as PATH:0x1234 (of nm or objdump, in a copy that has them)"
    )]
    Stripped,
    /// It has others.
    #[error(
        "it has no function of that name{}{}",
        if *.exported { " (stripped: only those that it exports are known)" } else { "" },
        if .near.is_empty() { String::new() } else { format!("; did you mean {}?", .near.join(", ")) }
    )]
    NoFunction {
        /// Names that look like it.
        near: Vec<String>,
        /// Whether its other functions have no names.
        exported: bool,
    },
    /// Each machine has its own.
    #[error(
        "which code this function is, is chosen at run time (an indirect function): name an address, as PATH:0x1234"
    )]
    Indirect,
    /// There is no code.
    #[error("no code lies at address {0:#x}")]
    NoCode(u64),
}

/// A file with what it holds: one that was written to since is another. (Its name does not matter, nor how many it has.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl FileId {
    pub(super) fn of(meta: &Metadata) -> FileId {
        let modified = (meta.mtime(), meta.mtime_nsec());
        FileId { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified }
    }

    /// Whether it is the same file, whatever it holds.
    pub(super) fn is_same_file(self, other: FileId) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A file of code, of which little is read: pages of a mapping come as they are looked at.
pub(super) struct Code<'a> {
    elf: object::File<'a>,
}

/// Maps a file of code. One that is truncated meanwhile reads as zeros.
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    sys::survive_truncated_files();
    sys::map_file(file)
}

impl<'a> Code<'a> {
    /// Reads the headers of a file.
    pub(super) fn read(map: &'a Mmap) -> Result<Code<'a>, SiteError> {
        let elf = object::File::parse(&**map).map_err(|error| SiteError::Elf(error.to_string()))?;
        Ok(Code { elf })
    }

    /// The addresses of all functions, by the names that linkers know. The resolvers of indirect functions are none.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.symbols().filter(|(.., indirect)| !indirect).map(|(name, address, _)| (name, address))
    }

    /// Names of code, with its address and whether that is but the resolver of an indirect function.
    fn symbols(&self) -> impl Iterator<Item = (&str, u64, bool)> {
        let tables = [Table::Dynamic, Table::Full].into_iter();
        let symbols = tables.flat_map(|table| elf::symbols(&self.elf, table));
        let code = symbols.filter(|symbol| symbol.defined && (symbol.is_function() || symbol.is_indirect()));
        code.filter_map(|symbol| Some((std::str::from_utf8(symbol.name()).ok()?, symbol.address, symbol.is_indirect())))
    }

    /// The address of a function.
    pub(super) fn function(&self, name: &str) -> Result<u64, SiteError> {
        // Older versions of the same name may lie beside it, which nobody calls any more.
        if self.symbols().any(|(known, _, indirect)| indirect && known == name) {
            return Err(SiteError::Indirect);
        }
        let mut near = BTreeMap::new();
        let mut empty = true;
        for (known, address) in self.functions() {
            if known == name {
                return Ok(address);
            }
            empty = false;
            let alike = strsim::jaro_winkler(name, known);
            if alike > 0.8 {
                near.insert((alike * -1e6) as i64, known.to_owned());
            }
        }
        let exported = elf::symbols(&self.elf, Table::Full).next().is_none();
        let near = near.into_values().take(3).collect();
        Err(if empty { SiteError::Stripped } else { SiteError::NoFunction { near, exported } })
    }

    /// The place of an address in the file.
    pub(super) fn offset(&self, address: u64) -> Result<u64, SiteError> {
        let executable =
            |flags| matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags.contains(object::elf::PF_X));
        let of = |segment: object::Segment<'a, '_, _>| {
            let (from, (start, size)) = (segment.address(), segment.file_range());
            let within = address.checked_sub(from).filter(|&within| within < size)?;
            executable(segment.flags()).then_some(start + within)
        };
        self.elf.segments().find_map(of).ok_or(SiteError::NoCode(address))
    }

    /// Where a function that begins at an address is best probed: at its beginning, or at the first of its instructions that the kernel
    /// acts out itself, if whatever stands before it always leads there and leaves the arguments alone.
    pub(super) fn site(&self, address: u64) -> Result<Site, SiteError> {
        let offset = self.offset(address)?;
        let ahead = self.bytes(address).and_then(acted_out);
        Ok(Site { offset: offset + ahead.unwrap_or(0), stepped: ahead.is_none() })
    }

    fn bytes(&self, address: u64) -> Option<&'a [u8]> {
        const ENOUGH: u64 = 64;
        self.elf.segments().find_map(|segment| {
            let left = (segment.address() + segment.size()).checked_sub(address)?;
            segment.data_range(address, left.min(ENOUGH)).ok().flatten()
        })
    }
}

/// How far into a function the first instruction lies that the kernel acts out (`arch/x86/kernel/uprobes.c`: `branch_setup_xol_ops`,
/// `push_setup_xol_ops`).
#[cfg(target_arch = "x86_64")]
fn acted_out(code: &[u8]) -> Option<u64> {
    use iced_x86::{Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, Register};
    const ARGUMENTS: [Register; 6] =
        [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
    let mut information = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let short = || code.get(instruction.ip() as usize).is_some_and(|&first| first == 0x90);
        let acted_out = match instruction.mnemonic() {
            Mnemonic::Push => instruction.op0_register().is_gpr64(),
            Mnemonic::Nop => short(),
            _ => instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near() || instruction.is_call_near(),
        };
        if acted_out {
            return Some(instruction.ip());
        }
        let writes =
            |access| !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None);
        let spoils = information.info(&instruction).used_registers().iter().any(|used| {
            let whole = used.register().full_register();
            writes(used.access()) && (ARGUMENTS.contains(&whole) || whole == Register::RSP)
        });
        if instruction.is_invalid() || spoils || instruction.flow_control() != FlowControl::Next {
            return None;
        }
    }
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn acted_out(_: &[u8]) -> Option<u64> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_acts_out_is_found_behind_what_leaves_the_arguments_alone() {
        assert_eq!(acted_out(&[0x41, 0x54, 0x55]), Some(0), "push %r12");
        assert_eq!(acted_out(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Some(4), "endbr64; push %rbp");
        assert_eq!(acted_out(&[0x48, 0x85, 0xff, 0x0f, 0x84, 0xbf, 0, 0, 0]), Some(3), "test %rdi,%rdi; je");
        assert_eq!(acted_out(&[0x48, 0x89, 0xf7, 0x55]), None, "mov %rsi,%rdi; push %rbp");
        assert_eq!(acted_out(&[0x48, 0x83, 0xec, 0x18, 0x55]), None, "sub $0x18,%rsp");
        assert_eq!(acted_out(&[0xc3, 0x55]), None, "ret");
        assert_eq!(acted_out(&[0xff, 0xe0]), None, "jmp *%rax");
        assert_eq!(acted_out(&[0x48, 0x85]), None, "cut short");
    }
}
