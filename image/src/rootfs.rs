//! The image's root filesystem: programs, their libraries, and the skeleton.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::Arch;

use crate::closure::{self, Missing, Part};
use crate::elf::{Machine, Object};
use crate::host::Host;
use crate::programs::{self, BENTO};
use crate::skeleton;
use crate::tree::{Content, Entry, Tree};

/// The root filesystem of an image.
#[derive(Debug)]
pub struct Rootfs {
    /// Its files.
    pub tree: Tree,
    /// The architecture of its programs.
    pub architecture: Arch,
}

impl Rootfs {
    /// Collects the host's programs with their libraries, and `binary` as [`BENTO`].
    ///
    /// # Errors
    /// When programs or libraries are missing (all are listed), are for different machines, or have
    /// paths that the image can't have.
    pub fn gather(host: &Host, binary: &Path) -> Result<Rootfs> {
        let mut tree = Tree::default();
        skeleton::add_merged_folders(&mut tree, host)?;
        skeleton::add(&mut tree)?;
        let mut machine: Option<Machine> = None;
        let mut missing = Vec::new();
        let programs = programs::find(host, binary)?;
        for program in &programs {
            let closure = closure::of(host, &program.source, &program.part)?;
            let first = *machine.get_or_insert(closure.machine);
            ensure!(
                closure.machine == first,
                "{} is for {}, but {} is for {first}",
                program.part.on_host.display(),
                closure.machine,
                binary.display(),
            );
            tree.add(&program.part.in_image, copy_of(&program.source)?)?;
            for part in &closure.parts {
                add_part(&mut tree, host, part)?;
            }
            missing.extend(closure.missing);
        }
        if !missing.is_empty() {
            bail!(explain(&missing));
        }
        // Last, because a folder of the usual path may be a symlink that was added with a part.
        for program in &programs {
            if tree.find(&program.usual)?.is_none() {
                let link = Entry::Symlink(program.part.in_image.clone());
                tree.add(&program.usual, link)?;
            }
        }
        skeleton::check_nothing_is_hidden(&tree)?;
        let machine = machine.context("an image needs a program")?;
        Ok(Rootfs {
            tree,
            architecture: machine.architecture()?,
        })
    }

    /// Uses a prepared tree, and adds missing parts of the skeleton.
    ///
    /// # Errors
    /// When it has no [`BENTO`], another entry in the place of one of the skeleton, or an entry
    /// that the image can't have.
    pub fn prepared(mut tree: Tree) -> Result<Rootfs> {
        skeleton::add(&mut tree)?;
        skeleton::check_nothing_is_hidden(&tree)?;
        let architecture = match tree.find(Path::new(BENTO))? {
            Some((
                _,
                Entry::File {
                    content: Content::Copy(file),
                    executable: true,
                },
            )) => Object::read(file)?.machine.architecture()?,
            _ => bail!("the prepared tree has no program at {BENTO}, the image's entry point"),
        };
        Ok(Rootfs { tree, architecture })
    }

    /// The trees of the lower and the upper layer. The upper one has only bento's binary, so that a
    /// new version changes one file, while OpenSSH and all libraries, including bento's, stay in a
    /// layer that stores already have.
    ///
    /// # Errors
    /// When the tree has no [`BENTO`].
    pub fn split(&self) -> Result<(Tree, Tree)> {
        let (own, _) = self
            .tree
            .find(Path::new(BENTO))?
            .with_context(|| format!("the tree has no {BENTO}"))?;
        Ok(self.tree.split(&own))
    }
}

/// Adds a part: at its path on the host, with every symlink on the way, or at its new path.
fn add_part(tree: &mut Tree, host: &Host, part: &Part) -> Result<()> {
    let found = host.follow(&part.on_host)?;
    let file = copy_of(&host.source(&found.real))?;
    if part.on_host != part.in_image {
        return tree.add(&part.in_image, file);
    }
    for (link, target) in &found.links {
        tree.add(link, Entry::Symlink(target.clone()))?;
    }
    tree.add(&found.real, file)
}

fn copy_of(source: &Path) -> Result<Entry> {
    let metadata = fs::metadata(source).with_context(|| format!("reading {}", source.display()))?;
    Ok(Entry::File {
        content: Content::Copy(source.to_owned()),
        executable: metadata.mode() & 0o100 != 0,
    })
}

fn explain(missing: &[Missing]) -> String {
    let mut text = "libraries for the image are missing on this machine:".to_owned();
    for missing in missing {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "\n  {}, needed by {}",
            missing.library,
            missing.needed_by.display()
        );
        if !missing.searched.is_empty() {
            let folders: Vec<_> = missing
                .searched
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            let _ = write!(text, " (not in {})", folders.join(", "));
        }
    }
    text.push_str("\ninstall the packages that contain them, then try again");
    text
}
