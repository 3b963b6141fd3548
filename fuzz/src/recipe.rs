//! Recipes for archives: short, so that every byte of an input matters, with headers and digests that are right.
//!
//! A recipe is a list of entries, each ended by the byte 0xff. An entry is a line, and its content. The line is the
//! type of the entry, one byte as in a tar header, and its name, with an optional tab and size for the header. The
//! content of a symlink is its target, in its header. In the first entry `"size":@1` and `"sha256":"#1"` stand for
//! those of the second one, and so on up to 9.

use std::io::{Read, Write};

use bento_protocol::Digest;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;
const END_OF_ENTRY: u8 = 0xff;
const SYMLINK: u8 = b'2';

/// An entry of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    kind: u8,
    name: Vec<u8>,
    /// The size in the header, if it isn't that of the content.
    size: Option<Vec<u8>>,
    pub content: Vec<u8>,
}

impl Entry {
    /// A regular file.
    pub fn file(name: &str, content: &[u8]) -> Self {
        Entry {
            kind: b'0',
            name: name.into(),
            size: None,
            content: content.to_owned(),
        }
    }

    fn parse(text: &[u8]) -> Self {
        let (line, content) = split(text, b'\n');
        let (name, size) = split(line, b'\t');
        let (kind, name) = name.split_first().unwrap_or((&b'0', b""));
        Entry {
            kind: *kind,
            name: name.to_owned(),
            size: line.contains(&b'\t').then(|| size.to_owned()),
            content: content.to_owned(),
        }
    }

    /// The bytes after the header.
    fn body(&self) -> &[u8] {
        match self.kind {
            SYMLINK => b"",
            _ => &self.content,
        }
    }

    fn header(&self) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, room: usize, text: &[u8]| {
            let length = text.len().min(room);
            header[at..at + length].copy_from_slice(&text[..length]);
        };
        let size = format!("{:011o}", self.body().len());
        put(0, 100, &self.name);
        put(100, 8, b"0000644\0");
        put(108, 8, b"0000000\0");
        put(116, 8, b"0000000\0");
        put(124, 12, self.size.as_deref().unwrap_or(size.as_bytes()));
        put(136, 12, b"00000000001\0");
        put(156, 1, &[self.kind]);
        // The target of a link.
        let target = match self.kind {
            SYMLINK => &self.content[..],
            _ => b"../../../beside/canary",
        };
        put(157, 100, target);
        put(257, 8, b"ustar  \0");
        seal(&mut header);
        header
    }
}

/// The entries of a recipe. The content of the first is a document of the others.
pub fn entries(recipe: &[u8]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = recipe
        .split(|byte| *byte == END_OF_ENTRY)
        .map(Entry::parse)
        .collect();
    // The rest after the last end.
    if entries.len() > 1 {
        entries.pop();
    }
    let contents: Vec<Vec<u8>> = entries.iter().map(|entry| entry.content.clone()).collect();
    let document = &mut entries[0].content;
    for (number, content) in contents.iter().enumerate().take(10).skip(1) {
        let size = format!("\"size\":{}", content.len());
        let digest = format!("\"sha256\":\"{}\"", Digest::of(content));
        *document = replace(
            document,
            format!("\"size\":@{number}").as_bytes(),
            size.as_bytes(),
        );
        *document = replace(
            document,
            format!("\"sha256\":\"#{number}\"").as_bytes(),
            digest.as_bytes(),
        );
    }
    entries
}

/// The archive of these entries.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        tar.extend(entry.header());
        tar.extend(entry.body());
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

/// Sets the right checksums in all headers.
pub fn sealed(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            seal(header);
        }
        let digits = header[124..135]
            .iter()
            .take_while(|byte| (b'0'..b'8').contains(byte));
        let size = digits.fold(0, |size, digit| size * 8 + usize::from(digit - b'0'));
        at = size.next_multiple_of(BLOCK).saturating_add(at + BLOCK);
    }
    tar
}

fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Gzip without compression.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("writing into memory doesn't fail")
}

/// Decompresses as much as possible, within a limit in bytes.
pub fn gunzip(bytes: &[u8], limit: u64) -> Vec<u8> {
    let mut content = Vec::new();
    // The bytes before an error are enough.
    let _ = GzDecoder::new(bytes).take(limit).read_to_end(&mut content);
    content
}

fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(index) => (&text[..index], &text[index + 1..]),
        None => (text, b""),
    }
}

fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match text.windows(old.len()).position(|window| window == old) {
        Some(at) => [&text[..at], new, &text[at + old.len()..]].concat(),
        None => text.to_owned(),
    }
}
