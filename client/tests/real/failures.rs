use std::fs;

use bento_protocol::Outcome;

use bento_tests::key;
use bento_tests::process::Output;

use crate::env::{ClientEnv, SETTINGS, flake, with};
use crate::processes::{Gate, Running};
use crate::server;

#[test]
fn another_host_key_ends_it_before_anything_is_sent() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    server::make_key(&env.path("other"));
    let other = key::public(&env.path("other")).unwrap();
    env.write_settings(&env.settings(&other, ""));
    let fingerprint = |key: &str| server::fingerprint(&env.path(key));
    // Issue 10, line 38: both fingerprints, where the pinned key stands, and what prints the right one.
    env.update()
        .with(4)
        .complaining(&format!(
            "shows the host key {}",
            fingerprint("server/host_key")
        ))
        .complaining(&format!("pinned is {}", fingerprint("other")))
        .complaining("`bento host-key`")
        .complaining("host_keys in /etc/bento/client.toml")
        .complaining("services.bento-client.servers");
    // A server of another key doesn't even learn the name.
    assert!(
        !env.server.log().contains("kikimora"),
        "{}",
        env.server.log()
    );

    // While a key is replaced, either will do.
    let both = env.settings(&format!("{other}\", \"{}", env.server.host_key), "");
    env.write_settings(&both);
    env.update().with(0);
}

#[test]
fn a_machine_that_is_not_enrolled_learns_how_to_be() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    env.enrol("");
    let key = key::public(&env.path("key")).unwrap();
    env.update()
        .with(4)
        .complaining(&format!("bento host add kikimora --key \"{key}\""));
}

#[test]
fn a_server_that_is_not_there_is_named_and_the_next_is_tried() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let settings = env.settings(&env.server.host_key, "");
    let nobody = server::free_port();
    let away = settings.replace(
        &format!("port = {}", env.server.port),
        &format!("port = {nobody}"),
    );
    env.write_settings(&away);
    env.update().with(4).complaining(&format!(
        "127.0.0.1:{nobody} can't be reached: Connection refused"
    ));
    let second = settings.split_once("[[servers]]").unwrap().1;
    env.write_settings(&format!("{away}[[servers]]{second}"));
    env.update().with(0);
    assert_eq!(env.running().as_deref(), Some("1"));
}

#[test]
fn nothing_published_is_said_to_be_so() {
    let mut env = ClientEnv::new();
    env.update()
        .with(4)
        .complaining("Perhaps nothing is published for it yet");
    let generation = env.publish(flake("1"), &[]);
    fs::remove_file(env.server.publication("kikimora").join("generation")).unwrap();
    env.update().with(4).complaining("nothing is published yet");
    env.server.publish_as(&generation, |_| {});
    env.update()
        .with(6)
        .complaining("/bundle.tar.gz on 127.0.0.1");
    assert_eq!(env.last_report().outcome, Outcome::PullFailed);
    env.server.publish_as(&generation, |publication| {
        let link = publication.join("generation");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("nonsense", &link).unwrap();
    });
    env.update()
        .with(6)
        .complaining("publishes \"nonsense\", which isn't a generation");
}

#[test]
fn wrong_settings_and_a_missing_key_are_usage_errors() {
    let env = ClientEnv::new();
    env.write_settings("name = \"kikimora\"\ncolour = \"red\"\n");
    let file = env.path(SETTINGS).display().to_string();
    env.update()
        .with(2)
        .complaining(&file)
        .complaining("line 2, column 1");
    env.write_settings(&env.settings(&env.server.host_key, ""));
    fs::remove_file(env.path("key")).unwrap();
    env.update().with(2).complaining("ssh-keygen -t ed25519");
    fs::remove_file(env.path(SETTINGS)).unwrap();
    env.update().with(2).complaining("bento-client bootstrap");
}

