//! The parts of an ELF file that the dynamic loader uses.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;
use goblin::elf::header;
use oci_spec::image::Arch;

/// The machine of a file. Files for different machines can't be loaded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    number: u16,
    wide: bool,
    little_endian: bool,
}

impl Machine {
    /// The machine in the terms of an OCI image.
    ///
    /// # Errors
    /// When OCI has no name for it.
    pub fn architecture(self) -> Result<Arch> {
        Ok(match (self.number, self.wide, self.little_endian) {
            (header::EM_X86_64, true, true) => Arch::Amd64,
            (header::EM_386, false, true) => Arch::i386,
            (header::EM_AARCH64, true, true) => Arch::ARM64,
            (header::EM_ARM, false, true) => Arch::ARM,
            (header::EM_RISCV, true, true) => Arch::RISCV64,
            (header::EM_PPC64, true, true) => Arch::PowerPC64le,
            (header::EM_S390, true, false) => Arch::s390x,
            (header::EM_LOONGARCH, true, true) => Arch::LoongArch64,
            _ => bail!("there is no OCI architecture for {self}"),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} ({} bits, {} endian)",
            header::machine_to_str(self.number),
            if self.wide { 64 } else { 32 },
            if self.little_endian { "little" } else { "big" },
        )
    }
}

/// A program or library, with the fields that the loader uses.
#[derive(Debug)]
pub struct Object {
    /// Its machine.
    pub machine: Machine,
    /// `PT_INTERP`: the loader. A static program and a library have none.
    pub interpreter: Option<PathBuf>,
    /// `DT_SONAME`: the name by which other files need this library.
    pub soname: Option<String>,
    /// `DT_NEEDED`: the libraries to load with it, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`: folders for its own libraries and for theirs.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`: folders for its own libraries only. Makes the loader ignore `DT_RPATH`.
    pub runpath: Vec<String>,
}

impl Object {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read or isn't ELF.
    pub fn read(file: &Path) -> Result<Object> {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        Object::parse(&bytes).with_context(|| {
            format!(
                "{} isn't an ELF program or library of a known format",
                file.display()
            )
        })
    }

    fn parse(bytes: &[u8]) -> Result<Object> {
        let elf = Elf::parse(bytes)?;
        Ok(Object {
            machine: Machine {
                number: elf.header.e_machine,
                wide: elf.is_64,
                little_endian: elf.little_endian,
            },
            interpreter: elf.interpreter.map(PathBuf::from),
            soname: elf.soname.map(str::to_owned),
            needed: elf.libraries.iter().map(|name| (*name).into()).collect(),
            rpath: folders(&elf.rpaths),
            runpath: folders(&elf.runpaths),
        })
    }
}

/// Each entry is itself a list with colons between.
fn folders(entries: &[&str]) -> Vec<String> {
    entries
        .iter()
        .flat_map(|entry| entry.split(':'))
        .map(str::to_owned)
        .collect()
}

/// Absolute paths in a program's bytes that end in `/name`.
///
/// # Errors
/// When the file can't be read.
pub fn compiled_in_paths(file: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(paths_in(&bytes, name))
}

fn paths_in(bytes: &[u8], name: &str) -> Vec<PathBuf> {
    let ending = format!("/{name}");
    let mut paths: Vec<PathBuf> = bytes
        .split(|byte| *byte == 0)
        .filter(|text| text.starts_with(b"/") && text.ends_with(ending.as_bytes()))
        .filter_map(|text| std::str::from_utf8(text).ok())
        .map(PathBuf::from)
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_itself_names_its_loader_and_its_libraries() {
        let object = Object::read(&std::env::current_exe().unwrap()).unwrap();
        assert!(object.interpreter.unwrap().is_absolute());
        assert!(object.needed.iter().any(|name| name.starts_with("libc.")));
        let expected = match std::env::consts::ARCH {
            "x86_64" => Arch::Amd64,
            "aarch64" => Arch::ARM64,
            other => panic!("name the OCI architecture of {other} here"),
        };
        assert_eq!(object.machine.architecture().unwrap(), expected);
    }

    #[test]
    fn a_script_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let error = Object::read(&script).unwrap_err().to_string();
        assert!(error.contains("script isn't an ELF program"), "{error}");
    }

    #[test]
    fn only_whole_absolute_paths_count_as_compiled_in() {
        let bytes =
            b"\0/usr/lib/openssh/sshd-session\0sshd-session\0%s/sshd-session\0/x/sshd-sessions\0";
        assert_eq!(
            paths_in(bytes, "sshd-session"),
            [Path::new("/usr/lib/openssh/sshd-session")]
        );
    }
}
