//! From an installed NixOS to a machine of the fleet, and its plain days.

use anyhow::{Context, Result, ensure};
use bento_tests::Guest;

use crate::env::Env;
use crate::vm::Vm;

/// As its owner and the administrator would do it; the key is the machine's own.
pub(super) fn bootstrap(env: &Env) -> Result<()> {
    let name = "bootstrap";
    let guest = Guest::boot()?;
    let server = env.appliance.address().to_string();
    let command = [
        "bento-client",
        "bootstrap",
        "--name",
        name,
        "--server",
        &server,
        "--host-key",
        &env.host_key,
    ];
    let text = guest.run(command)?.success()?.stdout;
    let key = text
        .split("--key \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let key = key.with_context(|| format!("no key is printed: {text}"))?;
    let path = env.fleet.borrow().key(name);
    std::fs::write(&path, "")?;
    std::fs::write(path.with_added_extension("pub"), key)?;
    let mut vm = Vm::adopt(env, guest, name)?;
    let command = [&command[..], &["--wait"]].concat();
    vm.guest
        .run(command)?
        .success()
        .with_context(|| vm.journal().unwrap_or_default())?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()?;
    // From now on its own unit does it, with the settings of the module.
    let settings = vm.shell("readlink -f /etc/bento/client.toml")?;
    ensure!(settings.starts_with("/nix/store/"), "{settings}");
    vm.publish("")?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}

pub(super) fn classic(env: &Env) -> Result<()> {
    let mut vm = Vm::new(env, "classic", "")?;
    // As `nix-channel --add` and `--update` leave them.
    vm.shell(
        "cd /nix/var/nix/profiles/per-user/root/channels
         rm -f nixos bento; ln -s \"$(cat /nix/nixpkgs)\" nixos; ln -s \"$(cat /nix/bento)\" bento",
    )?;
    env.fleet.borrow().remove("hosts/classic/flake.nix")?;
    vm.common = "imports = [ <bento/nixos/client.nix> ];".to_owned();
    vm.switches_to("")?;
    vm.publish("")?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}

pub(super) fn nothing_new(env: &Env) -> Result<()> {
    let vm = Vm::updated(env, "idle", "")?;
    let system = vm.shell("readlink -f /run/current-system")?;
    vm.update(0)?;
    vm.update_by_unit()?;
    ensure!(
        vm.shell("readlink -f /run/current-system")? == system,
        "another system runs"
    );
    vm.is_up_to_date()
}

pub(super) fn broken(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "broken", "")?;
    // What the module system finds, what its assertions find, and what a build finds.
    for (broken, why) in [
        ("services.openssh.enabel = true;", "services.openssh.enabel"),
        (
            "services.bento-client.name = lib.mkForce \"Not_A_Name\";",
            "can't be a name in a fleet",
        ),
        (
            "services.bento-client.settings.tiemouts.connect = \"1m\";",
            "tiemouts",
        ),
        (
            "services.bento-client.jitter = \"soon\";",
            "isn't a time span",
        ),
    ] {
        vm.publish(broken)?;
        let text = vm.update(1)?;
        ensure!(text.contains(why), "{why:?} isn't in {text}");
        let error = vm.reports(&["build_failed"])?[0]["error"].to_string();
        ensure!(error.contains(why), "{why:?} isn't in the report: {error}");
        env.await_state(vm.name, "failing")?;
    }
    vm.is_wholly("1")?;
    vm.switches_to("").map(drop)
}
