use std::fs;

use bento_protocol::Outcome;

use crate::ground::{Ended, Ground, SETTINGS, flake, with};
use crate::processes::{Gate, Running};
use crate::server;

#[test]
fn another_host_key_ends_it_before_anything_is_told() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    server::make_key(&ground.path("other"));
    let other = server::public_key(&ground.path("other"));
    ground.write_settings(&ground.settings(&other, ""));
    let fingerprint = |key: &str| server::fingerprint(&ground.path(key));
    // Issue 10, line 38: both fingerprints, where the pinned key stands, and what prints the right one.
    ground
        .update()
        .with(4)
        .complaining(&format!(
            "shows the host key {}",
            fingerprint("server/host_key")
        ))
        .complaining(&format!("pinned is {}", fingerprint("other")))
        .complaining("`bento host-key`")
        .complaining("host_keys in /etc/bento/client.toml")
        .complaining("services.bento-client.servers");
    // Whoever sits there doesn't even learn the name.
    assert!(
        !ground.server.log().contains("kikimora"),
        "{}",
        ground.server.log()
    );

    // While a key is replaced, either will do.
    let both = ground.settings(&format!("{other}\", \"{}", ground.server.host_key), "");
    ground.write_settings(&both);
    ground.update().with(0);
}

#[test]
fn a_machine_that_is_not_enrolled_learns_how_to_be() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    ground.enrol("");
    let key = server::public_key(&ground.path("key"));
    ground
        .update()
        .with(4)
        .complaining(&format!("bento host add kikimora --key \"{key}\""));
}

#[test]
fn a_server_that_is_not_there_is_named_and_the_next_is_tried() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    let settings = ground.settings(&ground.server.host_key, "");
    let nobody = server::free_port();
    let away = settings.replace(
        &format!("port = {}", ground.server.port),
        &format!("port = {nobody}"),
    );
    ground.write_settings(&away);
    ground.update().with(4).complaining(&format!(
        "127.0.0.1:{nobody} can't be reached: Connection refused"
    ));
    let second = settings.split_once("[[servers]]").unwrap().1;
    ground.write_settings(&format!("{away}[[servers]]{second}"));
    ground.update().with(0);
    assert_eq!(ground.running().as_deref(), Some("1"));
}

#[test]
fn nothing_published_is_said_to_be_so() {
    let mut ground = Ground::new();
    ground
        .update()
        .with(4)
        .complaining("Perhaps nothing is published for it yet");
    let generation = ground.publish(flake("1"), &[]);
    fs::remove_file(ground.server.publication("kikimora").join("generation")).unwrap();
    ground
        .update()
        .with(4)
        .complaining("nothing is published yet");
    ground.server.publish_as(&generation, |_| {});
    ground
        .update()
        .with(6)
        .complaining("/bundle.tar.gz on 127.0.0.1");
    assert_eq!(ground.last_report().outcome, Outcome::PullFailed);
    ground.server.publish_as(&generation, |publication| {
        let link = publication.join("generation");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("nonsense", &link).unwrap();
    });
    ground
        .update()
        .with(6)
        .complaining("publishes \"nonsense\", which isn't a generation");
}

#[test]
fn wrong_settings_and_a_missing_key_are_usage_errors() {
    let ground = Ground::new();
    ground.write_settings("name = \"kikimora\"\ncolour = \"red\"\n");
    let file = ground.path(SETTINGS).display().to_string();
    ground
        .update()
        .with(2)
        .complaining(&file)
        .complaining("line 2, column 1");
    ground.write_settings(&ground.settings(&ground.server.host_key, ""));
    fs::remove_file(ground.path("key")).unwrap();
    ground.update().with(2).complaining("ssh-keygen -t ed25519");
    fs::remove_file(ground.path(SETTINGS)).unwrap();
    ground
        .update()
        .with(2)
        .complaining("bento-client bootstrap");
}

