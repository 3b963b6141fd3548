//! Machines that aren't laid out like Debian: programs and libraries are compiled for them,
//! gathered from them, and then run with the gathered tree as their root.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bento_image::closure::{self, Part};
use bento_image::elf::Object;
use bento_image::folder;
use bento_image::host::Host;
use bento_image::rootfs::Rootfs;
use bento_tests::files;
use bento_tests::process::Output;
use common::run_inside;
use tempfile::TempDir;

const GREETING: &str = "hello from the library\n";

/// A machine in a folder, with this machine's own loader and C library at the paths it wants.
struct Machine {
    root: TempDir,
    /// Where its loader lies.
    loader: PathBuf,
}

impl Machine {
    /// `libraries` is the folder of the loader and of the C library.
    fn new(libraries: &str) -> Machine {
        let this = Object::read(&std::env::current_exe().unwrap()).unwrap();
        let loader = fs::canonicalize(this.interpreter.unwrap()).unwrap();
        let libc = loader.with_file_name("libc.so.6");
        let machine = Machine {
            root: TempDir::new().unwrap(),
            loader: Path::new(libraries).join(loader.file_name().unwrap()),
        };
        fs::create_dir_all(machine.at(libraries)).unwrap();
        fs::copy(&loader, machine.at(machine.loader.to_str().unwrap())).unwrap();
        fs::copy(libc, machine.at(libraries).join("libc.so.6")).unwrap();
        machine
    }

    /// Where this process finds a path of that machine.
    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn host(&self, program_folders: &[&str]) -> Host {
        let folders = program_folders.iter().map(PathBuf::from).collect();
        Host::new(self.root.path().to_owned(), folders)
    }

    /// Compiles a library with one function, `name`, that calls `calls`, or else gives the
    /// greeting.
    fn library(&self, path: &str, calls: Option<&str>, options: &[&str]) {
        let name = function(path);
        let source = match calls {
            Some(other) => format!(
                "const char *{other}(void); const char *{name}(void) {{ return {other}(); }}"
            ),
            None => format!("const char *{name}(void) {{ return {GREETING:?}; }}"),
        };
        self.compile(path, &source, &[&["-shared", "-fPIC"], options].concat());
    }

    /// Compiles a program that prints what a library's function gives.
    fn program(&self, path: &str, library: &str, options: &[&str]) {
        let name = function(library);
        let source = format!(
            "#include <stdio.h>\nconst char *{name}(void); int main(void) {{ return fputs({name}(), stdout) < 0; }}"
        );
        let loader = format!("-Wl,--dynamic-linker={}", self.loader.display());
        self.compile(path, &source, &[options, &[&loader]].concat());
    }

    fn compile(&self, path: &str, source: &str, options: &[&str]) {
        let output = self.at(path);
        let text = output.with_extension("c");
        files::write(&text, source).unwrap();
        Output::of(
            Command::new("cc")
                .arg("-o")
                .arg(&output)
                .arg(&text)
                .args(options),
        )
        .with(0);
        fs::remove_file(text).unwrap();
    }

    /// The option that links against a library of the machine.
    fn linked(&self, library: &str) -> String {
        self.at(library).to_str().unwrap().to_owned()
    }
}

/// `libgreet.so` has the function `greet`.
fn function(library: &str) -> &str {
    let name = library.rsplit('/').next().unwrap();
    name.trim_start_matches("lib").trim_end_matches(".so")
}

fn soname(library: &str) -> String {
    format!("-Wl,-soname,{}", library.rsplit('/').next().unwrap())
}

fn laid_out(rootfs: &Rootfs) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("tree");
    folder::write(&rootfs.tree, &tree).unwrap();
    (folder, tree)
}

fn paths(rootfs: &Rootfs) -> Vec<&str> {
    rootfs
        .tree
        .entries()
        .map(|(path, _)| path.to_str().unwrap())
        .collect()
}

