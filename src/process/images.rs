//! The table of images: each file once, whoever maps it.

use std::fs::File;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::image::Image;
use crate::ids::{BuildId, ImageId};
use crate::record::Identity;

/// An image as a profile shows it, also where it could not be opened.
#[derive(Clone)]
pub struct ImageInfo {
    /// Its index.
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

/// All images, by [`ImageId`].
#[derive(Default)]
pub struct Images {
    infos: Vec<ImageInfo>,
    states: Vec<State>,
    by_identity: FxHashMap<Identity, ImageId>,
    /// Files of which nothing but the name is known.
    by_name: FxHashMap<Arc<str>, ImageId>,
}

impl Images {
    /// The image of a file, and whether it should be opened now.
    pub(super) fn find(&mut self, name: &str, identity: &Identity) -> (ImageId, bool) {
        let known = match identity {
            Identity::Unknown => self.by_name.get(name),
            identity => self.by_identity.get(identity),
        };
        if let Some(&id) = known {
            let again = matches!(self.state(id), State::Failed(tries) if tries < TRIES);
            return (id, again);
        }
        let id = ImageId(u32::try_from(self.infos.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        let build_id = match identity {
            Identity::BuildId(build_id) => Some(build_id.clone()),
            _ => None,
        };
        match identity {
            Identity::Unknown => self.by_name.insert(name.clone(), id),
            identity => self.by_identity.insert(identity.clone(), id),
        };
        self.infos.push(ImageInfo { id, name, build_id, root: None, image: None });
        self.states.push(State::Pending);
        (id, true)
    }

    /// What came of opening an image.
    pub(super) fn opened(&mut self, id: ImageId, image: Option<Arc<Image>>) {
        let (Some(info), Some(state)) = (self.infos.get_mut(id.0 as usize), self.states.get_mut(id.0 as usize)) else {
            return;
        };
        let Some(image) = image else {
            *state = match *state {
                State::Failed(tries) => State::Failed(tries.saturating_add(1)),
                _ => State::Failed(1),
            };
            return;
        };
        *state = State::Open;
        if let Some(build_id) = image.build_id() {
            // Mappings that were there before us are known by inode, later ones by build ID: one image all the same.
            self.by_identity.entry(Identity::BuildId(build_id.clone())).or_insert(id);
            info.build_id = Some(build_id.clone());
        }
        info.image = Some(image);
    }

    /// Tells whose root directory an image is looked for in.
    pub(super) fn set_root(&mut self, id: ImageId, root: Option<Arc<File>>) {
        if let Some(info) = self.infos.get_mut(id.0 as usize) {
            info.root = root;
        }
    }

    pub(super) fn state(&self, id: ImageId) -> State {
        self.states.get(id.0 as usize).copied().unwrap_or(State::Failed(TRIES))
    }

    /// An open image.
    #[must_use]
    pub fn image(&self, id: ImageId) -> Option<&Arc<Image>> {
        self.infos.get(id.0 as usize)?.image.as_ref()
    }

    /// All images, by id.
    #[must_use]
    pub fn infos(&self) -> &[ImageInfo] {
        &self.infos
    }
}
