use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bento_protocol::Outcome;

use crate::ground::{Ended, Ground, flake, with};
use crate::server;

#[test]
fn another_host_key_ends_it_before_anything_is_told() {
    let mut ground = Ground::new();
    ground.publish(flake("1"), &[]);
    server::make_key(&ground.path("other"));
    let other = server::public_key(&ground.path("other"));
    ground.write_settings(&ground.settings(&other, ""));
    let ended = ground.update().with(4).complaining("bento host-key");
    assert_eq!(
        ended.stderr.matches("SHA256:").count(),
        2,
        "{}",
        ended.stderr
    );
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
        .with(4)
        .complaining("/bundle.tar.gz on 127.0.0.1");
    assert_eq!(ground.last_report().outcome, Outcome::BuildFailed);
}

#[test]
fn wrong_settings_and_a_missing_key_are_usage_errors() {
    let ground = Ground::new();
    ground.write_settings("name = \"kikimora\"\ncolour = \"red\"\n");
    let file = ground.path("client.toml").display().to_string();
    ground
        .update()
        .with(2)
        .complaining(&file)
        .complaining("line 2, column 1");
    ground.write_settings(&ground.settings(&ground.server.host_key, ""));
    fs::remove_file(ground.path("key")).unwrap();
    ground.update().with(2).complaining("ssh-keygen -t ed25519");
    fs::remove_file(ground.path("client.toml")).unwrap();
    ground
        .update()
        .with(2)
        .complaining("bento-client bootstrap");
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
    assert_eq!(ground.switches(), ["switch 1", "switch 4"]);
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
fn failed_units_are_a_warning_and_anything_else_is_a_failure() {
    let mut ground = Ground::new();
    ground.publish(with(flake("1"), "config/switch-ends-with", "4"), &[]);
    ground.update().with(0).complaining("units failed");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.error.unwrap().contains("units failed"));

    let second = ground.publish(with(flake("2"), "config/switch-ends-with", "1"), &[]);
    ground.update().with(1).complaining("exit code 1");
    let report = ground.last_report();
    assert_eq!(report.outcome, Outcome::ActivationFailed);
    assert_eq!(report.generation, second.manifest.generation());
    assert!(report.system.built.is_some());
    assert!(
        report.log.contains("switching to version 2"),
        "{}",
        report.log
    );
    // It isn't installed, so the next run tries again.
    ground.update().with(1);

    // A switch that says yes and does nothing is found out.
    let idle = include_str!("fixtures/build.sh").replace("ln -sfn", "true");
    ground.publish(with(flake("3"), "config/build.sh", &idle), &[]);
    ground.update().with(1).complaining("said that all is well");
}

#[test]
fn two_runs_at_once_are_one_too_many() {
    let mut ground = Ground::new();
    let gate = ground.path("gate");
    // Not for ever: a run that isn't kept out must end, too.
    let waiting = format!(
        "touch {0}.reached\nfor _ in $(seq 600); do [ -e {0} ] && break; sleep 0.05; done\n{1}",
        gate.display(),
        include_str!("fixtures/build.sh")
    );
    ground.publish(
        with(
            flake("1"),
            "config/build.sh",
            &format!("export PATH=/usr/bin:/bin\n{waiting}"),
        ),
        &[],
    );
    let first = ground
        .client("update")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = Running(Some(first), gate.clone());
    wait_for(&ground.path("gate.reached"));
    let number = first.0.as_ref().unwrap().id();
    ground
        .update()
        .with(5)
        .complaining(&format!("(process {number})"));
    fs::write(&gate, "").unwrap();
    first.end().with(0);
    ground.update().with(0);
}

/// A client that waits for a file, and gets it even if the test fails.
struct Running(Option<Child>, std::path::PathBuf);

impl Running {
    fn end(mut self) -> Ended {
        Ended::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = fs::write(&self.1, "");
        if let Some(mut child) = self.0.take() {
            let _ = child.wait();
        }
    }
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} didn't come", path.display());
        thread::sleep(Duration::from_millis(20));
    }
}