// Issue 10, line 41.
#[test]
fn without_the_rights_of_root_it_says_so() {
    let mut env = ClientEnv::new();
    let advice = ". Run it as root";
    // Others may not enter the folder in which it was built.
    let program = env.path("bento-client");
    fs::copy(env!("CARGO_BIN_EXE_bento-client"), &program).unwrap();
    for command in ["update", "report", "rollback"] {
        let client = env.client(command);
        let mut nobody = env.environment("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(client.get_args());
        Output::of(&mut nobody)
            .with(2)
            .complaining("Permission denied")
            .complaining(advice);
    }
    // Root gets no such advice, whatever is denied.
    env.publish(flake("1"), &[]);
    env.enrol("");
    let refused = env.update().with(4).stderr;
    assert!(!refused.contains(advice), "{refused}");
}

#[test]
fn a_build_that_fails_says_why_everywhere_and_can_be_mended() {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    let typo = with(flake("2"), "config/system.nix", "folder: derivatoin { }");
    let second = env.publish(typo, &[&first]);
    let ended = env
        .update()
        .with(1)
        .complaining("error: undefined variable 'derivatoin'");
    assert!(
        ended.stdout.contains("undefined variable"),
        "{}",
        ended.stdout
    );
    let report = env.last_report();
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
    assert_eq!(env.running().as_deref(), Some("1"));

    let broken = with(
        flake("3"),
        "config/build.sh",
        "echo 'no such compiler' >&2\nexit 3\n",
    );
    env.publish(broken, &[&second]);
    env.update().with(1).complaining("no such compiler");
    let error = env.last_report().error.unwrap();
    assert!(
        error.contains("exit code 3") && error.contains("no such compiler"),
        "{error}"
    );

    env.publish(flake("4"), &[]);
    env.update().with(0);
    assert_eq!(env.last_report().outcome, Outcome::Switched);
    assert_eq!(env.switches(), ["test 1", "boot 1", "test 4", "boot 4"]);
}

#[test]
fn a_build_that_hangs_does_not_keep_the_machine_from_what_is_published_next() {
    let mut env = ClientEnv::new();
    env.configure("timeouts.build = \"5s\"\n");
    let gate = Gate::new(&env);
    let script = format!("export PATH=/usr/bin:/bin\n{}\n", gate.wait());
    let hung = env.publish(with(flake("1"), "config/build.sh", &script), &[]);
    env.update()
        .with(1)
        .complaining("took longer than 5s, and was ended: timeouts.build limits it");
    let report = env.last_report();
    assert_eq!(report.outcome, Outcome::BuildFailed);
    assert_eq!(report.generation, hung.manifest.generation());

    env.publish(flake("2"), &[]);
    env.update().with(0);
    assert_eq!(env.running().as_deref(), Some("2"));
}

#[test]
fn what_is_no_system_is_not_activated() {
    let mut env = ClientEnv::new();
    env.publish(
        with(flake("1"), "config/build.sh", "echo hello > \"$out\"\n"),
        &[],
    );
    env.update()
        .with(1)
        .complaining("has no bin/switch-to-configuration");
    let nothing = flake("2")
        .into_iter()
        .filter(|content| !content.path.ends_with("flake.nix"))
        .collect();
    env.publish(nothing, &[]);
    env.update()
        .with(1)
        .complaining("neither a flake.nix nor a configuration.nix");
    assert_eq!(env.switches(), [""; 0]);
}

#[test]
fn two_runs_at_once_are_one_too_many() {
    let mut env = ClientEnv::new();
    let gate = Gate::new(&env);
    let build = format!(
        "export PATH=/usr/bin:/bin\n{}\n{}",
        gate.wait(),
        include_str!("fixtures/build.sh")
    );
    env.publish(with(flake("1"), "config/build.sh", &build), &[]);
    let first = Running::start(env.client("update"));
    gate.await_arrival();
    env.update()
        .with(5)
        .complaining(&format!("(process {})", first.number()));
    gate.open();
    first.end().with(0);
    env.update().with(0);
}

// Issue 10, line 30.
#[test]
fn dns_that_does_not_answer_takes_no_longer_than_a_connection_may() {
    let env = ClientEnv::new();
    let resolver = "nameserver 192.0.2.53\noptions timeout:30 attempts:5\n";
    fs::write(env.path("resolv.conf"), resolver).unwrap();
    fs::write(env.path("nsswitch.conf"), "hosts: files dns\n").unwrap();
    let settings = env.settings(&env.server.host_key, "timeouts.connect = \"2s\"");
    env.write_settings(&settings.replace("127.0.0.1", "bento.example.org"));
    // A network that swallows what it is given.
    let script = "set -e; mount --bind \"$1/resolv.conf\" \"$(realpath /etc/resolv.conf)\"; \
                  mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf; ip link add silent type veth peer name end; \
                  ip address add 192.0.2.1/24 dev silent; ip link set end up; ip link set silent up; \
                  ip neighbour add 192.0.2.53 lladdr 02:00:00:00:00:53 dev silent; shift; exec \"$@\"";
    let client = env.client("update");
    let mut alone = env.environment("unshare");
    alone
        .args(["--mount", "--net", "/bin/sh", "-c", script, "alone"])
        .arg(env.path(""))
        .arg(client.get_program())
        .args(client.get_args());
    Output::of(&mut alone)
        .with(4)
        .complaining("DNS gave no address for bento.example.org within 2s");
}
