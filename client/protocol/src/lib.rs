//! The contract between the appliance and the client.
//!
//! Every type is checked when it is created, also from JSON, so that the rest of bento never holds a name, a path, an
//! id or a manifest that breaks the contract. This crate does no input or output.

mod address;
mod bounded_duration;
pub mod chroot;
mod delta;
mod digest;
mod entry;
mod file;
mod hasher;
mod host_name;
pub mod limits;
mod manifest;
mod order;
mod path;
mod policy;
mod report;
mod run;
pub mod stream;
mod symlink;
mod system_path;
mod text_type;
mod wrong_type;

pub use address::{Address, AddressError};
pub use bounded_duration::{BoundedDuration, DurationError, parse_duration};
pub use delta::{Delta, DeltaError, merge};
pub use digest::{Digest, DigestError, GenerationId};
pub use entry::{ManifestEntry, ManifestEntryError};
pub use file::{File, FileError};
pub use hasher::GenerationHasher;
pub use host_name::{HostName, HostNameError};
pub use manifest::{FileList, Manifest, ManifestError};
pub use order::PathOrder;
pub use path::{Area, FilePath, FilePathError};
pub use policy::{
    Attribute, LocalTime, NixArguments, Policy, PolicyError, Reboot, RebootWindow, Terms,
};
pub use report::{Outcome, Phase, Report, ReportError, Systems};
pub use run::{ReportName, ReportNameError, RunId};
pub use symlink::{Symlink, SymlinkError};
pub use system_path::{SystemPath, SystemPathError};
pub use wrong_type::wrong_type;

/// The only version of the wire format: `"format": 1` in every JSON document.
pub const FORMAT: u32 = 1;

/// A `"format"` field that only accepts [`FORMAT`]: a document of another format doesn't parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format;

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number == FORMAT {
            Ok(Format)
        } else {
            Err(format!(
                "format {number} is unknown here, only format {FORMAT} is: update the older side"
            ))
        }
    }
}

impl From<Format> for u32 {
    fn from(_: Format) -> u32 {
        FORMAT
    }
}