#[test]
fn a_nix_store_stays_where_it_is_and_the_usual_paths_lead_into_it() {
    let machine = Machine::new("/nix/store/c-library/lib");
    let greet = "/nix/store/greet/lib/libgreet.so";
    let runpath = "-Wl,--enable-new-dtags,-rpath,/nix/store/greet/lib:/nix/store/c-library/lib";
    machine.library(greet, None, &[&soname(greet), runpath]);
    let greet = machine.linked(greet);
    for program in ["bin/sshd", "bin/ssh-keygen", "bin/bento"] {
        let path = format!("/nix/store/openssh/{program}");
        machine.program(&path, &greet, &[&greet, runpath]);
    }
    let bin = machine.at("/profile");
    std::os::unix::fs::symlink("/nix/store/openssh/bin", bin).unwrap();

    let binary = machine.at("/nix/store/openssh/bin/bento");
    let rootfs = Rootfs::gather(&machine.host(&["/profile"]), &binary).unwrap();
    let (_folder, tree) = laid_out(&rootfs);
    for program in ["/usr/bin/bento", "/usr/sbin/sshd", "/usr/bin/ssh-keygen"] {
        assert_eq!(run_inside(&tree, [program]), GREETING, "{program}");
    }
    assert!(paths(&rootfs).contains(&"/nix/store/openssh/bin/sshd"));
    assert!(!paths(&rootfs).contains(&"/profile"));
}

#[test]
fn a_library_that_only_the_loaders_configuration_finds_is_put_beside_the_loader() {
    let machine = Machine::new("/lib");
    let greet = "/opt/greet/libgreet.so";
    machine.library(greet, None, &[&soname(greet)]);
    let greet = machine.linked(greet);
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/bento"] {
        machine.program(program, &greet, &[&greet]);
    }
    fs::create_dir_all(machine.at("/etc/ld.so.conf.d")).unwrap();
    fs::write(
        machine.at("/etc/ld.so.conf"),
        "include ld.so.conf.d/*.conf\n",
    )
    .unwrap();
    fs::write(machine.at("/etc/ld.so.conf.d/greet.conf"), "/opt/greet\n").unwrap();

    let rootfs = Rootfs::gather(&machine.host(&[]), &machine.at("/bento")).unwrap();
    assert!(paths(&rootfs).contains(&"/lib/libgreet.so"));
    assert!(!paths(&rootfs).iter().any(|path| path.starts_with("/opt")));
}

#[test]
fn a_library_that_is_found_from_where_bento_lies_moves_along_with_it() {
    let machine = Machine::new("/nix/store/c-library/lib");
    let greet = "/built/lib/libgreet.so";
    let runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib:/nix/store/c-library/lib";
    machine.library(greet, None, &[&soname(greet), runpath]);
    let greet = machine.linked(greet);
    machine.program("/built/bin/bento", &greet, &[&greet, runpath]);
    let source = machine.at("/built/bin/bento");
    let part = Part {
        on_host: "/built/bin/bento".into(),
        in_image: "/usr/bin/bento".into(),
    };
    let closure = closure::of(&machine.host(&[]), &source, &part).unwrap();
    assert_eq!(closure.missing, []);
    assert!(closure.parts.contains(&Part {
        on_host: "/built/bin/../lib/libgreet.so".into(),
        in_image: "/usr/bin/../lib/libgreet.so".into(),
    }));
}

