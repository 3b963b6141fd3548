//! A server that isn't the machine's own, or gives what isn't what it says.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::guest::Features;
use bento_tests::{Appliance, Options, Proxy};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::env::{FaultEnv, NAME, QUICK};

/// A block of the tar format.
const BLOCK: usize = 512;

/// A kind of byte in an archive, and how it is changed.
type Change = (&'static str, fn(&[u8]) -> Result<Vec<u8>>);

/// Each kind of byte that means something in an archive.
const CHANGES: [Change; 10] = [
    ("gzip's magic number", |packed| changed(packed, 0)),
    ("gzip's method", |packed| changed(packed, 2)),
    ("the compressed data", |packed| {
        changed(packed, packed.len() / 2)
    }),
    ("gzip's checksum", |packed| {
        changed(packed, packed.len() - 8)
    }),
    ("gzip's length", |packed| changed(packed, packed.len() - 1)),
    ("the end, which is missing", |packed| {
        Ok(packed[..packed.len() * 2 / 3].to_vec())
    }),
    ("a name in a tar header", |packed| inside(packed, |_| 0)),
    ("a checksum in a tar header", |packed| {
        inside(packed, |_| 148)
    }),
    ("the manifest, or the delta's list", |packed| {
        inside(packed, |tar| BLOCK + size(tar) / 2)
    }),
    ("the content of a file", |packed| {
        inside(packed, |tar| next(tar) + BLOCK)
    }),
];

fn changed(bytes: &[u8], at: usize) -> Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    *bytes.get_mut(at).context("it is shorter")? ^= 1;
    Ok(bytes)
}

/// Changes a byte of the archive in the compression.
fn inside(packed: &[u8], at: impl FnOnce(&[u8]) -> usize) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut tar)?;
    let tar = changed(&tar, at(&tar))?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar)?;
    Ok(gzip.finish()?)
}

/// How long the file is whose header comes first.
fn size(tar: &[u8]) -> usize {
    let octal = str::from_utf8(&tar[124..135]).expect("a size is digits");
    usize::from_str_radix(octal, 8).expect("a size is octal")
}

/// Where the next header is.
fn next(tar: &[u8]) -> usize {
    BLOCK + size(tar).next_multiple_of(BLOCK)
}

/// The bundle that is published, and the delta from what the machine has.
fn archives(env: &FaultEnv) -> Result<[PathBuf; 2]> {
    let current = env.appliance.host_folder(NAME)?.join("current");
    let installed = env.vm.guest.read_file("/var/lib/bento/installed.json")?;
    let installed: serde_json::Value = serde_json::from_str(&installed)?;
    let installed = installed["generation"].as_str().context("it has an id")?;
    let delta = current.join(format!("delta/{installed}.tar.gz"));
    Ok([current.join("bundle.tar.gz"), delta])
}

fn alter(path: &Path, content: &[u8]) -> Result<()> {
    let aside = path.with_extension("aside");
    fs::write(&aside, content)?;
    Ok(fs::rename(&aside, path)?)
}

#[test]
fn no_byte_of_an_archive_can_be_changed() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.publish("")?;
    let archives = archives(&env)?;
    let originals = [fs::read(&archives[0])?, fs::read(&archives[1])?];
    let mut accepted = Vec::new();
    // Reported once, however often it is tried.
    let mut expected: &[&str] = &["pull_failed"];
    for (what, change) in CHANGES {
        for (path, original) in archives.iter().zip(&originals) {
            alter(path, &change(original)?)?;
        }
        let output = env.vm.update()?;
        let said = output.stdout + &output.stderr;
        if output.status.code() != Some(6) || !said.contains("the delta can't be used") {
            accepted.push(format!("{what}: {said}"));
            continue;
        }
        env.expect_reports(std::mem::take(&mut expected))?;
        env.is_wholly("1")?;
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));

    // The bundle helps where the delta doesn't. What fills the last block of a file is nobody's: it goes nowhere.
    let padding = |tar: &[u8]| next(tar) + BLOCK + size(&tar[next(tar)..]);
    alter(&archives[0], &inside(&originals[0], padding)?)?;
    let said = env.update(0)?;
    assert!(
        said.contains("the delta can't be used") && said.contains("as a bundle"),
        "{said}"
    );
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn a_generation_that_is_announced_and_not_given_is_refused() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.publish("")?;
    let link = env.appliance.host_folder(NAME)?.join("current/generation");
    let published = fs::read_link(&link)?;
    let announce = |id: &Path| -> Result<()> {
        let aside = link.with_extension("aside");
        std::os::unix::fs::symlink(id, &aside)?;
        Ok(fs::rename(&aside, &link)?)
    };
    announce(Path::new(&"0123456789abcdef".repeat(4)))?;
    env.update(6)?;
    env.expect_reports(&["pull_failed"])?;
    env.is_wholly("1")?;
    announce(Path::new("../../../etc"))?;
    env.update(6)?;
    env.is_wholly("1")?;
    announce(&published)?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}

#[test]
fn a_server_with_another_host_key_learns_and_gives_nothing() -> Result<()> {
    let mut env = FaultEnv::with(Features::default(), QUICK, "")?;
    env.publish("")?;
    let impostor = Appliance::start(env.fleet.path(), Options::default())?;
    let proxy = Proxy::start(impostor.address(), Duration::ZERO)?;
    // The key that it pins stays that of the first.
    env.vm.go_through(proxy.address())?;
    let said = env.update(4)?;
    assert!(said.contains("host key"), "{said}");
    env.is_wholly("1")?;
    assert!(!impostor.logs()?.contains("Accepted publickey"));
    env.vm.go_through(env.proxy.address())?;
    env.update(0)?;
    env.expect_reports(&["switched"])?;
    env.is_up_to_date()
}
