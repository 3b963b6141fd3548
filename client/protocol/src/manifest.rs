use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    FilePath, Format, GenerationHasher, GenerationId, HostName, ManifestEntry, PathOrder, Policy,
};

/// The files and symlinks of a generation, with its machine and policy. They always match the id, and the files are
/// sorted, unique, and none is a folder of another: no other manifest can be created, or read from JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct Manifest {
    host: HostName,
    generation: GenerationId,
    published: Timestamp,
    policy: Policy,
    files: Arc<[ManifestEntry]>,
}

/// The files of a generation, which several machines may share: sorted, unique, and none is a folder of another. They
/// are checked and hashed once, and the manifest of each machine only adds its id.
#[derive(Debug, Clone)]
pub struct FileList {
    files: Arc<[ManifestEntry]>,
    /// Their lines in an id.
    lines: String,
}

/// The JSON document.
#[derive(Serialize, Deserialize)]
struct Document {
    format: Format,
    host: HostName,
    generation: GenerationId,
    published: Timestamp,
    policy: Policy,
    files: Vec<ManifestEntry>,
}

/// Why files or a document aren't a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not sorted bytewise, or one path twice.
    #[error("{0} is listed out of order, or twice")]
    Order(FilePath),
    /// A path is both a file and a folder.
    #[error("{0} is listed below a file")]
    BelowFile(FilePath),
    /// The id doesn't match the rest.
    #[error("the manifest names generation {named}, but what it lists is generation {computed}")]
    Id {
        /// The id in the document.
        named: GenerationId,
        /// The id of its host, policy and files.
        computed: GenerationId,
    },
}

impl FileList {
    /// The list of these files, in any order.
    ///
    /// # Errors
    /// When they can't be the files of one generation.
    pub fn new(files: Vec<impl Into<ManifestEntry>>) -> Result<Self, ManifestError> {
        let files = sorted(files);
        let mut order = PathOrder::default();
        files.iter().try_for_each(|file| order.check(file.path()))?;
        let lines = files.iter().map(|file| file.id_line() + "\n").collect();
        Ok(FileList {
            files: files.into(),
            lines,
        })
    }

    /// The manifest of these files for a machine. `published` doesn't enter the id.
    pub fn manifest(&self, host: HostName, policy: Policy, published: Timestamp) -> Manifest {
        Manifest {
            generation: GenerationHasher::new(&host, &policy).id_with(&self.lines),
            host,
            published,
            policy,
            files: Arc::clone(&self.files),
        }
    }
}

impl Manifest {
    /// The manifest of these files, in any order. `published` doesn't enter the id.
    pub fn new(
        host: HostName,
        policy: Policy,
        files: Vec<impl Into<ManifestEntry>>,
        published: Timestamp,
    ) -> Result<Self, ManifestError> {
        let files = sorted(files);
        let generation = generation_id(&host, &policy, &files)?;
        Ok(Manifest {
            host,
            generation,
            published,
            policy,
            files: files.into(),
        })
    }

    /// The machine.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The id of the generation.
    pub fn generation(&self) -> GenerationId {
        self.generation
    }

    /// When it was published, by the appliance's clock.
    pub fn published(&self) -> Timestamp {
        self.published
    }

    /// The settings for the client.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The files and symlinks, sorted bytewise by path.
    pub fn files(&self) -> &[ManifestEntry] {
        &self.files
    }

    /// The file or symlink at a path.
    pub fn file(&self, path: &FilePath) -> Option<&ManifestEntry> {
        let index = self
            .files
            .binary_search_by(|file| file.path().cmp(path))
            .ok()?;
        self.files.get(index)
    }
}

fn sorted(files: Vec<impl Into<ManifestEntry>>) -> Vec<ManifestEntry> {
    let mut files: Vec<ManifestEntry> = files.into_iter().map(Into::into).collect();
    files.sort_by(|one, other| one.path().cmp(other.path()));
    files
}

fn generation_id(
    host: &HostName,
    policy: &Policy,
    files: &[ManifestEntry],
) -> Result<GenerationId, ManifestError> {
    let mut hasher = GenerationHasher::new(host, policy);
    files.iter().try_for_each(|file| hasher.add(file))?;
    Ok(hasher.id())
}

impl TryFrom<Document> for Manifest {
    type Error = ManifestError;

    fn try_from(document: Document) -> Result<Self, Self::Error> {
        let Document {
            format: Format,
            host,
            generation: named,
            published,
            policy,
            files,
        } = document;
        let computed = generation_id(&host, &policy, &files)?;
        if computed != named {
            return Err(ManifestError::Id { named, computed });
        }
        Ok(Manifest {
            host,
            generation: computed,
            published,
            policy,
            files: files.into(),
        })
    }
}

