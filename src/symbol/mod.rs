//! From addresses to names.

use std::sync::Arc;

use crate::ids::{Address, KernelAddress, Rva};
use crate::process::{ImageInfo, ProcessInfo};

/// The function that an address lies in, or one that was inlined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name for people, demangled.
    pub function: Arc<str>,
    /// The name as the linker knows it.
    pub system_name: Arc<str>,
    /// The source file.
    pub file: Option<Arc<str>>,
    /// The line of the address; 0 if unknown.
    pub line: u32,
    /// The line where the function begins; 0 if unknown.
    pub start_line: u32,
    /// Whether it was inlined into the symbol behind it.
    pub inlined: bool,
    /// Whether the name is a true one and no `module+offset`.
    pub named: bool,
}

/// Names addresses.
#[derive(Debug, Default)]
pub struct Symbolizer {}

impl Symbolizer {
    /// The functions at an address of an image, innermost first; never empty.
    pub fn image(&mut self, info: &ImageInfo, rva: Rva) -> Vec<Symbol> {
        vec![unnamed(format!("{}+{rva:#x}", info.name))]
    }

    /// The kernel's function at an address.
    pub fn kernel(&mut self, address: KernelAddress) -> Symbol {
        unnamed(format!("[kernel]+{:#x}", address.0))
    }

    /// The function that a process made at run time.
    pub fn anonymous(&mut self, _process: &ProcessInfo, address: Address) -> Symbol {
        unnamed(format!("[anon]+{address:#x}"))
    }
}

fn unnamed(name: String) -> Symbol {
    let name: Arc<str> = name.into();
    Symbol {
        function: name.clone(),
        system_name: name,
        file: None,
        line: 0,
        start_line: 0,
        inlined: false,
        named: false,
    }
}
