//! Bundles and deltas from a server: either they become exactly the polled generation, or nothing of them stays; and
//! nothing is ever written outside of it.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bento_client::generation::archive::ArchiveError;
use bento_client::generation::pull::{Pulled, Source};
use bento_client::generation::staged::Staged;
use bento_client::generation::{stage, verify};
use bento_client::state::State;
use bento_fuzz::document::{self, Document, Kind, Listed, assert_listable};
use bento_fuzz::place;
use bento_fuzz::recipe::{self, Entry};
use bento_protocol::{Digest, GenerationId, HostName};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The first byte of an input.
const IS_DELTA: u8 = 1;
/// The rest is an archive, not a recipe for one.
const IS_TAR: u8 = 2;
/// The rest is a compressed archive.
const IS_GZIP: u8 = 4;
/// The end of the archive is cut off.
const IS_CUT: u8 = 8;

/// The generation to which deltas apply.
const BASE: &[u8] = b"0manifest.json\n{\"format\":1,\"host\":\"kikimora\",\"generation\":\"?\",\
    \"published\":\"2026-01-01T00:00:00Z\",\"policy\":{},\"files\":[\
    {\"path\":\"config/flake.nix\",\"executable\":false,\"size\":@1,\"sha256\":\"#1\"},\
    {\"path\":\"config/sub/run.sh\",\"executable\":true,\"size\":@2,\"sha256\":\"#2\"},\
    {\"path\":\"secrets/token\",\"executable\":false,\"size\":@3,\"sha256\":\"#3\"}]}\xff\
    0config/flake.nix\n{ }\xff0config/sub/run.sh\n#!/bin/sh\n\xff0secrets/token\nhush\xff";

/// A machine with one generation, and other files beside it.
struct ArchiveEnv {
    folder: TempDir,
    state: State,
    host: HostName,
    base: Staged,
    files: Vec<Listed>,
    untouched: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

static ENV: LazyLock<ArchiveEnv> = LazyLock::new(|| {
    let folder = place::folder();
    let beside = folder.path().join("beside");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("canary"), "sings").unwrap();
    let state = State::new(&folder.path().join("state")).unwrap();
    state.prepare().unwrap();
    let host: HostName = "kikimora".parse().unwrap();
    let mut entries = recipe::entries(BASE);
    entries[0].content = document::with_id(&entries[0].content, |document| document.files("files"));
    let document = Document::read(&entries[0].content).unwrap();
    let id: GenerationId = document.generation().unwrap().parse().unwrap();
    let archive = recipe::gzip(&recipe::tar(&entries));
    let pulled = unpack(&archive, &state, &host, id, Source::Bundle).unwrap();
    let verified = verify::verify(&state, pulled).unwrap();
    let base = stage::stage(&state, verified, &[]).unwrap();
    ArchiveEnv {
        untouched: place::content(folder.path()),
        files: document.files("files").unwrap(),
        folder,
        state,
        host,
        base,
    }
});

fn unpack(
    archive: &[u8],
    state: &State,
    host: &HostName,
    id: GenerationId,
    source: Source,
) -> Result<Pulled, ArchiveError> {
    Pulled::unpack(archive, state, host, id, source, &mut |done, total| {
        assert!(done <= total)
    })
}

impl ArchiveEnv {
    /// The files of the resulting generation, in the order of the client.
    fn listed(&self, document: &Document, is_delta: bool) -> Option<Vec<Listed>> {
        match is_delta {
            true => document.applied_to(&self.files),
            false => document.files("files"),
        }
    }

    fn archive(&self, flags: u8, rest: &[u8]) -> Vec<u8> {
        if flags & IS_GZIP != 0 {
            return rest.to_owned();
        }
        if flags & IS_TAR != 0 {
            return recipe::gzip(&recipe::sealed(rest.to_owned()));
        }
        let mut entries: Vec<Entry> = recipe::entries(rest);
        entries[0].content = document::with_id(&entries[0].content, |document| {
            self.listed(document, flags & IS_DELTA != 0)
        });
        recipe::gzip(&recipe::tar(&entries))
    }

