//! What the client may need at most, measured on the client that is installed: a machine may be small.

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options};

use crate::machine::Machine;
use crate::states;
use crate::vm::{Vm, configuration, flake};

const NAME: &str = "kikimora";
/// The most memory that the client may ever have had, in KiB.
const MOST_MEMORY: u64 = 16 << 10;
const FILES: usize = 3_000;

/// Runs an update, and prints the most memory that the client ever had, as the kernel counts it.
const MEASURED: &str = r#"
    bento-client update & client=$!
    while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$client/status 2>&1) && [ -n "$now" ]; do
        most=$now
    done
    wait $client && echo "most memory: $most KiB"
"#;

fn measured_update(vm: &Vm) -> Result<u64> {
    let output = vm.guest.shell(MEASURED)?.success()?.stdout;
    let most = output
        .lines()
        .find_map(|line| line.strip_prefix("most memory: ")?.strip_suffix(" KiB"));
    let most = most.with_context(|| format!("nothing was measured: {output}"))?;
    Ok(most.parse()?)
}

#[test]
fn no_pull_needs_more_than_sixteen_mebibytes_of_memory() -> Result<()> {
    let mut fleet = Fleet::new()?;
    // What doesn't compress: a large pull is large on the wire, too.
    let mut state = 1_u64;
    let mut noise = |length: usize| -> String {
        let mut digit = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + (state >> 33) as u8 % 90)
        };
        (0..length).map(|_| digit()).collect()
    };
    fleet.host(NAME, |host| {
        host.file("flake.nix", flake(NAME))?;
        host.file("configuration.nix", configuration("1", ""))?;
        host.file("large", noise(24 << 20))?;
        for number in 0..FILES {
            let path = format!("data/{}/{number:0>100}", number % 100);
            host.file(&path, noise(300))?;
        }
        Ok(())
    })?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    let bundle = measured_update(&vm)?;

    let before = machine.pull()?.id();
    fleet.write(
        &format!("hosts/{NAME}/configuration.nix"),
        configuration("2", ""),
    )?;
    machine.await_other_than(before)?;
    let delta = measured_update(&vm)?;
    states::await_word(&appliance, NAME, "up-to-date")?;
    assert_eq!(vm.version()?, "2");

    let nothing_new = measured_update(&vm)?;
    println!("KiB: bundle {bundle}, delta {delta}, nothing new {nothing_new}");
    for most in [bundle, delta, nothing_new] {
        assert!(most <= MOST_MEMORY, "{most} KiB");
    }
    assert!(
        nothing_new <= delta && delta <= bundle,
        "{nothing_new} {delta} {bundle}"
    );
    Ok(())
}
