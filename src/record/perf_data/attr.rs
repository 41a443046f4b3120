//! `struct perf_event_attr` as files hold it: of any size that a kernel ever had.

use super::fields::Fields;
use crate::record::Layout;

/// An event of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// `type`.
    pub kind: u32,
    /// `config`.
    pub config: u64,
    /// `sample_period`, or `sample_freq` where [`Attr::by_frequency`].
    pub rate: u64,
    /// `freq`.
    pub by_frequency: bool,
    /// `inherit`.
    pub inherited: bool,
    /// `exclude_user`.
    pub exclude_user: bool,
    /// `exclude_kernel`.
    pub exclude_kernel: bool,
    /// How its records are laid out.
    pub layout: Layout,
    /// Its name, as the file has it; empty if it has none.
    pub name: String,
    /// Its ids.
    pub ids: Vec<u64>,
}

/// The bits of its flags that matter.
const INHERITED: u64 = 1 << 1;
const EXCLUDE_USER: u64 = 1 << 4;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const BY_FREQUENCY: u64 = 1 << 10;
const SAMPLE_ID_ALL: u64 = 1 << 18;

impl Attr {
    /// The smallest that there ever was (`PERF_ATTR_SIZE_VER0`).
    pub const MIN_BYTES: u64 = 64;
    /// Larger than any to come. What lies behind the known fields tells nothing that a reader needs.
    pub const MAX_BYTES: u64 = 4096;

    /// Reads an attr that takes all of `bytes`; fields that it is too short for are 0, as the format wants it.
    pub(super) fn read(bytes: &[u8], swapped: bool) -> Option<Attr> {
        let mut known = [0; 104];
        let present = bytes.len().min(known.len());
        known[..present].copy_from_slice(&bytes[..present]);
        let mut fields = Fields::new(&known, swapped);
        let (kind, size) = (fields.u32()?, fields.u32()?);
        // Its own size may be smaller than the room that it has in the file.
        let own = usize::try_from(size).ok().filter(|&own| own >= Attr::MIN_BYTES as usize && own < present);
        if let Some(own) = own {
            let own = &bytes[..own];
            return Attr::read(own, swapped);
        }
        let (config, rate, sample_type, read_format) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let flags = fields.flags()?;
        fields.bytes(24)?;
        let (branches, registers) = (fields.u64()?, fields.u64()?);
        fields.bytes(8)?;
        let interrupted_registers = fields.u64()?;
        let has = |bit: u64| flags & bit != 0;
        let by_frequency = has(BY_FREQUENCY);
        let layout = Layout {
            period: if by_frequency { 0 } else { rate },
            sample_type,
            read_format,
            branches,
            registers,
            interrupted_registers,
            trailers: has(SAMPLE_ID_ALL),
            ..Layout::default()
        };
        Some(Attr {
            kind,
            config,
            rate,
            by_frequency,
            inherited: has(INHERITED),
            exclude_user: has(EXCLUDE_USER),
            exclude_kernel: has(EXCLUDE_KERNEL),
            layout,
            name: String::new(),
            ids: Vec::new(),
        })
    }
}
