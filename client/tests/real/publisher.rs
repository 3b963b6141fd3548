//! Publishes generations as the appliance does, as far as a client can see: for tests of the client alone.

use bento_protocol::{
    Delta, Digest, File, HostName, Manifest, ManifestEntry, Policy, Symlink, chroot,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// A file or a symlink to publish.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) executable: bool,
    /// Whether it is a symlink, to what `bytes` say.
    pub(crate) symlink: bool,
}

impl Content {
    pub(crate) fn new(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Content {
            path: path.to_owned(),
            bytes: bytes.into(),
            executable: false,
            symlink: false,
        }
    }

    pub(crate) fn symlink(path: &str, target: &str) -> Self {
        Content {
            symlink: true,
            ..Self::new(path, target)
        }
    }

    pub(crate) fn executable(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Content {
            executable: true,
            ..Self::new(path, bytes)
        }
    }
}

/// A generation with the content of its files.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) manifest: Manifest,
    contents: Vec<Content>,
}

impl Generation {
    pub(crate) fn new(host: &HostName, policy: Policy, mut contents: Vec<Content>) -> Self {
        contents.sort_by(|one, other| one.path.cmp(&other.path));
        let files: Vec<_> = contents.iter().map(entry).collect();
        let manifest = Manifest::new(host.clone(), policy, files, Timestamp::now()).unwrap();
        Generation { manifest, contents }
    }

    /// The content of a file, or the target of a symlink.
    pub(crate) fn bytes(&self, file: &ManifestEntry) -> &[u8] {
        let found = self
            .contents
            .binary_search_by(|content| content.path.as_str().cmp(file.path().as_str()));
        &self.contents[found.unwrap()].bytes
    }

    /// `bundle.tar.gz`.
    pub(crate) fn bundle(&self) -> Vec<u8> {
        let mut archive = Archive::new();
        archive.add(
            chroot::MANIFEST_ENTRY,
            &serde_json::to_vec(&self.manifest).unwrap(),
        );
        for file in self.manifest.files() {
            archive.add_entry(file, self.bytes(file));
        }
        archive.finish()
    }

    /// `delta/<old>.tar.gz`.
    pub(crate) fn delta_from(&self, old: &Generation) -> Vec<u8> {
        let delta = Delta::between(&old.manifest, &self.manifest);
        let mut archive = Archive::new();
        archive.add(chroot::DELTA_ENTRY, &serde_json::to_vec(&delta).unwrap());
        for file in &delta.changed {
            archive.add_entry(file, self.bytes(file));
        }
        archive.finish()
    }
}

fn entry(content: &Content) -> ManifestEntry {
    let path = content.path.parse().unwrap();
    if content.symlink {
        let target = String::from_utf8(content.bytes.clone()).unwrap();
        return Symlink::new(path, target).unwrap().into();
    }
    let file = File {
        path,
        executable: content.executable,
        size: content.bytes.len() as u64,
        sha256: Digest::of(&content.bytes),
    };
    file.into()
}

/// A compressed archive, made entry by entry.
pub(crate) struct Archive(tar::Builder<GzEncoder<Vec<u8>>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Archive(tar::Builder::new(GzEncoder::new(
            Vec::new(),
            Compression::default(),
        )))
    }

    /// What a manifest lists, with its content.
    pub(crate) fn add_entry(&mut self, entry: &ManifestEntry, content: &[u8]) {
        match entry {
            ManifestEntry::File(file) => self.add(file.path.as_str(), content),
            ManifestEntry::Symlink(link) => self.add_symlink(link.path().as_str(), link.target()),
        }
    }

    pub(crate) fn add_symlink(&mut self, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mtime(1);
        // As it is: the library would write `a/./b` as `a/b`.
        header.set_link_name_literal(target).unwrap();
        self.0.append_data(&mut header, name, &[][..]).unwrap();
    }

    pub(crate) fn add(&mut self, name: &str, content: &[u8]) {
        self.add_as(name, content.len() as u64, tar::EntryType::Regular, content);
    }

    /// An entry whose header may say something else than what follows.
    pub(crate) fn add_as(&mut self, name: &str, size: u64, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1);
        if name.len() > header.as_old().name.len() {
            self.0.append_data(&mut header, name, content).unwrap();
            return;
        }
        // As it is: the library wouldn't write a name that leaves the folder.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap().finish().unwrap()
    }
}
