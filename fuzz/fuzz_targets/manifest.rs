//! A manifest that is parsed as a whole and one that is streamed are the same, or both are refused; an accepted one is
//! sorted, stays in its folders, and has the right id.

#![no_main]

use bento_fuzz::document::{self, Document, assert_listable};
use bento_protocol::stream::{self, Head};
use bento_protocol::{GenerationHasher, GenerationId, Manifest, ManifestEntry};
use libfuzzer_sys::fuzz_target;

/// Streams a manifest as a client does: its head, its files, and their id.
fn read(json: &[u8]) -> Result<(Head, Vec<ManifestEntry>, GenerationId), String> {
    let mut files = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let each = &mut |file| {
        files.push(file);
        Ok(())
    };
    let head = stream::read_manifest(&mut reader, each).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    let mut hasher = GenerationHasher::new(&head.host, &head.policy);
    for file in &files {
        hasher.add(file).map_err(|error| error.to_string())?;
    }
    Ok((head, files, hasher.id()))
}

fuzz_target!(|input: &[u8]| {
    let json = document::with_id(input, |document| document.files("files"));
    let whole = serde_json::from_slice::<Manifest>(&json);
    let streamed = read(&json);
    let Ok(manifest) = whole else {
        if let Ok((head, _, id)) = streamed {
            assert_ne!(
                head.generation, id,
                "only the stream is accepted: {whole:?}"
            );
        }
        return;
    };
    let (head, files, id) = streamed.expect("both readers agree");
    assert_eq!(
        (
            &head.host,
            head.generation,
            head.published,
            &head.policy,
            files.as_slice()
        ),
        (
            manifest.host(),
            manifest.generation(),
            manifest.published(),
            manifest.policy(),
            manifest.files()
        )
    );
    assert_eq!(id, manifest.generation());

    let document = Document::read(&json).expect("it was read");
    let listed = document.files("files").expect("it was read");
    assert_listable(&listed);
    assert_eq!(document.id_of(&listed), Some(id.to_string()));

    let again = serde_json::to_vec(&manifest).expect("it is JSON");
    assert_eq!(
        serde_json::from_slice::<Manifest>(&again).expect("it was written"),
        manifest
    );
    let again = serde_json::to_vec(&head).expect("it is JSON");
    assert_eq!(
        serde_json::from_slice::<Head>(&again).expect("it was written"),
        head
    );
    for file in manifest.files() {
        assert_eq!(file.to_string().parse().as_ref(), Ok(file));
        assert_eq!(manifest.file(file.path()), Some(file));
    }
});
