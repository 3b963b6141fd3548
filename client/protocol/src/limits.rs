//! Limits for received data, so that neither side can fill the other's disk or memory.

/// The largest report file in bytes, compressed. The appliance enforces it with `RLIMIT_FSIZE`.
pub const REPORT_BYTES: u64 = 4 << 20;
/// The largest report in bytes, decompressed: bounds a gzip bomb.
pub const REPORT_JSON_BYTES: u64 = 8 << 20;
/// The largest `log` in a report, in bytes: the tail of the build and activation output.
pub const LOG_BYTES: usize = 1 << 20;
/// The largest `manifest.json` or `delta.json` in bytes: about 100,000 files with long names.
pub const MANIFEST_BYTES: u64 = 32 << 20;
/// The most bytes of a `manifest.json` or `delta.json` besides its lists of files: bounds its policy.
pub const HEAD_BYTES: u64 = 256 << 10;
/// The most undelivered reports of one machine; the oldest are dropped first.
pub const SPOOLED_REPORTS: usize = 50;
