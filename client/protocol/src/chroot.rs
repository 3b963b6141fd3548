//! Paths in a machine's chroot, as the machine sees them.

use crate::GenerationId;

/// A symlink whose target is the generation's id: one READLINK is a whole poll.
pub const GENERATION: &str = "/generation";
/// The manifest, also the first entry of the bundle.
pub const MANIFEST: &str = "/manifest.json";
/// The whole generation in one archive.
pub const BUNDLE: &str = "/bundle.tar.gz";
/// The folder of archives that lead from an older generation to this one.
pub const DELTA: &str = "/delta";
/// The inbox: the only folder to which a machine can write.
pub const LOGS: &str = "/logs";
/// The file that a bento 2022 client polls: empty, with the time of publication as its modification time.
pub const LAST_CHANGE_DATE: &str = "/last_change_date";

/// The name of the first entry of [`BUNDLE`].
pub const MANIFEST_ENTRY: &str = "manifest.json";
/// The name of the first entry of an archive in [`DELTA`].
pub const DELTA_ENTRY: &str = "delta.json";

/// The archive that leads from generation `from` to the published one.
pub fn delta(from: &GenerationId) -> String {
    format!("{DELTA}/{from}.tar.gz")
}
