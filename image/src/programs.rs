//! The programs of the image, and their places on this machine.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::closure::Part;
use crate::elf;
use crate::host::Host;

/// The path of bento's own binary in the image.
pub const BENTO: &str = "/usr/bin/bento";

/// The programs of OpenSSH that the appliance runs: the path in the image, and Debian's package.
const OPENSSH: [(&str, &str); 2] = [
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh-keygen", "openssh-client"),
];

/// The programs that sshd itself runs: `sshd-session` since OpenSSH 9.8, `sshd-auth` since 10.0.
/// Each distribution has its own folder for them, whose path is compiled into sshd.
const PARTS_OF_SSHD: [&str; 2] = ["sshd-session", "sshd-auth"];

/// A program of the image.
#[derive(Debug)]
pub struct Program {
    /// The path at which this process reads it.
    pub source: PathBuf,
    /// Its path on the host, without symlinks, and in the image.
    pub part: Part,
    /// A further path for it in the image, independent of the host's layout.
    pub usual: PathBuf,
}

/// Finds all programs. `binary` becomes [`BENTO`].
///
/// # Errors
/// When one is missing; the message lists all missing ones with the commands to install them.
pub fn find(host: &Host, binary: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let mut missing = Vec::new();
    if binary.is_file() {
        programs.push(own(binary)?);
    } else {
        missing.push(MissingProgram {
            program: binary.display().to_string(),
            package: None,
        });
    }
    for (usual, package) in OPENSSH {
        match host.program(Path::new(usual))? {
            Some(real) => programs.push(of_host(host, &real, Path::new(usual))),
            None => missing.push(MissingProgram {
                program: usual.to_owned(),
                package: Some(package),
            }),
        }
    }
    for path in parts_of_sshd(&programs)? {
        match host.program(&path)? {
            Some(real) => programs.push(of_host(host, &real, &path)),
            None => missing.push(MissingProgram {
                program: path.display().to_string(),
                package: Some("openssh-server"),
            }),
        }
    }
    if !missing.is_empty() {
        bail!(explain(&missing));
    }
    Ok(programs)
}

fn own(binary: &Path) -> Result<Program> {
    let source = binary
        .canonicalize()
        .with_context(|| format!("finding {}", binary.display()))?;
    Ok(Program {
        part: Part {
            on_host: source.clone(),
            in_image: BENTO.into(),
        },
        source,
        usual: BENTO.into(),
    })
}

fn of_host(host: &Host, real: &Path, usual: &Path) -> Program {
    Program {
        source: host.source(real),
        // It keeps its path: files beside it may be found by $ORIGIN.
        part: Part {
            on_host: real.to_owned(),
            in_image: real.to_owned(),
        },
        usual: usual.to_owned(),
    }
}

fn parts_of_sshd(programs: &[Program]) -> Result<BTreeSet<PathBuf>> {
    let sshd = Path::new(OPENSSH[0].0);
    let mut paths = BTreeSet::new();
    if let Some(program) = programs.iter().find(|program| program.usual == sshd) {
        for name in PARTS_OF_SSHD {
            paths.extend(elf::compiled_in_paths(&program.source, name)?);
        }
    }
    Ok(paths)
}

/// A missing program.
struct MissingProgram {
    program: String,
    /// Debian's package; none for bento's own binary, which is built.
    package: Option<&'static str>,
}

fn explain(missing: &[MissingProgram]) -> String {
    let mut text = "programs for the image are missing on this machine:".to_owned();
    for lacking in missing {
        let how = match lacking.package {
            Some(package) => format!("apt-get install {package}"),
            None => "cargo build --release -p bento-appliance".to_owned(),
        };
        // Writing to a string can't fail.
        let _ = write!(text, "\n  {}: {how}", lacking.program);
    }
    if missing.iter().any(|lacking| lacking.package.is_some()) {
        text.push_str("\n(the packages are Debian's; elsewhere, OpenSSH's server and client)");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn all_missing_programs_are_listed_with_commands_to_install_them() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path().to_owned(), Vec::new());
        let error = find(&host, Path::new("no/such/bento"))
            .unwrap_err()
            .to_string();
        for expected in [
            "no/such/bento: cargo build --release -p bento-appliance",
            "/usr/sbin/sshd: apt-get install openssh-server",
            "/usr/bin/ssh-keygen: apt-get install openssh-client",
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_split_sshd_brings_the_programs_whose_paths_are_compiled_in() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path().to_owned(), Vec::new());
        put(root.path(), "bento", b"");
        put(root.path(), "usr/bin/ssh-keygen", b"");
        put(
            root.path(),
            "usr/sbin/sshd",
            b"\0/usr/libexec/openssh/sshd-session\0/usr/libexec/openssh/sshd-auth\0",
        );
        put(root.path(), "usr/libexec/openssh/sshd-session", b"");

        let binary = root.path().join("bento");
        let error = find(&host, &binary).unwrap_err().to_string();
        let expected = "/usr/libexec/openssh/sshd-auth: apt-get install openssh-server";
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("sshd-session"), "{error}");

        put(root.path(), "usr/libexec/openssh/sshd-auth", b"");
        let programs = find(&host, &binary).unwrap();
        let paths: Vec<_> = programs
            .iter()
            .map(|program| program.part.in_image.to_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "/usr/bin/bento",
                "/usr/sbin/sshd",
                "/usr/bin/ssh-keygen",
                "/usr/libexec/openssh/sshd-auth",
                "/usr/libexec/openssh/sshd-session"
            ]
        );
    }
}
