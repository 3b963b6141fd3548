//! What the client's module writes into client.toml, and what the client makes of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::Result;
use bento_tests::{artifacts, key, process};
use serde_json::{Value, json};

use super::nix::Nix;
use super::{KEY, client, one_server};
use crate::vm::exits;

#[test]
fn the_client_takes_the_settings_that_its_module_writes() -> Result<()> {
    let nix = Nix::new()?;
    let folder = tempfile::tempdir()?;
    let identity = folder.path().join("key");
    key::make(&identity, "root@kikimora")?;

    let package = folder.path().join("package");
    fs::create_dir_all(package.join("bin"))?;
    let program = artifacts::binary("bento-client")?;
    symlink(&program, package.join("bin/bento-client"))?;

    let build = |settings: &str| {
        let settings = format!(
            "{} identityFile = \"{}\"; package = \"{}\"; {settings}",
            one_server(),
            identity.display(),
            package.display()
        );
        nix.build(&format!(
            "{}.config.environment.etc.\"bento/client.toml\".source",
            client(&settings)
        ))
    };
    let full = format!(
        "nixArgs = [ \"--max-jobs\" \"1\" ]; nixPath = \"nixpkgs=/srv/it's here\"; \
         proxyCommand = \"exec nc %h \\\"%p\\\"\"; settings.timeouts.transfer = \"30s\"; {CAREFUL}"
    );
    for settings in ["", &full] {
        let mut check = Command::new(&program);
        check.arg("check").arg("--config").arg(build(settings)?);
        check.arg("--state").arg(folder.path().join("state"));
        let output = process::run(&mut check, process::SHORT)?;
        // It gets as far as to the server, which isn't there.
        exits(&output, 4);
        assert!(
            output.stdout.contains(", for kikimora"),
            "{}",
            output.stdout
        );
    }
    // Issue 10, line 31: what the client doesn't take isn't built.
    for (settings, says) in [
        ("settings.tiemouts.transfer = \"30s\";", "tiemouts"),
        ("rollback.after = \"soon\";", "soon"),
        (
            "secrets.\"../key\".restartUnits = [ \"a.service\" ];",
            "../key",
        ),
    ] {
        let error = format!("{:#}", build(settings).unwrap_err());
        for says in [says, "services.bento-client"] {
            assert!(error.contains(says), "{says:?} isn't in {error}");
        }
    }
    Ok(())
}

/// Every option of what an update may do, with another value than the client's own.
const CAREFUL: &str = r#"
    operation = "boot";
    guard = false;
    rollback.after = "10m";
    confirm.grace = "2m";
    health.timeout = "30s";
    health.checks.web = { command = [ "curl" "http://localhost" ]; timeout = "10s"; };
    health.checks.printer = { command = [ "lpstat" ]; required = false; };
    secrets."wg/wg0.key".restartUnits = [ "wireguard-wg0.service" ];
    secrets."unwatched".restartUnits = [ ];
    disk = { storeFree = "5GiB"; collectGarbage = false; keepSystems = 3; };
    selfUpdate.every = "1w";
    reboot.kexec = false;
"#;

#[test]
fn the_module_writes_only_what_the_client_does_not_know_itself() -> Result<()> {
    let nix = Nix::new()?;
    let written = |settings: &str| -> Result<Value> {
        let client = client(&format!("{} {settings}", one_server()));
        nix.evaluate(&format!("{client}.config.services.bento-client.settings"))
    };
    let bare = json!({
        "name": "kikimora",
        "identity_file": "/var/lib/bento/id_ed25519",
        "servers": [{ "address": "127.0.0.1", "port": 1, "host_keys": [KEY] }],
        "self_update": { "every": "1d" },
    });
    assert_eq!(written("")?, bare);
    let owners_own = written("selfUpdate.every = null; settings.timeouts.connect = \"1m\";")?;
    assert_eq!(owners_own["timeouts"], json!({ "connect": "1m" }));
    assert_eq!(owners_own.get("self_update"), None);

    let mut careful = written(CAREFUL)?;
    let wanted = json!({
        "operation": "boot",
        "guard": false,
        "rollback": { "after": "10m" },
        "confirm": { "grace": "2m" },
        "health": {
            "timeout": "30s",
            "checks": [
                { "name": "printer", "command": ["lpstat"], "required": false },
                { "name": "web", "command": ["curl", "http://localhost"], "timeout": "10s" },
            ],
        },
        "restart_units": { "wg/wg0.key": ["wireguard-wg0.service"] },
        "disk": { "store_free": "5GiB", "collect_garbage": false, "keep_systems": 3 },
        "self_update": { "every": "1w" },
        "reboot": { "kexec": false },
    });
    for (name, value) in wanted.as_object().into_iter().flatten() {
        assert_eq!(&careful[name].take(), value, "{name}");
    }
    Ok(())
}