// Issue 10, line 41.
#[test]
fn whoever_lacks_the_rights_of_root_is_told_so() {
    let mut ground = Ground::new();
    let advice = ". Run it as root";
    // Where it was built, others may not look.
    let program = ground.path("bento-client");
    fs::copy(env!("CARGO_BIN_EXE_bento-client"), &program).unwrap();
    for command in ["update", "report", "rollback"] {
        let client = ground.client(command);
        let mut nobody = ground.environment("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(client.get_args());
        Ended::of(nobody.output().unwrap())
            .with(2)
            .complaining("Permission denied")
            .complaining(advice);
    }
    // Who is root is told nothing of it, whatever is denied.
    ground.publish(flake("1"), &[]);
    ground.enrol("");
    let refused = ground.update().with(4).stderr;
    assert!(!refused.contains(advice), "{refused}");
}

#[test]
fn a_build_that_fails_says_why_everywhere_and_can_be_mended() {
    let mut ground = Ground::new();
    let first = ground.publish(flake("1"), &[]);
    ground.update().with(0);
    let typo = with(flake("2"), "config/system.nix", "folder: derivatoin { }");
    let second = ground.publish(typo, &[&first]);
    let ended = ground
        .update()
        .with(1)
        .complaining("error: undefined variable 'derivatoin'");
    assert!(
        ended.stdout.contains("undefined variable"),
        "{}",
        ended.stdout
    );
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::BuildFailed);
    assert_eq!(report.generation, second.manifest.generation());
    assert!(
        report
            .error
            .unwrap()
            .contains("undefined variable 'derivatoin'")
    );
    assert!(
        report.log.contains("undefined variable 'derivatoin'"),
        "{}",
        report.log
    );
    assert_eq!(report.system.built, None);
    assert_eq!(report.system.before, report.system.running);
    assert_eq!(ground.running().as_deref(), Some("1"));

    let broken = with(
        flake("3"),
        "config/build.sh",
        "echo 'no such compiler' >&2\nexit 3\n",
    );
    ground.publish(broken, &[&second]);
    ground.update().with(1).complaining("no such compiler");
    let error = ground.last_report().error.unwrap();
    assert!(
        error.contains("exit code 3") && error.contains("no such compiler"),
        "{error}"
    );

    ground.publish(flake("4"), &[]);
    ground.update().with(0);
    assert_eq!(ground.last_report().outcome, Outcome::Switched);
    assert_eq!(ground.switches(), ["test 1", "boot 1", "test 4", "boot 4"]);
}

#[test]
fn a_build_that_hangs_does_not_keep_the_machine_from_what_is_published_next() {
    let mut ground = Ground::new();
    ground.configure("timeouts.build = \"5s\"\n");
    let gate = Gate::new(&ground);
    let script = format!("export PATH=/usr/bin:/bin\n{}\n", gate.wait());
    let hung = ground.publish(with(flake("1"), "config/build.sh", &script), &[]);
    ground
        .update()
        .with(1)
        .complaining("took longer than 5s, and was ended: timeouts.build limits it");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::BuildFailed);
    assert_eq!(report.generation, hung.manifest.generation());

    ground.publish(flake("2"), &[]);
    ground.update().with(0);
    assert_eq!(ground.running().as_deref(), Some("2"));
}

#[test]
fn what_is_no_system_is_not_activated() {
    let mut ground = Ground::new();
    ground.publish(
        with(flake("1"), "config/build.sh", "echo hello > \"$out\"\n"),
        &[],
    );
    ground
        .update()
        .with(1)
        .complaining("has no bin/switch-to-configuration");
    let nothing = flake("2")
        .into_iter()
        .filter(|content| !content.path.ends_with("flake.nix"))
        .collect();
    ground.publish(nothing, &[]);
    ground
        .update()
        .with(1)
        .complaining("neither a flake.nix nor a configuration.nix");
    assert_eq!(ground.switches(), [""; 0]);
}

#[test]
fn two_runs_at_once_are_one_too_many() {
    let mut ground = Ground::new();
    let gate = Gate::new(&ground);
    let build = format!(
        "export PATH=/usr/bin:/bin\n{}\n{}",
        gate.wait(),
        include_str!("fixtures/build.sh")
    );
    ground.publish(with(flake("1"), "config/build.sh", &build), &[]);
    let first = Running::start(ground.client("update"));
    gate.await_arrival();
    ground
        .update()
        .with(5)
        .complaining(&format!("(process {})", first.number()));
    gate.open();
    first.end().with(0);
    ground.update().with(0);
}

// Issue 10, line 30.
#[test]
fn dns_that_does_not_answer_takes_no_longer_than_a_connection_may() {
    let ground = Ground::new();
    let resolver = "nameserver 192.0.2.53\noptions timeout:30 attempts:5\n";
    fs::write(ground.path("resolv.conf"), resolver).unwrap();
    fs::write(ground.path("nsswitch.conf"), "hosts: files dns\n").unwrap();
    let settings = ground.settings(&ground.server.host_key, "timeouts.connect = \"2s\"");
    ground.write_settings(&settings.replace("127.0.0.1", "bento.example.org"));
    // A network that swallows what it is given.
    let script = "set -e; mount --bind \"$1/resolv.conf\" \"$(realpath /etc/resolv.conf)\"; \
                  mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf; ip link add silent type veth peer name end; \
                  ip address add 192.0.2.1/24 dev silent; ip link set end up; ip link set silent up; \
                  ip neighbour add 192.0.2.53 lladdr 02:00:00:00:00:53 dev silent; shift; exec \"$@\"";
    let client = ground.client("update");
    let mut alone = ground.environment("unshare");
    alone
        .args(["--mount", "--net", "/bin/sh", "-c", script, "alone"])
        .arg(ground.path(""))
        .arg(client.get_program())
        .args(client.get_args());
    Ended::of(alone.output().unwrap())
        .with(4)
        .complaining("DNS gave no address for bento.example.org within 2s");
}
