//! The client on the wire: the real `bento-client` on a whole machine, against the real appliance.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use bento_tests::process::Output;
use bento_tests::proxy::Count;
use bento_tests::{Appliance, Fleet, Options, Proxy, process, wait};

use crate::machine::Machine;
use crate::states;
use crate::vm::{Vm, configuration, exits, flake};

const NAME: &str = "kikimora";

/// Much longer than this machine takes to answer, so that what is sent at once also arrives at once.
const ONE_WAY: Duration = Duration::from_millis(50);

/// What the issue allows for a poll that finds nothing new.
const POLL: u64 = 13;

/// Adds a machine with a system that real Nix builds in a moment.
fn add(fleet: &mut Fleet, name: &str) -> Result<()> {
    fleet.host(name, |host| {
        host.file("flake.nix", flake(name))?;
        host.file("configuration.nix", configuration("1", ""))?;
        Ok(())
    })
}

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    add(&mut fleet, NAME)?;
    Ok(fleet)
}

/// For how many answers a client has waited.
fn round_trips(count: Count) -> u64 {
    count.connections + count.turns
}

#[test]
fn a_poll_with_nothing_new_takes_few_round_trips_and_changes_nothing() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    exits(&vm.update()?, 0);
    states::await_runs(&appliance, NAME, 1)?;
    let proxy = Proxy::start(appliance.address(), ONE_WAY)?;
    vm.go_through(proxy.address())?;
    // By its address it is another server, which gets one report.
    exits(&vm.update()?, 0);
    states::await_runs(&appliance, NAME, 2)?;
    assert_eq!(proxy.take_count().connections, 1);
    let files = || -> Result<String> {
        let find = "find /var/lib/bento /nix/store /etc /boot /run/current-system \
                     ! -name lock -printf '%p %T@ %l\\n' | sort";
        Ok(vm.guest.shell(find)?.success()?.stdout)
    };
    let before = files()?;
    let poll = vm.update()?;
    exits(&poll, 0);
    assert_eq!(poll.stderr, "");
    let count = proxy.take_count();
    assert_eq!(count.connections, 1);
    assert!(round_trips(count) <= POLL, "{count:?}");
    assert_eq!(files()?, before);
    assert_eq!(states::of(&appliance, NAME)?["runs"], 2);
    Ok(())
}

#[test]
fn many_files_take_no_more_round_trips_than_few() -> Result<()> {
    const FEW: usize = 5;
    const MANY: usize = 500;
    const ATTEMPTS: usize = 3;
    /// Without a generation from which a delta could lead, all of it is pulled.
    const FORGET: &str = "rm -rf /var/lib/bento/generations /var/lib/bento/installed.json";
    let mut fleet = Fleet::new()?;
    for name in ["few", "many"] {
        add(&mut fleet, name)?;
    }
    write_files(&fleet, FEW, MANY, "first")?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let proxy = Proxy::start(appliance.address(), ONE_WAY)?;
    let few = Vm::boot(&fleet, "few", &appliance)?;
    let many = Vm::boot(&fleet, "many", &appliance)?;
    for vm in [&few, &many] {
        vm.go_through(proxy.address())?;
    }
    for how in ["as a bundle", "as a delta"] {
        // On a busy machine a question may cross with an answer and count as one more; so the fewest count.
        let mut fewest = [u64::MAX; 2];
        for attempt in 0..ATTEMPTS {
            for (vm, fewest) in [&few, &many].into_iter().zip(&mut fewest) {
                if how == "as a bundle" {
                    vm.guest.shell(FORGET)?.success()?;
                }
                let update = vm.update()?;
                exits(&update, 0);
                assert!(update.stdout.contains(how), "{}", update.stdout);
                *fewest = round_trips(proxy.take_count()).min(*fewest);
            }
            let machines = ["few", "many"].map(|name| Machine::of(&fleet, name, &appliance));
            let before = [machines[0].pull()?.id(), machines[1].pull()?.id()];
            write_files(&fleet, FEW, MANY, &format!("{how} {attempt}"))?;
            for (machine, before) in machines.iter().zip(before) {
                machine.await_other_than(before)?;
            }
        }
        assert!(fewest[1] <= fewest[0], "{how}: {fewest:?}");
    }
    Ok(())
}

