use sha2::Digest as _;

use crate::{Digest, GenerationId, HostName, ManifestEntry, ManifestError, Order, Policy};

/// Computes the id of a generation from its entries as they come, one after another, and checks that they may.
#[derive(Debug, Clone)]
pub struct GenerationHasher {
    order: Order,
    lines: sha2::Sha256,
}

impl GenerationHasher {
    /// The lines that come before those of the files.
    pub fn new(host: &HostName, policy: &Policy) -> Self {
        let head = format!(
            "bento-generation 1\nhost {host}\npolicy {}\n",
            policy.canonical()
        );
        GenerationHasher {
            order: Order::default(),
            lines: sha2::Sha256::new_with_prefix(head),
        }
    }

    /// Takes the next entry, if it may follow those before.
    pub fn add(&mut self, entry: &ManifestEntry) -> Result<(), ManifestError> {
        self.order.check(entry.path())?;
        self.lines.update(entry.id_line());
        self.lines.update("\n");
        Ok(())
    }

    /// The id, with the lines of files that were checked.
    pub(crate) fn id_with(mut self, lines: &str) -> GenerationId {
        self.lines.update(lines);
        self.id()
    }

    /// The id, when all files were taken.
    pub fn id(self) -> GenerationId {
        GenerationId::from_digest(Digest::from_hasher(self.lines))
    }
}
