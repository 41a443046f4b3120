//! framehop, an independent unwinder, over the same images and stacks.

#![allow(dead_code, unreachable_pub, reason = "tests and benchmarks use a part each")]

use std::ops::{Deref, Range};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};
use object::{Object, ObjectSection};
use rprof::ids::Address;
use rprof::process::{AddressSpace, Content, Image, Mapping};
use rprof::unwind::StackCopy;
use rprof::unwind::x86_64::Registers;

/// A part of an image; the default is no bytes.
#[derive(Default)]
pub struct Bytes(Option<Arc<Image>>, Range<usize>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |image| &image.bytes()[self.1.clone()])
    }
}

/// framehop with the mappings of one address space.
pub struct Oracle {
    unwinder: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
}

impl Oracle {
    pub fn new(space: &AddressSpace, images: &[Arc<Image>]) -> Oracle {
        let mut unwinder = UnwinderX86_64::new();
        for mapping in space.mappings() {
            if let Content::Image { image, bias } = mapping.content {
                unwinder.add_module(module(&images[image.0 as usize], mapping, bias));
            }
        }
        Oracle { unwinder, cache: CacheX86_64::new() }
    }

    /// Appends the addresses of the frames as rprof gives them; tells whether the root was reached.
    pub fn walk(&mut self, registers: &Registers, stack: StackCopy<'_>, frames: &mut Vec<Address>) -> bool {
        let start = UnwindRegsX86_64::new(registers.rip, registers.gpr[7], registers.gpr[6]);
        let mut read = |address| stack.read(address).map_err(|_| ());
        let mut walk = self.unwinder.iter_frames(registers.rip, start, &mut self.cache, &mut read);
        loop {
            match walk.next() {
                Ok(Some(frame)) => frames.push(Address(frame.address_for_lookup())),
                Ok(None) => return true,
                Err(error) => return error == framehop::Error::ReturnAddressIsNull,
            }
        }
    }
}

fn module(image: &Arc<Image>, mapping: &Mapping, bias: u64) -> Module<Bytes> {
    let section = |name: &str| {
        let section = image.elf().section_by_name(name)?;
        let (offset, size) = section.file_range()?;
        let address = section.address()..section.address() + section.size();
        Some((address, Bytes(Some(Arc::clone(image)), offset as usize..(offset + size) as usize)))
    };
    let split = |name: &str| section(name).unzip();
    let (text_svma, text) = split(".text");
    let (eh_frame_svma, eh_frame) = split(".eh_frame");
    let (eh_frame_hdr_svma, eh_frame_hdr) = split(".eh_frame_hdr");
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma,
        text,
        got_svma: section(".got").map(|got| got.0),
        eh_frame_svma,
        eh_frame,
        eh_frame_hdr_svma,
        eh_frame_hdr,
        ..Default::default()
    };
    Module::new(image.name().to_owned(), mapping.start.0..mapping.end.0, bias, info)
}
