//! The numbers of the format, which its reader and its writer share.

/// What a file begins with, in the byte order of the machine that wrote it.
pub const MAGIC: [u8; 8] = *b"PERFILE2";
/// Bytes of the header of a file: magic, size, size of an attr, three sections, bits of features.
pub const HEADER_BYTES: u64 = 104;
/// Bytes of the header of a pipe: magic and size.
pub const PIPE_HEADER_BYTES: u64 = 16;
/// Bytes of the attrs that we write (`PERF_ATTR_SIZE_VER7`): readers refuse a file whose attrs are larger than theirs.
pub const ATTR_BYTES: u64 = 128;
/// Bytes that a `COMPRESSED` record of ours unpacks to at most: few enough that what cannot be compressed fits into a record too.
pub const COMPRESSED_ROOM: usize = 60 << 10;
/// Bits of features in the header of a file.
pub const FEATURE_BITS: u32 = 256;

/// A feature section (`enum` of `HEADER_*` in `tools/perf/util/header.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are what the format calls them")]
pub enum Feature {
    TracingData = 1,
    BuildId = 2,
    Hostname = 3,
    OsRelease = 4,
    Version = 5,
    Arch = 6,
    NrCpus = 7,
    CpuDesc = 8,
    CpuId = 9,
    TotalMem = 10,
    CmdLine = 11,
    EventDesc = 12,
    CpuTopology = 13,
    NumaTopology = 14,
    BranchStack = 15,
    PmuMappings = 16,
    GroupDesc = 17,
    AuxTrace = 18,
    Stat = 19,
    Cache = 20,
    SampleTime = 21,
    MemTopology = 22,
    ClockId = 23,
    DirFormat = 24,
    BpfProgInfo = 25,
    BpfBtf = 26,
    Compressed = 27,
    CpuPmuCaps = 28,
    ClockData = 29,
    HybridTopology = 30,
    PmuCaps = 31,
}

/// Records that perf itself writes, beside those of the kernel (`enum perf_user_event_type`).
pub mod user_record {
    #![expect(missing_docs, reason = "they are what the format calls them")]
    pub const HEADER_ATTR: u32 = 64;
    pub const HEADER_EVENT_TYPE: u32 = 65;
    pub const HEADER_TRACING_DATA: u32 = 66;
    pub const HEADER_BUILD_ID: u32 = 67;
    pub const FINISHED_ROUND: u32 = 68;
    pub const ID_INDEX: u32 = 69;
    pub const AUXTRACE_INFO: u32 = 70;
    pub const AUXTRACE: u32 = 71;
    pub const AUXTRACE_ERROR: u32 = 72;
    pub const THREAD_MAP: u32 = 73;
    pub const CPU_MAP: u32 = 74;
    pub const STAT_CONFIG: u32 = 75;
    pub const STAT: u32 = 76;
    pub const STAT_ROUND: u32 = 77;
    pub const EVENT_UPDATE: u32 = 78;
    pub const TIME_CONV: u32 = 79;
    pub const HEADER_FEATURE: u32 = 80;
    pub const COMPRESSED: u32 = 81;
    pub const FINISHED_INIT: u32 = 82;
    pub const COMPRESSED2: u32 = 83;
}