impl From<Manifest> for Document {
    fn from(manifest: Manifest) -> Self {
        let Manifest {
            host,
            generation,
            published,
            policy,
            files,
        } = manifest;
        Document {
            format: Format,
            host,
            generation,
            published,
            policy,
            files: files.to_vec(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Digest, File, Symlink};

    pub(crate) fn file(path: &str, content: &str) -> File {
        File {
            path: path.parse().unwrap(),
            executable: false,
            size: content.len() as u64,
            sha256: Digest::of(content),
        }
    }

    /// An entry whose content begins with "-> " is a symlink.
    pub(crate) fn entry(path: &str, content: &str) -> ManifestEntry {
        match content.strip_prefix("-> ") {
            Some(target) => Symlink::new(path.parse().unwrap(), target.to_owned())
                .unwrap()
                .into(),
            None => file(path, content).into(),
        }
    }

    pub(crate) fn manifest(files: &[(&str, &str)]) -> Manifest {
        let files = files
            .iter()
            .map(|(path, content)| entry(path, content))
            .collect::<Vec<_>>();
        Manifest::new(
            "kikimora".parse().unwrap(),
            Policy::default(),
            files,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap()
    }

    #[test]
    fn the_id_is_the_digest_of_the_lines_of_the_contract() {
        let executable = File {
            executable: true,
            ..file("secrets/s", "key")
        };
        // Issue 10, line 3: a symlink enters with the digest of its target.
        let files = vec![
            executable.into(),
            entry("config/flake.nix", "{}"),
            entry("config/common/overlays", "-> ../pkgs"),
        ];
        let terms = serde_json::from_str(r#"{"reboot":"immediate"}"#).unwrap();
        let manifest = Manifest::new(
            "kikimora".parse().unwrap(),
            terms,
            files,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        let lines = format!(
            "bento-generation 1\nhost kikimora\npolicy {{\"reboot\":\"immediate\"}}\n\
             link {} config/common/overlays\nfile - 2 {} config/flake.nix\nfile x 3 {} secrets/s\n",
            Digest::of("../pkgs"),
            Digest::of("{}"),
            Digest::of("key")
        );
        assert_eq!(
            manifest.generation().to_string(),
            Digest::of(lines).to_string()
        );
    }

    #[test]
    fn a_file_cannot_be_a_folder_too() {
        let files = ["config/a", "config/a-b", "config/a/b"]
            .map(|path| file(path, ""))
            .to_vec();
        let made = Manifest::new(
            "a".parse().unwrap(),
            Policy::default(),
            files,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            made,
            Err(ManifestError::BelowFile("config/a/b".parse().unwrap()))
        );
        let twice = vec![file("config/a", ""), file("config/a", "x")];
        let made = Manifest::new(
            "a".parse().unwrap(),
            Policy::default(),
            twice,
            Timestamp::UNIX_EPOCH,
        );
        assert!(matches!(made, Err(ManifestError::Order(_))));
        // Issue 10, line 3: nothing lies below a symlink either.
        let below = vec![entry("config/a", "-> b"), entry("config/a/c", "")];
        assert!(matches!(
            FileList::new(below),
            Err(ManifestError::BelowFile(_))
        ));
    }

    #[test]
    fn a_shared_list_gives_the_same_manifests_as_separate_ones() {
        let files = ["secrets/s", "config/b", "config/a"].map(|path| file(path, path));
        let list = FileList::new(files.to_vec()).unwrap();
        for host in ["kikimora", "pi"] {
            let host: HostName = host.parse().unwrap();
            let policy: Policy = serde_json::from_str(r#"{"self_update":true}"#).unwrap();
            let now = Timestamp::UNIX_EPOCH;
            let shared = list.manifest(host.clone(), policy.clone(), now);
            let alone = Manifest::new(host, policy, files.to_vec(), now).unwrap();
            assert_eq!(shared, alone);
        }
        for path in ["config/a", "config/a/b"] {
            let more = [&files[..], &[file(path, "")]].concat();
            assert!(FileList::new(more).is_err(), "{path}");
        }
    }

    #[test]
    fn each_changed_field_that_counts_is_noticed() {
        let json = serde_json::to_string(&manifest(&[
            ("config/a", "1"),
            ("config/b", "2"),
            ("config/c", "-> d"),
        ]))
        .unwrap();
        assert!(serde_json::from_str::<Manifest>(&json).is_ok());
        for (old, new) in [
            ("kikimora", "kikimore"),
            ("\"policy\":{}", "\"policy\":{\"self_update\":true}"),
            ("\"executable\":false", "\"executable\":true"),
            ("\"size\":1", "\"size\":2"),
            ("config/a", "config/0"),
            ("\"symlink\":\"d\"", "\"symlink\":\"e\""),
            ("\"symlink\":\"d\"", "\"symlink\":\"../d\""),
            ("\"format\":1", "\"format\":2"),
        ] {
            let tampered = json.replacen(old, new, 1);
            assert_ne!(tampered, json, "{old} isn't in the document");
            assert!(
                serde_json::from_str::<Manifest>(&tampered).is_err(),
                "{new}"
            );
        }
    }
}
