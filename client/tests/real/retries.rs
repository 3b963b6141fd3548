//! What is tried again, and what isn't.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use bento_protocol::Outcome;

use crate::env::{ClientEnv, broken, flake, with};
use crate::server;

#[test]
fn a_fetch_that_fails_is_tried_again_at_once_and_then_ever_more_rarely() {
    let mut env = ClientEnv::new();
    let source = format!(
        "folder: derivation {{ name = \"system\"; system = builtins.readFile (folder + \"/platform\");\n\
         builder = builtins.fetchurl {{ url = \"http://127.0.0.1:{}/builder\";\n\
         sha256 = \"0000000000000000000000000000000000000000000000000000\"; }}; }}",
        server::free_port()
    );
    let first = env.publish(with(flake("1"), "config/system.nix", &source), &[]);
    for tries in 1..=2 {
        env.update().with(1).complaining("unable to download");
        assert_eq!(env.reports().len(), tries);
        assert_eq!(env.last_report().outcome, Outcome::BuildFailed);
    }
    env.update()
        .with(1)
        .complaining("is tried again after")
        .complaining("unable to download");
    assert_eq!(env.reports().len(), 2);
    env.update_with(&["--retry"]).with(1);
    assert_eq!(env.reports().len(), 3);

    env.publish(flake("2"), &[&first]);
    env.update().with(0).without_complaint();
    env.is_wholly_on("2");
}

// Issue 10, line 22: whether the configuration is to blame, only people can know.
#[test]
fn an_evaluation_error_is_tried_again_too_and_a_switch_that_failed_is_not() {
    let mut env = ClientEnv::new();
    let first = env.publish(broken("1"), &[]);
    for tries in 1..=2 {
        env.update().with(1).complaining("undefined variable");
        assert_eq!(env.reports().len(), tries);
    }
    env.update()
        .with(1)
        .complaining("is tried again after")
        .complaining("undefined variable");

    let failing = with(flake("2"), "config/activation.sh", "activate; exit 1");
    env.publish(failing, &[&first]);
    env.update().with(3);
    env.update()
        .with(1)
        .complaining("isn't tried again until it changes");
    assert_eq!(env.reports().len(), 3);
}

/// The generation fails while this machine has these settings of Nix, says so of all these, and is built once they are
/// gone.
#[track_caller]
fn fails_and_recovers(settings: &str, version: &str, says: &[&str]) {
    let mut env = ClientEnv::new();
    let conf = env.path("nix/conf/nix.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{good}{settings}\n")).unwrap();
    env.publish(flake(version), &[]);
    let mut ended = env.update().with(1);
    for text in says {
        ended = ended.complaining(text);
    }
    let error = env.last_report().error.unwrap();
    assert!(says.iter().all(|text| error.contains(text)), "{error}");
    fs::write(&conf, good).unwrap();
    env.update().with(0);
    env.is_wholly_on(version);
}

// Issue 10, line 22.
#[test]
fn a_remote_builder_that_is_away_is_named_and_waited_for() {
    fails_and_recovers(
        "max-jobs = 0\nbuilders = ssh://nobody@127.0.0.1",
        "1",
        &["ssh://nobody@127.0.0.1"],
    );
}

// Issue 10, line 22.
#[test]
fn a_login_page_in_place_of_a_cache_is_named_and_waited_for() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<p>Log in";
    let cache = serve(page);
    fails_and_recovers(&format!("substituters = {cache}"), "1", &[&cache]);
}

/// A server that answers everything in the same way, as long as the process lives.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that went away meanwhile is no matter.
            let mut request = BufReader::new(&stream).lines();
            while request
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}
