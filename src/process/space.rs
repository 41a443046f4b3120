//! Address spaces: which image lies where in a process.

use std::rc::Rc;

use crate::ids::{Address, ImageId, Pid, Place, Rva};

/// An executable range of a process and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: Address,
    /// First address behind it.
    pub end: Address,
    /// What lies there.
    pub content: Content,
}

/// What lies in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A part of a file. An address `a` of the process is `a - bias` (wrapping) among the image's own addresses.
    Image {
        /// The image.
        image: ImageId,
        /// Load address minus link address, modulo 2^64.
        bias: u64,
    },
    /// Code that lies in no file: made by a JIT compiler at run time.
    Anonymous,
}

/// The executable mappings of one process, sorted and disjoint; cheap to clone at a fork.
#[derive(Clone, Debug)]
pub struct AddressSpace {
    mappings: Rc<Vec<Mapping>>,
    epoch: u32,
    process: Option<Pid>,
    memory: Option<Pid>,
}

/// Gives every state of every address space a number of its own, so that a cache keyed by it never has to be emptied.
#[derive(Debug, Default)]
pub struct Epochs(u32);

impl Epochs {
    /// A number that was not given before. After 2^32 changes numbers come again; a cache line that old is gone by then.
    pub fn advance(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

impl AddressSpace {
    /// An empty address space.
    #[must_use]
    pub fn new(epochs: &mut Epochs) -> AddressSpace {
        AddressSpace { mappings: Rc::default(), epoch: epochs.advance(), process: None, memory: None }
    }

    /// The same of another process. `runs_here` is whether its memory can be read.
    #[must_use]
    pub fn of(self, process: Pid, runs_here: bool) -> AddressSpace {
        AddressSpace { process: Some(process), memory: runs_here.then_some(process), ..self }
    }

    /// Whose it is.
    #[must_use]
    pub fn process(&self) -> Option<Pid> {
        self.process
    }

    /// The process whose memory it is, if that runs here.
    #[must_use]
    pub fn memory(&self) -> Option<Pid> {
        self.memory
    }

    /// What was derived from code that lies in no file is no longer true.
    pub fn forget_code(&mut self, epochs: &mut Epochs) {
        self.epoch = epochs.advance();
    }

    /// Identifies this state among all states of all address spaces: the same epoch means the same mappings.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The mappings by address.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Adds a mapping; what it covers of older ones is cut away, as `mmap(MAP_FIXED)` does.
    pub fn insert(&mut self, mapping: Mapping, epochs: &mut Epochs) {
        if mapping.start >= mapping.end {
            return;
        }
        self.epoch = epochs.advance();
        let mappings = Rc::make_mut(&mut self.mappings);
        let first = mappings.partition_point(|old| old.end <= mapping.start);
        let last = mappings.partition_point(|old| old.start < mapping.end);
        let mut pieces = Vec::with_capacity(3);
        if let Some(old) = mappings.get(first).filter(|old| first < last && old.start < mapping.start) {
            pieces.push(Mapping { end: mapping.start, ..old.clone() });
        }
        let tail = last.checked_sub(1).filter(|&at| at >= first).map(|at| mappings[at].clone());
        let tail = tail.filter(|old| old.end > mapping.end).map(|old| Mapping { start: mapping.end, ..old });
        pieces.push(mapping);
        pieces.extend(tail);
        mappings.splice(first..last, pieces);
    }

    /// Forgets everything (exec).
    pub fn clear(&mut self, epochs: &mut Epochs) {
        self.mappings = Rc::default();
        self.epoch = epochs.advance();
    }

    /// Rewrites the bias of an image's mappings once its file is open; `bias` gets each mapping and its present bias.
    pub fn rebase(&mut self, image: ImageId, epochs: &mut Epochs, bias: impl Fn(Address, u64) -> u64) {
        if !self.mappings.iter().any(|mapping| mapping.image() == Some(image)) {
            return;
        }
        self.epoch = epochs.advance();
        for mapping in Rc::make_mut(&mut self.mappings).iter_mut() {
            if let Content::Image { image: found, bias: old } = &mut mapping.content
                && *found == image
            {
                *old = bias(mapping.start, *old);
            }
        }
    }

    /// Takes an image's mappings for code that lies in no file.
    pub fn disown(&mut self, image: ImageId, epochs: &mut Epochs) {
        let of_image = |mapping: &Mapping| mapping.image() == Some(image);
        if !self.mappings.iter().any(of_image) {
            return;
        }
        self.epoch = epochs.advance();
        for mapping in Rc::make_mut(&mut self.mappings).iter_mut().filter(|mapping| of_image(mapping)) {
            mapping.content = Content::Anonymous;
        }
    }

    /// The mapping that holds an address.
    #[must_use]
    pub fn find(&self, address: Address) -> Option<&Mapping> {
        let at = self.mappings.partition_point(|mapping| mapping.end <= address);
        self.mappings.get(at).filter(|mapping| mapping.start <= address)
    }

    /// The place in an image that an address is; `None` outside of images.
    #[must_use]
    pub fn place(&self, address: Address) -> Option<Place> {
        self.find(address)?.place(address)
    }
}

impl Mapping {
    /// The image that it is a part of.
    #[must_use]
    pub fn image(&self) -> Option<ImageId> {
        match self.content {
            Content::Image { image, .. } => Some(image),
            Content::Anonymous => None,
        }
    }

    /// The place in the image that an address of this mapping is.
    #[must_use]
    pub fn place(&self, address: Address) -> Option<Place> {
        match self.content {
            Content::Image { image, bias } => Some(Place { image, rva: Rva(address.0.wrapping_sub(bias)) }),
            Content::Anonymous => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(start: u64, end: u64, id: u32) -> Mapping {
        Mapping { start: Address(start), end: Address(end), content: Content::Image { image: ImageId(id), bias: 0 } }
    }

    fn ranges(space: &AddressSpace) -> Vec<(u64, u64)> {
        space.mappings().iter().map(|m| (m.start.0, m.end.0)).collect()
    }

    #[test]
    fn a_new_mapping_cuts_what_it_covers() {
        let mut epochs = Epochs::default();
        let mut space = AddressSpace::new(&mut epochs);
        space.insert(image(0x1000, 0x5000, 0), &mut epochs);
        space.insert(image(0x2000, 0x3000, 1), &mut epochs);
        assert_eq!(ranges(&space), [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x5000)]);
        space.insert(image(0x1800, 0x4000, 2), &mut epochs);
        assert_eq!(ranges(&space), [(0x1000, 0x1800), (0x1800, 0x4000), (0x4000, 0x5000)]);
        space.insert(image(0x0, 0x9000, 3), &mut epochs);
        assert_eq!(ranges(&space), [(0x0, 0x9000)]);
        space.insert(image(0xa000, 0xb000, 4), &mut epochs);
        assert_eq!(space.place(Address(0xa123)), Some(Place { image: ImageId(4), rva: Rva(0xa123) }));
        assert_eq!(space.place(Address(0x9fff)), None);
    }

    #[test]
    fn a_fork_keeps_its_own_copy() {
        let mut epochs = Epochs::default();
        let mut parent = AddressSpace::new(&mut epochs);
        parent.insert(image(0x1000, 0x2000, 0), &mut epochs);
        let child = parent.clone();
        assert_eq!(child.epoch(), parent.epoch());
        parent.clear(&mut epochs);
        assert_eq!(ranges(&child), [(0x1000, 0x2000)]);
        assert_ne!(child.epoch(), parent.epoch());
    }
}
