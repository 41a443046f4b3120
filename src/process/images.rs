//! The table of images: each file once, whoever maps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::image::Image;
use crate::ids::{BuildId, ImageId};
use crate::record::Identity;

/// An image as a profile shows it, also where it could not be opened.
#[derive(Clone)]
pub struct ImageInfo {
    /// Its id.
    pub id: ImageId,
    /// The path as the process saw it, or a name in brackets.
    pub name: Arc<str>,
    /// The build ID that the kernel or the file gave.
    pub build_id: Option<BuildId>,
    /// The root directory of the process that it was opened for: a container's debug files lie below its own.
    pub root: Option<Arc<File>>,
    /// The open file. Without it, addresses are offsets in the file.
    pub image: Option<Arc<Image>>,
}

/// Whether an image is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Asked for.
    Pending,
    /// Open.
    Open,
    /// It could not be opened, so many times.
    Failed(u8),
}

/// A file that cannot be opened through one process may be through another, but not without end.
const TRIES: u8 = 8;

/// The images that somebody has mapped or still needs, by [`ImageId`]. An id is never given twice.
#[derive(Default)]
pub struct Images {
    entries: BTreeMap<ImageId, Entry>,
    next: u32,
    by_identity: FxHashMap<Identity, ImageId>,
    /// Files of which nothing but the name is known.
    by_name: FxHashMap<Arc<str>, ImageId>,
}

struct Entry {
    info: ImageInfo,
    state: State,
    /// Requests to open it that are not answered yet.
    asked: u32,
}

impl Images {
    /// The image of a file, and whether it should be opened now.
    pub(super) fn find(&mut self, name: &str, identity: &Identity) -> (ImageId, bool) {
        let known = match identity {
            Identity::Unknown => self.by_name.get(name),
            identity => self.by_identity.get(identity),
        };
        if let Some(&id) = known {
            let again = matches!(self.state(id), State::Failed(tries) if tries < TRIES && !is_memory(name));
            return (id, again);
        }
        let id = ImageId(self.next);
        self.next = self.next.wrapping_add(1);
        let name: Arc<str> = name.into();
        let build_id = match identity {
            Identity::BuildId(build_id) => Some(build_id.clone()),
            _ => None,
        };
        match identity {
            Identity::Unknown => self.by_name.insert(name.clone(), id),
            identity => self.by_identity.insert(identity.clone(), id),
        };
        let info = ImageInfo { id, name, build_id, root: None, image: None };
        self.entries.insert(id, Entry { info, state: State::Pending, asked: 0 });
        (id, true)
    }

    /// Tells that it was asked for, and whose root directory it is looked for in.
    pub(super) fn asked(&mut self, id: ImageId, root: Option<Arc<File>>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.info.root = root;
            entry.asked += 1;
        }
    }

    /// What came of opening an image.
    pub(super) fn opened(&mut self, id: ImageId, image: Option<Arc<Image>>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.asked = entry.asked.saturating_sub(1);
        let Some(image) = image else {
            entry.state = match entry.state {
                State::Open => State::Open,
                State::Failed(tries) => State::Failed(tries.saturating_add(1)),
                State::Pending => State::Failed(1),
            };
            return;
        };
        entry.state = State::Open;
        if let Some(build_id) = image.build_id() {
            // Mappings that were there before us are known by inode, later ones by build ID: one image all the same.
            self.by_identity.entry(Identity::BuildId(build_id.clone())).or_insert(id);
            entry.info.build_id = Some(build_id.clone());
        }
        entry.info.image = Some(image);
    }

    /// Closes the images that are not `used`, but for those that are just being opened, and answers which.
    pub(super) fn forget(&mut self, used: impl Fn(ImageId) -> bool) -> Vec<ImageId> {
        let unused = |(id, entry): (&ImageId, &Entry)| (entry.asked == 0 && !used(*id)).then_some(*id);
        let forgotten: Vec<ImageId> = self.entries.iter().filter_map(unused).collect();
        if forgotten.is_empty() {
            return forgotten;
        }
        forgotten.iter().for_each(|id| drop(self.entries.remove(id)));
        let gone: FxHashSet<ImageId> = forgotten.iter().copied().collect();
        self.by_identity.retain(|_, id| !gone.contains(id));
        self.by_name.retain(|_, id| !gone.contains(id));
        forgotten
    }

    pub(super) fn state(&self, id: ImageId) -> State {
        self.entries.get(&id).map_or(State::Failed(TRIES), |entry| entry.state)
    }

    /// Whether the mappings of an image turned out to be no file with code, but memory that a compiler writes its code into.
    pub(super) fn is_code_in_memory(&self, id: ImageId) -> bool {
        let failed = |entry: &Entry| matches!(entry.state, State::Failed(_)) && is_memory(&entry.info.name);
        self.entries.get(&id).is_some_and(failed)
    }

    /// An open image.
    #[must_use]
    pub fn image(&self, id: ImageId) -> Option<&Arc<Image>> {
        self.info(id)?.image.as_ref()
    }

    /// What is known of an image; `None` once it is forgotten.
    #[must_use]
    pub fn info(&self, id: ImageId) -> Option<&ImageInfo> {
        self.entries.get(&id).map(|entry| &entry.info)
    }

    /// All images, in the order of their ids.
    pub fn infos(&self) -> impl Iterator<Item = &ImageInfo> {
        self.entries.values().map(|entry| &entry.info)
    }
}

/// Whether a name is that of a file that exists in memory alone. Programs are loaded from such files too, so only what lies in
/// it tells whether it is an ELF file or the pool of a JIT compiler (.NET's `doublemapper`, V8's).
fn is_memory(name: &str) -> bool {
    name.starts_with("/memfd:")
}
