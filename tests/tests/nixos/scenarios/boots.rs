//! What takes effect at a boot.

use anyhow::{Result, ensure};

use crate::env::Env;
use crate::vm::Vm;

/// A health check that fails.
const SICK: &str = r#"services.bento-client.health.checks.shop.command = [ "false" ];"#;

pub(super) fn operation(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "boots", "")?;
    vm.common = "services.bento-client.operation = \"boot\";".to_owned();
    vm.publish("")?;
    vm.update(0)?;
    vm.reports(&["staged"])?;
    env.await_state(vm.name, "reboot-pending")?;
    ensure!(vm.shell("cat /etc/version")? == "1", "it was switched to");
    vm.reboot()?;
    ensure!(
        vm.shell("cat /etc/version /var/lib/bento/secrets/token")? == "22",
        "it wasn't booted"
    );
    vm.update(0)?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()?;

    vm.publish(SICK)?;
    vm.update(0)?;
    vm.reports(&["staged"])?;
    vm.reboot()?;
    ensure!(vm.shell("cat /etc/version")? == "3", "it wasn't booted");
    goes_back_by_a_boot(&mut vm, "2", "shop")
}

pub(super) fn kernel(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "kernel", "reboot = \"immediate\"\n")?;
    let boot = vm.guest.boot_id()?;
    vm.common = "boot.kernelPackages = pkgs.linuxPackagesOf \"6.13\";".to_owned();
    vm.publish("")?;
    vm.guest.run(["bento-client", "update"])?;
    vm.guest.await_another_boot(&boot)?;
    let report = vm.reports(&["switched"])?.remove(0);
    ensure!(report["reboot_required"] == true, "{report}");
    // The boot is proven as well.
    vm.update(0)?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()?;

    // As a driver that the next kernel lacks: nothing needs it before the boot.
    let boot = vm.guest.boot_id()?;
    vm.common = "boot.kernelPackages = pkgs.linuxPackagesOf \"6.14\";".to_owned();
    vm.publish(
        r#"services.bento-client.health.checks.driver.command = [ "sh" "-c"
          "[ \"$(readlink -f /run/booted-system)\" != \"$(readlink -f /run/current-system)\" ]" ];"#,
    )?;
    vm.guest.run(["bento-client", "update"])?;
    vm.guest.await_another_boot(&boot)?;
    vm.reports(&["switched"])?;
    goes_back_by_a_boot(&mut vm, "2", "driver")
}

/// The proof fails, and the machine reboots by itself into the system before.
fn goes_back_by_a_boot(vm: &mut Vm<'_>, version: &str, why: &str) -> Result<()> {
    let boot = vm.guest.boot_id()?;
    vm.guest.run(["bento-client", "update"])?;
    vm.guest.await_another_boot(&boot)?;
    // It isn't tried again.
    vm.update(1)?;
    vm.reports(&["rolled_back"])?;
    let status = vm.env.await_state(vm.name, "rolled-back")?;
    ensure!(status["error"].to_string().contains(why), "{status}");
    vm.is_wholly(version)
}
