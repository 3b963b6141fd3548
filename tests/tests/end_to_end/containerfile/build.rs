//! Builds the image as somebody does who has podman and no Rust, with no registry in reach: the base image that the
//! Containerfile names is made of Debian's packages and this machine's toolchain, and the crates are handed in.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Podman, artifacts, process};
use sha2::{Digest, Sha256};

/// What the Containerfile begins with.
const BASE: &str = "docker.io/library/rust:1-trixie";
/// What the stand-in for it is called as long as nothing is built from it.
const STAND_IN: &str = "localhost/bento-tests-rust";
/// What is built; the tag names what it was built of.
const BUILT: &str = "localhost/bento-tests-containerfile";
/// A compiler, and the server that Debian's image for Rust hasn't: there is no network in the build.
const PACKAGES: &str = "gcc,libc6-dev,openssh-server";
/// Where Debian's image for Rust has its toolchain.
const TOOLCHAIN: &str = "usr/local/rustup/toolchains/this";
const ENVIRONMENT: [&str; 3] = [
    "ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV RUSTUP_HOME=/usr/local/rustup",
    "ENV CARGO_HOME=/usr/local/cargo",
];
/// What is tested is the recipe; that the compiler optimises well is not, and takes minutes.
const CARGO_SETTINGS: &str = "\
[source.crates-io]
replace-with = \"vendored\"
[source.vendored]
directory = \"/vendor\"
[profile.release]
lto = false
opt-level = 0
";
/// A release build with one core for it takes 2 minutes.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// All that the build reads. It compiles no tests, but wants to see their manifest.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "Containerfile",
    ".containerignore",
    "appliance",
    "client",
    "image",
    "manual",
    "tests/Cargo.toml",
];

/// The name of the image that the Containerfile gives. It is built unless just these sources were built here before,
/// with this toolchain, and that image is still in podman's store.
pub(super) fn image(podman: &Podman) -> Result<String> {
    // Other tests wait for it, instead of building it as well.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let toolchain = said("rustc", &["--version", "--verbose"])?;
    let image = format!("{BUILT}:{}", digest(&toolchain)?);
    if podman.run(["image", "exists", &image]).is_err() {
        let stand_in = stand_in(podman, &toolchain)?;
        forget(podman, BUILT)?;
        build(podman, &stand_in, &image)?;
    }
    Ok(image)
}

/// The stand-in for the base image; made in half a minute if there is none for this toolchain.
fn stand_in(podman: &Podman, toolchain: &str) -> Result<String> {
    let made_of = [toolchain, PACKAGES, TOOLCHAIN, &ENVIRONMENT.join("\n")].join("\n");
    let name = format!("{STAND_IN}:{}", short(Sha256::digest(made_of)));
    if podman.run(["image", "exists", &name]).is_ok() {
        return Ok(name);
    }
    forget(podman, STAND_IN)?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let archive = folder.path().join("base.tar");
    let sysroot = said("rustc", &["--print", "sysroot"])?;
    let install = format!(
        "mkdir -p \"$1/usr/local/cargo/bin\" \"$1/{TOOLCHAIN}\"
         cp -a '{sysroot}/bin' '{sysroot}/lib' \"$1/{TOOLCHAIN}/\"
         ln -s /{TOOLCHAIN}/bin/cargo /{TOOLCHAIN}/bin/rustc \"$1/usr/local/cargo/bin/\""
    );
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args([
            "--variant=minbase",
            "--skip=output/dev",
            "--include",
            PACKAGES,
        ])
        .arg(format!("--customize-hook={install}"))
        .arg("trixie")
        .arg(&archive);
    process::run(&mut mmdebstrap, process::LONG)?.success()?;
    let mut import = podman.command();
    import.arg("import");
    for variable in ENVIRONMENT {
        import.args(["--change", variable]);
    }
    import.args(["-", &name]).stdin(File::open(&archive)?);
    process::run_as_set_up(&mut import, process::LONG)?.success()?;
    Ok(name)
}

fn build(podman: &Podman, stand_in: &str, image: &str) -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let path = |name: &str| folder.path().join(name);
    let (context, vendor, settings) = (path("context"), path("vendor"), path("config.toml"));
    fs::create_dir(&context)?;
    let mut copy = Command::new("cp");
    copy.arg("-r").args([
        "Cargo.toml",
        "Cargo.lock",
        "Containerfile",
        ".containerignore",
    ]);
    copy.args(["appliance", "client", "image", "manual", "tests"])
        .arg(&context);
    copy.current_dir(artifacts::repository());
    process::run(&mut copy, process::SHORT)?.success()?;
    let mut fetch = Command::new("cargo");
    fetch.args(["vendor", "--locked"]).arg(&vendor);
    fetch.current_dir(artifacts::repository());
    process::run(&mut fetch, process::LONG)?.success()?;
    fs::write(&settings, CARGO_SETTINGS)?;
    podman.own(folder.path())?;

    let volume =
        |from: &Path, to: &str| OsString::from(format!("--volume={}:{to}:ro", from.display()));
    let mut command = podman.command();
    command
        .args([
            "build",
            "--isolation=chroot",
            "--layers=false",
            "--pull=never",
        ])
        .arg(volume(&vendor, "/vendor"))
        .arg(volume(&settings, "/usr/local/cargo/config.toml"))
        .args(["--tag", image])
        .arg(&context);
    as_base(podman, stand_in, || {
        process::run(&mut command, BUILD_LIMIT)?.success()
    })?;
    Ok(())
}

/// Does something while the stand-in has the name of the base image. A real one is kept.
fn as_base<T>(podman: &Podman, stand_in: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let real = podman
        .run(["image", "inspect", "--format={{.Id}}", BASE])
        .ok();
    podman.run(["tag", stand_in, BASE])?;
    let acted = act();
    match real {
        Some(real) => podman.run(["tag", &real, BASE])?,
        None => podman.run(["untag", stand_in, BASE])?,
    };
    acted
}

/// Removes what was built of other sources.
fn forget(podman: &Podman, repository: &str) -> Result<()> {
    let images = podman.run(["images", "--format={{.Repository}}:{{.Tag}}", repository])?;
    for image in images.lines() {
        podman.run(["rmi", image]).ok();
    }
    Ok(())
}

/// Names what the image is built of.
fn digest(toolchain: &str) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(toolchain);
    for path in SOURCES {
        add(&mut digest, Path::new(path))?;
    }
    Ok(short(digest.finalize()))
}

/// Adds a file of the repository, or a folder with all that is in it.
fn add(digest: &mut Sha256, path: &Path) -> Result<()> {
    let real = artifacts::repository().join(path);
    digest.update(path.as_os_str().as_encoded_bytes());
    if real.is_dir() {
        let mut names: Vec<_> = fs::read_dir(real)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        names.sort();
        return names
            .iter()
            .try_for_each(|name| add(digest, &path.join(name)));
    }
    let content = fs::read(&real).with_context(|| format!("cannot read {}", real.display()))?;
    digest.update(content.len().to_le_bytes());
    digest.update(content);
    Ok(())
}

fn short(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What a program says, without the last newline.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    let output = process::run(command.args(arguments), process::SHORT)?.success()?;
    Ok(output.stdout.trim_end().to_owned())
}
