use std::env;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bento_protocol::Policy;

use super::*;

/// The folder in which a test has Nix to itself. What a program inherits can't be changed in one of many threads, so
/// the test runs itself again in a process of its own: there it has the folder, here it has nothing left to do.
fn own_nix(test: &str) -> Option<PathBuf> {
    const FOLDER: &str = "BENTO_TEST_FOLDER";
    if let Some(folder) = env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for made in ["nix/conf", "home", "config/modules"] {
        fs::create_dir_all(path(made)).unwrap();
    }
    let conf = "build-users-group =\nsandbox = false\nsubstituters =\nflake-registry =\n";
    fs::write(path("nix/conf/nix.conf"), conf).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("inputs::tests::{test}")])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap())
        .env("HOME", path("home"))
        .env("NIX_STORE_DIR", path("nix/store"))
        .env("NIX_STATE_DIR", path("nix/var"))
        .env("NIX_LOG_DIR", path("nix/log"))
        .env("NIX_CONF_DIR", path("nix/conf"))
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    None
}

fn settings(nix_args: &str) -> Settings {
    let text = format!(
        "name = \"kikimora\"\nnix_args = [{nix_args}]\n[[servers]]\naddress = \"a\"\nhost_keys = [\"ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"]\n"
    );
    Settings::parse(&text).unwrap()
}

fn move_config(folder: &Path) -> anyhow::Result<Moved> {
    let state = State::new(folder).unwrap();
    let policy = Policy::default();
    let config = folder.join("config");
    let source = BuildSource {
        config: &config,
        policy: &policy,
        netrc: None,
    };
    let mut tail = Tail::default();
    move_on(&source, &state, &settings(""), &mut tail, &mut |line| {
        println!("{line}")
    })
}

#[test]
fn the_lock_file_of_a_flake_moves_in_a_working_copy() {
    let Some(folder) = own_nix("the_lock_file_of_a_flake_moves_in_a_working_copy") else {
        return;
    };
    let config = folder.join("config");
    let input = folder.join("input");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("version"), "1").unwrap();
    let flake = format!(
        "{{ inputs.input = {{ url = \"path:{}\"; flake = false; }}; outputs = {{ self, input }}: {{ }}; }}",
        input.display()
    );
    fs::write(config.join("flake.nix"), flake).unwrap();
    fs::write(config.join("modules/run.sh"), "").unwrap();
    normal::normalize(&config.join("modules/run.sh"), 0o755).unwrap();
    assert_eq!(mark_of(&config).unwrap(), Digest::of(""));

    let first = move_config(&folder).unwrap();
    assert_eq!(first.config, folder.join("working"));
    let lock_file = first.config.join("flake.lock");
    let content = fs::read(&lock_file).unwrap();
    assert_eq!(first.mark, Digest::of(content));
    assert_eq!(first.mark, mark_of(&first.config).unwrap());
    for (path, mode) in [
        ("", 0o755),
        ("modules", 0o755),
        ("modules/run.sh", 0o755),
        ("flake.lock", 0o644),
    ] {
        let metadata = fs::metadata(first.config.join(path)).unwrap();
        let seen = (metadata.permissions().mode() & 0o7777, metadata.mtime());
        assert_eq!(seen, (mode, 1), "{path:?}");
    }
    assert!(!config.join("flake.lock").exists());

    fs::copy(&lock_file, config.join("flake.lock")).unwrap();
    assert_eq!(move_config(&folder).unwrap(), first, "nothing has moved");
    fs::write(input.join("version"), "2").unwrap();
    let second = move_config(&folder).unwrap();
    assert_ne!(second.mark, first.mark);
    assert_eq!(
        mark_of(&config).unwrap(),
        first.mark,
        "the published lock file must stay"
    );

    fs::remove_dir_all(&input).unwrap();
    let error = move_config(&folder).unwrap_err();
    assert!(error.to_string().contains("input"), "{error:#}");
}

#[test]
fn channels_move_and_a_machine_without_any_keeps_what_it_has() {
    let Some(folder) = own_nix("channels_move_and_a_machine_without_any_keeps_what_it_has") else {
        return;
    };
    let config = folder.join("config");
    fs::write(config.join("configuration.nix"), "").unwrap();
    let profile = folder.join("nix/var/profiles/per-user/root/channels");
    let none = move_config(&folder).unwrap();
    assert_eq!(
        none,
        Moved {
            config: config.clone(),
            mark: Digest::of("")
        }
    );
    assert!(fs::symlink_metadata(&profile).is_err());

    let publish = |version: &str| {
        fs::create_dir_all(folder.join("channel")).unwrap();
        fs::write(folder.join("channel/default.nix"), version).unwrap();
        let archive = folder.join("channel.tar.gz");
        let status = Command::new("tar")
            .arg("-czf")
            .arg(&archive)
            .arg("-C")
            .args([&folder, Path::new("channel")])
            .status();
        assert!(status.unwrap().success());
        let subscription = format!("file://{} nixos\n", archive.display());
        fs::write(folder.join("home/.nix-channels"), subscription).unwrap();
    };
    publish("{ }: 1");
    let first = move_config(&folder).unwrap();
    assert_eq!(first.config, config);
    assert_ne!(first.mark, none.mark);
    assert_eq!(first.mark, mark_of(&config).unwrap());
    let installed = fs::read_to_string(profile.join("nixos/default.nix"));
    assert_eq!(installed.unwrap(), "{ }: 1");
    assert_eq!(move_config(&folder).unwrap(), first, "nothing has moved");
    publish("{ }: 2");
    let second = move_config(&folder).unwrap();
    assert_ne!(second.mark, first.mark);

    fs::remove_file(folder.join("home/.nix-channels")).unwrap();
    assert_eq!(move_config(&folder).unwrap(), second);
    assert!(profile.join("nixos").exists());
}

#[test]
fn the_channels_are_where_nix_keeps_its_state() {
    assert_eq!(
        channels_profile(None),
        Path::new("/nix/var/nix/profiles/per-user/root/channels")
    );
    assert_eq!(
        channels_profile(Some("/elsewhere".into())),
        Path::new("/elsewhere/profiles/per-user/root/channels")
    );
}

#[test]
fn a_clock_that_was_set_back_does_not_hold_it_up() {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let day = Duration::from_secs(86_400);
    assert!(is_due(Duration::ZERO, Some(at(0)), at(0)));
    assert!(is_due(day, None, at(0)));
    assert!(!is_due(day, Some(at(0)), at(0)));
    assert!(!is_due(day, Some(at(0)), at(86_399)));
    assert!(is_due(day, Some(at(0)), at(86_400)));
    assert!(is_due(day, Some(at(1_000_000)), at(999_999)));
}
