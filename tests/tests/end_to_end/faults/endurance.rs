//! Many updates in a row leave no garbage.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Write, stderr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use bento_protocol::{Digest, File, FilePath, Manifest, chroot};
use bento_tests::guest::Features;
use bento_tests::length::at_length;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::env::{FaultEnv, NAME};
use crate::generation::Generation;
use crate::machine::Machine;
use crate::vm::configuration;

/// How many updates there are, unless `BENTO_UPDATES` says so, and without the long form: 1000 take half an hour, and print a line for each fifty.
const UPDATES: u32 = 12;
/// After so many, all that grows only up to a limit has reached it.
const ENOUGH: u32 = 8;

/// What is there, in numbers: everything below the client's folder but the records' own content, the roots of Nix'
/// garbage collector and the links by which it finds them, the versions of the profile, and what lies in temporary
/// folders.
const COUNT: &str = r"
    find /var/lib/bento | wc -l
    nix-store --gc --print-roots | grep -vc '^/proc' || true
    ls /nix/var/nix/gcroots/auto | wc -l
    ls -d /nix/var/nix/profiles/system-*-link | wc -l
    find /tmp /var/tmp /root -newer /etc/machine-id | wc -l
    du -sk --apparent-size /var/lib/bento | cut -f 1
";

/// Puts another generation in the place of the one that is published: an edit would take seconds to be stable.
fn replace(current: &Path, published: &Generation, version: &str) -> Result<()> {
    let mut contents = published.contents.clone();
    let text = configuration(version, "");
    contents.insert("config/configuration.nix".to_owned(), text.into_bytes());
    contents.insert("secrets/token".to_owned(), version.into());
    let files = contents
        .iter()
        .map(|(path, content)| {
            Ok(File {
                path: path.parse::<FilePath>()?,
                executable: false,
                size: content.len() as u64,
                sha256: Digest::of(content),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let old = &published.manifest;
    let manifest = Manifest::new(
        old.host().clone(),
        old.policy().clone(),
        files,
        old.published(),
    )?;
    let aside = current.join("aside");
    fs::write(&aside, pack(&manifest, &contents)?)?;
    fs::rename(&aside, current.join("bundle.tar.gz"))?;
    symlink(manifest.generation().to_string(), &aside)?;
    fs::rename(&aside, current.join("generation"))?;
    Ok(())
}

fn pack(manifest: &Manifest, contents: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        archive.append_data(&mut header, path, content)
    };
    add(chroot::MANIFEST_ENTRY, &serde_json::to_vec(manifest)?)?;
    for file in manifest.files() {
        let path = file.path().as_str();
        add(path, &contents[path])?;
    }
    Ok(archive.into_inner()?.finish()?)
}

#[test]
fn many_updates_leave_no_garbage() -> Result<()> {
    let updates = match env::var("BENTO_UPDATES") {
        Ok(number) => number.parse()?,
        Err(_) => at_length(UPDATES, 100),
    };
    let env = FaultEnv::with(Features::default(), "", "")?;
    let published = Machine::of(&env.fleet, NAME, &env.appliance).pull()?;
    let current = env.appliance.host_folder(NAME)?.join("current");
    let count = || -> Result<Vec<u64>> {
        let counted = env.vm.guest.shell(COUNT)?.success()?.stdout;
        let numbers = counted.lines().map(|line| line.trim().parse::<u64>());
        numbers.collect::<Result<_, _>>().context(counted.clone())
    };
    let mut enough = Vec::new();
    let begun = Instant::now();
    for update in 1..=updates {
        let version = format!("update {update}");
        replace(&current, &published, &version)?;
        env.update(0).with_context(|| format!("update {update}"))?;
        if update == ENOUGH {
            enough = count()?;
        }
        if update % 50 == 0 {
            let seconds = begun.elapsed().as_secs();
            let line = format!("{update} updates in {seconds} s: {:?}", count()?);
            // Not printed with a macro, which the test harness would keep for itself.
            writeln!(stderr(), "{line}")?;
        }
    }
    let version = format!("update {updates}");
    env.is_wholly(&version)?;
    let end = count()?;
    let line = format!("{updates} updates: {end:?}, after {ENOUGH} of them {enough:?}");
    writeln!(stderr(), "{line}")?;
    // The last number is of kilobytes, of records that are bounded by their own limits.
    let is_bounded = end
        .iter()
        .zip(&enough)
        .take(5)
        .all(|(end, then)| end <= then);
    assert!(is_bounded && end[5] <= 2 * enough[5], "{line}");
    Ok(())
}
