use sha2::Digest as _;

use crate::{Digest, GenerationId, HostName, ManifestEntry, ManifestError, PathOrder, Policy};

/// Computes the id of a generation from one entry after another, and checks their order.
#[derive(Debug, Clone)]
pub struct GenerationHasher {
    order: PathOrder,
    lines: sha2::Sha256,
}

impl GenerationHasher {
    /// A hasher for this machine and policy, whose lines come before those of the files.
    pub fn new(host: &HostName, policy: &Policy) -> Self {
        let head = format!(
            "bento-generation 1\nhost {host}\npolicy {}\n",
            policy.canonical()
        );
        GenerationHasher {
            order: PathOrder::default(),
            lines: sha2::Sha256::new_with_prefix(head),
        }
    }

    /// Adds the next entry, if its order is right.
    pub fn add(&mut self, entry: &ManifestEntry) -> Result<(), ManifestError> {
        self.order.check(entry.path())?;
        self.lines.update(entry.id_line());
        self.lines.update("\n");
        Ok(())
    }

    /// The id, with the lines of checked files.
    pub(crate) fn id_with(mut self, lines: &str) -> GenerationId {
        self.lines.update(lines);
        self.id()
    }

    /// The id, after the last entry.
    pub fn id(self) -> GenerationId {
        GenerationId::from_digest(Digest::from_hasher(self.lines))
    }
}