    fn source(&self, is_delta: bool) -> Source {
        match is_delta {
            true => Source::Delta(Box::new(self.base.clone())),
            false => Source::Bundle,
        }
    }

    /// Stages the unpacked generation, which must be right byte for byte.
    fn judge(&self, pulled: Pulled, id: GenerationId, document: &Document, is_delta: bool) {
        let files = self.listed(document, is_delta).expect("it was understood");
        assert_listable(&files);
        assert_eq!(document.id_of(&files), Some(id.to_string()));

        let verified = verify::verify(&self.state, pulled).expect("the base is as it was");
        stage::stage(&self.state, verified, &[self.base.id()]).expect("there is room");
        let complain = &mut |error| panic!("{error:#}");
        assert!(
            verify::staged(&self.state, &id, complain)
                .unwrap()
                .is_some()
        );

        let mut found = BTreeMap::new();
        let config = self.state.generation(&id).join("config");
        for (area, folder) in [("config", config), ("secrets", self.state.secrets_of(&id))] {
            let root = fs::canonicalize(&folder).unwrap();
            for (path, content) in place::content(&folder) {
                // The kernel's resolution of symlinks must stay in the folder.
                if let Ok(real) = fs::canonicalize(folder.join(&path)) {
                    assert!(real.starts_with(&root), "{path:?} leads to {real:?}");
                }
                let path = format!("{area}/{}", path.to_str().unwrap());
                content.map(|content| found.insert(path, content));
            }
        }
        assert_eq!(
            found.len(),
            files.len(),
            "something is there that isn't listed"
        );
        for file in &files {
            let content = &found[&file.path];
            match &file.kind {
                Kind::File { size, sha256, .. } => {
                    assert_eq!(content.len() as u64, *size, "{}", file.path);
                    assert_eq!(&Digest::of(content).to_string(), sha256, "{}", file.path);
                }
                Kind::Symlink(target) => {
                    assert_eq!(content, &place::symlink(target), "{}", file.path);
                }
            }
        }
        if id != self.base.id() {
            fs::remove_dir_all(self.state.generation(&id)).unwrap();
            fs::remove_dir_all(self.state.secrets_of(&id)).unwrap();
        }
    }
}

/// A filesystem allows no name of more than 255 bytes: that isn't an error of the reader.
fn is_too_long(document: Option<&Document>) -> bool {
    let lists = ["files", "changed"].map(|list| document?.files(list));
    let mut files = lists.iter().flatten().flatten();
    files.any(|file| file.path.split('/').any(|part| part.len() > 255))
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    let is_delta = flags & IS_DELTA != 0;
    let mut archive = ENV.archive(*flags, rest);
    if flags & IS_CUT != 0 {
        archive.truncate(archive.len() - archive.len().min(1 + usize::from(flags >> 4)));
    }
    let plain = recipe::gunzip(&archive, 1 << 20);
    let document = first_document(&plain);
    let named = document
        .as_ref()
        .and_then(|document| document.generation()?.parse().ok());
    let id = named.unwrap_or(ENV.base.id());

    match unpack(&archive, &ENV.state, &ENV.host, id, ENV.source(is_delta)) {
        Ok(pulled) => {
            assert_eq!(flags & IS_CUT, 0, "what was cut is whole");
            let document = document.expect("what was understood is a document");
            ENV.judge(pulled, id, &document, is_delta);
        }
        Err(ArchiveError::Invalid(error)) => {
            let _ = format!("{error:#}");
        }
        Err(ArchiveError::Disk(error)) => {
            assert!(
                is_too_long(document.as_ref()),
                "the disk is blamed: {error:#}"
            );
        }
    }
    if id != ENV.base.id() {
        let content = place::content(ENV.folder.path());
        assert!(content == ENV.untouched, "something stayed, or was touched");
    }
});

/// The content of the first regular file of an archive.
fn first_document(tar: &[u8]) -> Option<Document> {
    let start = tar.iter().position(|byte| *byte == b'{')?;
    let mut values =
        serde_json::Deserializer::from_slice(&tar[start..]).into_iter::<serde_json::Value>();
    let value = values.next()?.ok()?;
    Document::read(value.to_string().as_bytes())
}
