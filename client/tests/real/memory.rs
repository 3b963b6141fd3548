//! How much memory the client needs for a pull, however large it is.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use bento_protocol::limits;

use bento_tests::process::Output;

use crate::env::{ClientEnv, generation};
use crate::publisher::{Content, Generation};

/// The contract: the most memory that the client may ever have had, in KiB. Unoptimised, its code alone takes 5 MiB more
/// than what is installed, so there only the next number says anything.
const MOST: u64 = 16 << 10;
/// How much more a large pull may take than a small one, in KiB: what libssh2 asks ahead, and little else.
const MOST_FOR_SIZE: u64 = 5 << 10;

/// Files with long names, of which those that leave `rest` when divided by ten have another content.
fn many_files(rest: usize, content: &str) -> Vec<Content> {
    let files = (0..20_000).map(|number| {
        // Each name has a prefix of its own, so that no compression helps who keeps them.
        let name = format!(
            "{number:05}-{}",
            format!("{:016x}", number * 0x9e37_79b9_7f4a).repeat(15)
        );
        let area = if number % 3 == 0 { "secrets" } else { "config" };
        let bytes = if number % 10 == rest { content } else { "" };
        Content::new(
            &format!("{area}/{:03}/{name}", number % 200),
            bytes.as_bytes(),
        )
    });
    files.collect()
}

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Updates, and gives the most memory that the client had at any time, in KiB.
fn update(env: &ClientEnv) -> (Output, u64) {
    let client = env
        .client("update")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", client.id());
    let watch = thread::spawn(move || {
        let mut most = 0;
        // Of a process that has ended, but wasn't waited for, there is a file without this line.
        while let Some(now) = fs::read_to_string(&status).ok().and_then(high_water_mark) {
            most = now;
            thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let ended = Output::from(client.wait_with_output().unwrap());
    (ended, watch.join().unwrap())
}

fn high_water_mark(status: String) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn in_place(env: &ClientEnv, generation: &Generation) -> bool {
    let id = generation.manifest.generation().to_string();
    env.state_names("generations").contains(&id)
}

/// There is nothing in it to build, because that isn't what is measured: each update pulls, verifies, stages, and
/// reports that the build failed.
#[test]
fn no_pull_needs_more_memory_than_the_contract_says() {
    let mut env = ClientEnv::new();
    env.publish(vec![Content::new("config/small", "")], &[]);
    let (ended, small) = update(&env);
    ended.with(1);

    let mut first = many_files(0, "first");
    first.push(Content::new("config/large", noise(32 << 20)));
    let first = env.publish(first, &[]);
    let manifest = serde_json::to_vec(&first.manifest).unwrap().len() as u64;
    assert!(manifest > limits::MANIFEST_BYTES / 5, "{manifest} bytes");

    let (ended, bundle) = update(&env);
    assert!(ended.with(1).stdout.contains("as a bundle"));
    assert!(in_place(&env, &first));

    let (_, again) = update(&env);

    let second = generation(many_files(1, "second"));
    let delta = second.delta_from(&first);
    let name = format!("delta/{}.tar.gz", first.manifest.generation());
    env.server.publish_as(&second, |publication| {
        fs::write(publication.join(name), &delta).unwrap();
    });
    let (ended, delta) = update(&env);
    assert!(ended.with(1).stdout.contains("as a delta"));
    assert!(in_place(&env, &second));

    let all = format!("small {small}, bundle {bundle}, staged before {again}, delta {delta} KiB");
    println!("{all}");
    for measured in [bundle, again, delta] {
        assert!(measured <= small + MOST_FOR_SIZE, "{all}");
        assert!(cfg!(debug_assertions) || measured <= MOST, "{all}");
    }
    assert!(small > 0, "{all}");
}