#[test]
fn an_old_rpath_serves_the_libraries_libraries_and_a_runpath_does_not() {
    let machine = Machine::new("/lib");
    let (greet, outer) = ("/a/libgreet.so", "/a/libouter.so");
    machine.library(greet, None, &[&soname(greet)]);
    let linked = machine.linked(greet);
    machine.library(outer, Some("greet"), &[&soname(outer), &linked]);
    let linked = machine.linked(outer);
    let find_greet = |program: &str, kind: &str| {
        let path = format!("-Wl,{kind},-rpath,/a");
        let also = format!("-Wl,-rpath-link,{}", machine.at("/a").display());
        machine.program(program, outer, &[&linked, &path, &also]);
        let part = Part {
            on_host: program.into(),
            in_image: program.into(),
        };
        closure::of(&machine.host(&[]), &machine.at(program), &part).unwrap()
    };

    let old = find_greet("/old", "--disable-new-dtags");
    assert_eq!(old.missing, []);
    assert!(
        old.parts
            .iter()
            .any(|part| part.on_host == Path::new(greet))
    );

    let new = find_greet("/new", "--enable-new-dtags");
    let [missing] = new.missing.as_slice() else {
        panic!("{:?}", new.missing)
    };
    assert_eq!(missing.library, "libgreet.so");
    assert_eq!(missing.needed_by, Path::new(outer));
    assert!(missing.searched.contains(&"/usr/lib".into()));
}

#[test]
fn a_library_for_another_machine_is_passed_over() {
    let machine = Machine::new("/lib");
    let (foreign, own) = ("/foreign/libgreet.so", "/own/libgreet.so");
    machine.library(own, None, &[&soname(own)]);
    machine.library(foreign, None, &[&soname(foreign)]);
    make_foreign(&machine.at(foreign));
    let linked = machine.linked(own);
    let runpath = "-Wl,-rpath,/foreign:/own";
    machine.program("/program", &linked, &[&linked, runpath]);
    let part = Part {
        on_host: "/program".into(),
        in_image: "/program".into(),
    };
    let closure = closure::of(&machine.host(&[]), &machine.at("/program"), &part).unwrap();
    assert_eq!(closure.missing, []);
    let found = |path: &str| {
        closure
            .parts
            .iter()
            .any(|part| part.on_host == Path::new(path))
    };
    assert!(found(own) && !found(foreign), "{:?}", closure.parts);
}

#[test]
fn programs_for_two_machines_make_no_image() {
    let machine = Machine::new("/lib");
    let greet = "/lib/libgreet.so";
    machine.library(greet, None, &[&soname(greet)]);
    let greet = machine.linked(greet);
    for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen"] {
        machine.program(program, &greet, &[&greet]);
    }
    machine.compile("/bento", "void _start(void) {}", &["-static", "-nostdlib"]);
    make_foreign(&machine.at("/bento"));
    let error = Rootfs::gather(&machine.host(&[]), &machine.at("/bento"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/usr/sbin/sshd is for "), "{error}");
}

/// Changes `e_machine`, the number at byte 18 of an ELF file, to that of a 64-bit MIPS.
fn make_foreign(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let little_endian = bytes[5] == 1;
    let mips = if little_endian { [8, 0] } else { [0, 8] };
    bytes[18..20].copy_from_slice(&mips);
    fs::write(file, bytes).unwrap();
}

#[test]
fn missing_libraries_are_all_named_with_the_files_that_need_them() {
    let machine = Machine::new("/lib");
    for library in ["/gone/libone.so", "/gone/libtwo.so"] {
        machine.library(library, None, &[&soname(library)]);
    }
    let (one, two) = (
        machine.linked("/gone/libone.so"),
        machine.linked("/gone/libtwo.so"),
    );
    machine.program("/usr/sbin/sshd", &one, &[&one]);
    machine.program("/usr/bin/ssh-keygen", &two, &[&two]);
    machine.program("/bento", &two, &[&two]);
    fs::remove_dir_all(machine.at("/gone")).unwrap();
    let error = Rootfs::gather(&machine.host(&[]), &machine.at("/bento"))
        .unwrap_err()
        .to_string();
    for expected in [
        "libone.so, needed by /usr/sbin/sshd (not in ",
        "libtwo.so, needed by /usr/bin/ssh-keygen (not in ",
        "/bento (not in ",
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
