//! A fleet.toml: it becomes a fleet that survives a restart and shares no key between machines, or printable problems.

#![no_main]

use bento_appliance::fleet::{Fleet, Host, PublicKey, read};
use bento_appliance::problem::Problem;
use bento_fuzz::shown;
use bento_protocol::{HostName, Policy};
use libfuzzer_sys::fuzz_target;

fn judge_problem(problem: &Problem, lines: usize) {
    shown::assert_one_line(&problem.to_string());
    assert!(
        !problem.what.is_empty() && !problem.advice.is_empty(),
        "{problem}"
    );
    if let Some(line) = problem.place.strip_prefix("fleet.toml:") {
        let line: usize = line.parse().expect("a line has a number");
        assert!(
            (1..=lines).contains(&line),
            "{problem}: there are {lines} lines"
        );
    }
}

/// A key is a line of `authorized_keys`: it must be one line, without options before it.
fn judge_key(key: &PublicKey) {
    let line = key.authorized_line();
    shown::assert_one_line(&line);
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields.len(), 2, "{line:?}");
    assert!(
        fields[0].starts_with("ssh-")
            || fields[0].starts_with("ecdsa-")
            || fields[0].starts_with("sk-"),
        "{line:?}"
    );
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    assert!(fields[1].bytes().all(plain), "{line:?}");
    assert_eq!(line.parse::<PublicKey>().as_ref(), Ok(key));
}

fn judge_host(name: &HostName, host: &Host) {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(
        (1..=32).contains(&name.as_str().len()) && name.as_str().bytes().all(label),
        "{name}"
    );
    assert!(!matches!(name.as_str(), "root" | "sshd"));
    let source = host.source.to_string();
    let stays = |part: &str| !matches!(part, "" | "." | ".." | ".git" | ".bento");
    assert!(source == "." || source.split('/').all(stays), "{source:?}");
    assert!(!source.starts_with("bento-secrets/"), "{source:?}");
    assert!(host.silent_after.duration().as_secs() > 0);
    host.keys.iter().for_each(judge_key);

    let policy = Policy::from(host.terms.clone());
    let json = serde_json::to_vec(&policy).expect("it is JSON");
    let received: Policy = serde_json::from_slice(&json).expect("a client understands it");
    assert_eq!((&received, received.terms()), (&policy, &host.terms));
    assert_eq!(received.canonical(), policy.canonical());
}

fn judge_fleet(fleet: &Fleet) {
    for (name, host) in &fleet.hosts {
        judge_host(name, host);
        for (other, theirs) in fleet.hosts.range(..name.clone()) {
            let is_renamed = host.renamed_from.as_ref() == Some(other)
                || theirs.renamed_from.as_ref() == Some(name);
            let shares = host.keys.iter().any(|key| theirs.keys.contains(key));
            assert!(is_renamed || !shares, "{name} and {other} share a key");
        }
    }
    let json = serde_json::to_vec(fleet).expect("it is JSON");
    let kept: Fleet = serde_json::from_slice(&json).expect("it is read after a restart");
    assert_eq!(kept, *fleet);
}

fuzz_target!(|text: &str| {
    let lines = text.split('\n').count();
    match read(text) {
        Ok(reading) => {
            judge_fleet(&reading.fleet);
            for name in &reading.faulty {
                assert!(
                    !reading.fleet.hosts.contains_key(name),
                    "{name} is faulty and not"
                );
                let says = |problem: &Problem| problem.host.as_ref() == Some(name);
                assert!(
                    reading.problems.iter().any(says),
                    "nothing is said about {name}"
                );
            }
            reading
                .problems
                .iter()
                .for_each(|problem| judge_problem(problem, lines));
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
                .iter()
                .for_each(|problem| judge_problem(problem, lines));
        }
    }
});
