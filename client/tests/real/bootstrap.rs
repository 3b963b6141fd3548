use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use bento_tests::key;
use bento_tests::process::Output;

use crate::env::{ClientEnv, SETTINGS, carrying_on, flake};
use crate::server;

fn bootstrap(env: &ClientEnv, arguments: &[&str]) -> Command {
    let mut command = env.client("bootstrap");
    command
        .args(["--name", "kikimora", "--server"])
        .arg(format!("127.0.0.1:{}", env.server.port))
        .arg("--identity-file")
        .arg(env.path("new/key"))
        .args(arguments);
    command
}

fn run(env: &ClientEnv, arguments: &[&str]) -> Output {
    Output::of(&mut bootstrap(env, arguments))
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused() {
    let env = ClientEnv::without_settings();
    run(&env, &[])
        .with(2)
        .complaining("bento host-key")
        .complaining("--accept-new-host-key");
    assert!(!env.path(SETTINGS).exists());
    assert!(!env.path("new").exists());
}

#[test]
fn the_administrator_gets_what_to_paste_and_nothing_is_overwritten() {
    let env = ClientEnv::without_settings();
    let host_key = env.server.host_key.clone();
    let ended = run(&env, &["--host-key", &host_key])
        .with(0)
        .without_complaint();
    let public = key::public(&env.path("new/key")).unwrap();
    let paste = format!("bento host add kikimora --key \"{public}\"");
    assert!(public.ends_with(" root@kikimora"), "{public}");
    assert!(ended.stdout.contains(&paste), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("bento-client update"),
        "{}",
        ended.stdout
    );
    let mode = fs::metadata(env.path("new/key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);

    // Again: the same key, the same line.
    let settings = fs::read_to_string(env.path(SETTINGS)).unwrap();
    let ended = run(&env, &["--host-key", &host_key]).with(0);
    assert!(ended.stdout.contains(&paste), "{}", ended.stdout);
    server::make_key(&env.path("other"));
    run(
        &env,
        &["--host-key", &key::public(&env.path("other")).unwrap()],
    )
    .with(2)
    .complaining("already exists");
    assert_eq!(fs::read_to_string(env.path(SETTINGS)).unwrap(), settings);
}

#[test]
fn a_key_that_is_taken_unseen_is_shown_and_stays_pinned() {
    let env = ClientEnv::without_settings();
    let ended = run(&env, &["--accept-new-host-key"]).with(0);
    assert!(ended.stdout.contains("SHA256:"), "{}", ended.stdout);
    let settings = fs::read_to_string(env.path(SETTINGS)).unwrap();
    let pinned = env.server.host_key.rsplit_once(' ').unwrap().0;
    assert!(settings.contains(pinned), "{settings}");
}

#[test]
fn a_machine_behind_a_proxy_goes_through_it_from_the_first_contact_on() {
    let mut env = ClientEnv::without_settings();
    env.publish(flake("1"), &[]);
    // The server's name means something only to the proxy; quotes and backslashes must survive the settings.
    let used = env.path("used");
    let command = format!(
        "echo '%h' \"\\\"%p\\\"\" >> {}; exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & cat >&3'",
        used.display(),
        env.server.port
    );
    let bootstrap = |more: &[&str]| {
        let mut bootstrap = env.client("bootstrap");
        bootstrap
            .args(["--name", "kikimora", "--server", "bento.invalid:2222"])
            .arg("--identity-file")
            .arg(env.path("new/key"))
            .args(more);
        Output::of(&mut bootstrap)
    };
    bootstrap(&["--accept-new-host-key", "--proxy-command", &command]).with(0);
    assert_eq!(
        fs::read_to_string(&used).unwrap(),
        "bento.invalid \"2222\"\n"
    );
    bootstrap(&["--proxy-command", "another"])
        .with(2)
        .complaining("proxy command");

    env.enrol(&key::public(&env.path("new/key")).unwrap());
    env.update_with(&["--force"]).with(0);
    assert_eq!(env.running().as_deref(), Some("1"));
    assert!(fs::read_to_string(&used).unwrap().lines().count() > 1);
}

#[test]
fn a_machine_that_waits_is_updated_once_it_is_let_in() {
    let mut env = ClientEnv::without_settings();
    let host_key = env.server.host_key.clone();
    let settings = env.settings(&host_key, "").replace("/key\"", "/new/key\"");
    env.publish(carrying_on(flake("1"), &settings), &[]);
    let mut waiting = bootstrap(&env, &["--host-key", &host_key, "--wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Waiting: ") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it didn't wait");
    }
    assert!(line.contains("bento host add kikimora"), "{line}");
    env.enrol(&key::public(&env.path("new/key")).unwrap());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(waiting.wait().unwrap().success(), "{rest}");
    assert_eq!(env.running().as_deref(), Some("1"));
    assert_eq!(env.reports().len(), 1);
}