/// Writes a few files for one machine and many for the other.
fn write_files(fleet: &Fleet, few: usize, many: usize, text: &str) -> Result<()> {
    for (name, count) in [("few", few), ("many", many)] {
        let folder = fleet.path().join("hosts").join(name).join("files");
        fs::create_dir_all(&folder)?;
        for number in 0..count {
            fs::write(folder.join(number.to_string()), format!("{text} {number}"))?;
        }
    }
    fleet.give_away()
}

#[test]
fn a_server_with_another_key_than_the_pinned_one_gets_nothing() -> Result<()> {
    let fleet = fleet()?;
    let options = Options {
        podman: vec!["--env=BENTO_LOG=debug".to_owned()],
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    let another = fs::read_to_string(fleet.key(NAME).with_added_extension("pub"))?;
    let kind_and_key: Vec<_> = another.split(' ').take(2).collect();
    vm.point_at(appliance.address(), &kind_and_key.join(" "))?;

    let update = vm.update()?;
    exits(&update, 4);
    let own = appliance.host_key()?;
    assert!(update.stderr.contains("host key"), "{}", update.stderr);
    // Neither a name nor a key went to it: sshd logs both as soon as it hears them.
    states::await_log(&appliance, "[preauth]")?;
    let log = appliance.logs()?;
    for text in ["publickey", "Postponed", "Failed", "Invalid user"] {
        assert!(!log.contains(text), "{text} is in {log}");
    }

    vm.point_at(appliance.address(), &own)?;
    exits(&vm.update()?, 0);
    states::await_log(&appliance, &format!("Accepted publickey for {NAME} "))?;
    Ok(())
}

/// A configuration whose activation waits until the test lets it go on.
fn waiting_configuration(version: &str) -> String {
    let wait = "touch /run/switching; while [ ! -e /run/go-on ]; do sleep 0.1; done";
    let script = format!("system.activationScripts.waiting = \"{wait}\";");
    configuration(version, &script)
}

/// Runs an update that waits in the middle of its switch, and does something meanwhile. Gives how the update ended.
fn meanwhile(vm: &Vm, act: impl FnOnce() -> Result<()>) -> Result<Output> {
    thread::scope(|scope| {
        let update = scope.spawn(|| vm.update());
        let begun = wait::until("the switch to begin", process::SHORT, || {
            let switching = vm.guest.run(["test", "-e", "/run/switching"]);
            (switching.is_ok_and(|output| output.code() == 0) || update.is_finished()).then_some(())
        });
        let acted = begun.and_then(|()| act());
        // Also after a failure, or the update would wait for ever.
        vm.guest.run(["touch", "/run/go-on"])?;
        let output = update.join().unwrap();
        acted?;
        output
    })
}

#[test]
fn while_one_update_runs_another_is_refused() -> Result<()> {
    let fleet = fleet()?;
    fleet.write(
        &format!("hosts/{NAME}/configuration.nix"),
        waiting_configuration("1"),
    )?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    let first = meanwhile(&vm, || {
        let second = vm.update()?;
        exits(&second, 5);
        assert!(
            second.stderr.contains("holds the lock"),
            "{}",
            second.stderr
        );
        Ok(())
    })?;
    exits(&first, 0);
    states::await_word(&appliance, NAME, "up-to-date")?;
    Ok(())
}

#[test]
fn an_undelivered_report_waits_and_arrives_before_newer_ones() -> Result<()> {
    let fleet = fleet()?;
    let path = format!("hosts/{NAME}/configuration.nix");
    fleet.write(&path, waiting_configuration("1"))?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, NAME, &appliance);
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    let first = machine.pull()?.id();
    let update = meanwhile(&vm, || appliance.kill_hard())?;
    exits(&update, 0);
    assert!(
        update.stderr.contains("waits for the next run"),
        "{}",
        update.stderr
    );
    assert_eq!(vm.version()?, "1");

    let unreachable = vm.update()?;
    exits(&unreachable, 4);
    let address = appliance.address().to_string();
    assert!(
        unreachable.stderr.contains(&address),
        "{}",
        unreachable.stderr
    );

    appliance.restart()?;
    fleet.write(&path, configuration("2", ""))?;
    let second = machine.await_other_than(first)?.id();
    exits(&vm.update()?, 0);
    let status = states::await_runs(&appliance, NAME, 2)?;
    assert_eq!(status["state"], "up-to-date");
    let log = appliance.logs()?;
    let reported: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" reported "))
        .collect();
    assert_eq!(reported.len(), 2, "{log}");
    for (line, id) in reported.iter().zip([first, second]) {
        assert!(
            line.contains(&id.short()),
            "{line} isn't about {}",
            id.short()
        );
    }
    Ok(())
}
