//! The inspection of a state: everything that a machine finds, with every byte and every permission.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bento_appliance::publication::published::Published;
use bento_appliance::store::accounts::Accounts;
use bento_appliance::store::atomic_file;
use bento_appliance::store::paths::{HostState, State};
use bento_protocol::{Delta, Digest, GenerationId, HostName, Manifest, chroot};
use bento_tests::files;

use crate::archive;

/// The chroot of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Has {
    /// No chroot: it can't log in.
    Nothing,
    /// One with an inbox only.
    Inbox,
    /// A complete generation.
    Generation(GenerationId),
}

/// The chroots of all machines of a state: those with an account, and those with a folder.
pub fn inspect(state: &State) -> Result<BTreeMap<String, Has>> {
    let accounts = Accounts::read(state)?;
    let mut names: BTreeSet<String> = accounts.names().map(ToString::to_string).collect();
    if state.hosts().exists() {
        names.extend(files::names(&state.hosts())?);
    }
    let inspect = |name: String| {
        let host: HostName = name.parse()?;
        let found = machine(
            &state.host(&host),
            &host,
            accounts.get(&host).map(|it| it.uid),
        );
        let found = found.with_context(|| format!("{name} is neither old nor new"))?;
        Ok((name, found))
    };
    names.into_iter().map(inspect).collect()
}

fn machine(host: &HostState, name: &HostName, uid: Option<u32>) -> Result<Has> {
    if fs::symlink_metadata(host.current()).is_err() {
        return Ok(Has::Nothing);
    }
    // One that isn't enrolled any more, and can't log in: its folder is being removed.
    let Some(uid) = uid else {
        return Ok(Has::Nothing);
    };
    let root = host.current();
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    ensure!(at("..").is_dir(), "current leads nowhere");
    let folder = |path: &Path| permissions(path, uid, 0o750);
    folder(&root.join("."))?;
    permissions(&at(chroot::LOGS), uid, 0o730)?;
    let names: BTreeSet<_> = files::names(&root)?.into_iter().collect();
    if names.len() == 1 {
        return Ok(Has::Inbox);
    }
    let all = [
        chroot::GENERATION,
        chroot::MANIFEST,
        chroot::BUNDLE,
        chroot::DELTA,
        chroot::LOGS,
        chroot::LAST_CHANGE_DATE,
        "/config",
    ];
    ensure!(
        names
            == all
                .iter()
                .map(|name| name.trim_start_matches('/').to_owned())
                .collect(),
        "{names:?}"
    );
    for path in [chroot::MANIFEST, chroot::BUNDLE, chroot::LAST_CHANGE_DATE] {
        permissions(&at(path), uid, 0o440)?;
    }
    let json = fs::read(at(chroot::MANIFEST))?;
    let manifest: Manifest = serde_json::from_slice(&json)?;
    let id = fs::read_link(at(chroot::GENERATION))?;
    ensure!(
        id.as_os_str() == manifest.generation().to_string().as_str(),
        "it is called {id:?}"
    );
    ensure!(manifest.host() == name, "it is {}'s", manifest.host());
    let published = Published::read(host)?.context("published.json is missing")?;
    ensure!(
        (published.generation, published.at) == (manifest.generation(), manifest.published()),
        "published.json names another"
    );
    in_plain_sight(&root, &manifest, uid)?;
    let bundle = archive::read(&at(chroot::BUNDLE), chroot::MANIFEST_ENTRY, |_| {
        Ok(manifest.files().to_vec())
    })?;
    ensure!(bundle == json, "the bundle has another manifest");
    folder(&at(chroot::DELTA))?;
    deltas(host, &manifest, uid)?;
    Ok(Has::Generation(manifest.generation()))
}

/// Checks the files that any client of SFTP sees.
fn in_plain_sight(root: &Path, manifest: &Manifest, uid: u32) -> Result<()> {
    let mut found = Vec::new();
    walk(&root.join("config"), &mut |path, is_folder| {
        if is_folder {
            return permissions(path, uid, 0o750);
        }
        found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
        Ok(())
    })?;
    found.sort();
    let files = manifest
        .files()
        .iter()
        .filter_map(|entry| entry.file())
        .filter(|file| file.path.as_str().starts_with("config/"));
    ensure!(
        found
            .iter()
            .map(String::as_str)
            .eq(files.clone().map(|file| file.path.as_str())),
        "{found:?}"
    );
    for file in files {
        let path = root.join(file.path.as_str());
        permissions(&path, uid, if file.executable { 0o550 } else { 0o440 })?;
        ensure!(
            Digest::of(fs::read(&path)?) == file.sha256,
            "{} isn't what the manifest says",
            file.path
        );
    }
    Ok(())
}

/// Checks that each delta leads from a known generation to the published one.
fn deltas(host: &HostState, manifest: &Manifest, uid: u32) -> Result<()> {
    let mut known = BTreeMap::new();
    for name in files::names(&host.manifests())? {
        // What is being written isn't there yet.
        if name.ends_with(".json") {
            let old: Manifest = atomic_file::read_json(&host.manifests().join(name))?
                .context("a manifest is gone")?;
            known.insert(old.generation().to_string(), old);
        }
    }
    let folder = host.current().join("delta");
    for name in files::names(&folder)? {
        let path = folder.join(&name);
        permissions(&path, uid, 0o440)?;
        let parse = |json: &[u8]| Ok(serde_json::from_slice::<Delta>(json)?.changed);
        let delta: Delta =
            serde_json::from_slice(&archive::read(&path, chroot::DELTA_ENTRY, parse)?)?;
        let old = known
            .get(name.trim_end_matches(".tar.gz"))
            .with_context(|| format!("from where does {name} lead?"))?;
        ensure!(delta.apply(old)? == *manifest, "{name} leads elsewhere");
    }
    Ok(())
}

fn permissions(path: &Path, gid: u32, mode: u32) -> Result<()> {
    let found = fs::symlink_metadata(path)?;
    let found = (found.uid(), found.gid(), found.mode() & 0o7777);
    ensure!(
        found == (0, gid, mode),
        "{path:?} has owner, group and mode {found:?}"
    );
    Ok(())
}

/// Visits a folder and everything in it, with whether it is a folder.
pub fn walk(path: &Path, visit: &mut dyn FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    visit(path, is_folder)?;
    if is_folder {
        for name in files::names(path)? {
            walk(&path.join(name), visit)?;
        }
    }
    Ok(())
}

/// The digest of all paths below a folder, and of the content of the files.
pub fn content(root: &Path) -> Result<String> {
    let mut all = Vec::new();
    walk(root, &mut |path, _| {
        all.extend(path.as_os_str().as_encoded_bytes());
        let content =
            fs::read_link(path).map(|target| target.into_os_string().into_encoded_bytes());
        all.extend(content.or_else(|_| fs::read(path)).unwrap_or_default());
        Ok(())
    })?;
    Ok(Digest::of(all).to_string())
}
