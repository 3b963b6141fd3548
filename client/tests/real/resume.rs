//! Transfers that were cut, and what of them came. Issue 10, line 30.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};

use crate::env::{ClientEnv, flake};
use crate::publisher::{Content, Generation};
use crate::wire::Wire;

/// A machine that has version 1.
fn updated() -> (ClientEnv, Generation) {
    let mut env = ClientEnv::new();
    let first = env.publish(flake("1"), &[]);
    env.update().with(0);
    (env, first)
}

/// A configuration of which the archive has more than this many bytes, whatever compresses it.
const LARGE: u64 = 4_000_000;

/// The most of what the server has sent that isn't kept, in bytes: all but the archive, and the packet that was cut.
const LOST: u64 = 100_000;

fn large(version: &str) -> Vec<Content> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(usize::try_from(LARGE).unwrap())
    .collect();
    let mut contents = flake(version);
    contents.push(Content::new("config/data", noise));
    contents
}

/// Updates over a wire that is cut after so many bytes of the server, and gives how many there were.
fn update_over_a_wire(env: &ClientEnv, cut_after: u64, code: i32) -> u64 {
    let wire = Wire::to(env.server.port, cut_after);
    // Only a cut is to be noticed soon.
    let patience = match cut_after {
        u64::MAX => "",
        _ => "timeouts.transfer = \"2s\"\n",
    };
    let direct = env.settings(&env.server.host_key, patience);
    let settings = direct.replace(
        &format!("port = {}", env.server.port),
        &format!("port = {}", wire.port),
    );
    assert_ne!(settings, direct);
    env.write_settings(&settings);
    env.update().with(code);
    wire.served()
}

/// What is kept of archives that didn't come whole, in bytes.
fn kept(env: &ClientEnv) -> u64 {
    let entries = fs::read_dir(env.state("received"));
    let sizes = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().metadata().unwrap().len());
    sizes.sum()
}

#[test]
fn a_transfer_that_was_cut_goes_on_where_it_ended() {
    let (mut env, first) = updated();
    let second = env.publish(large("2"), &[]);
    let mut before = 0;
    for cut_after in [1_500_000, 1_700_000] {
        let served = update_over_a_wire(&env, cut_after, 4);
        let now = kept(&env);
        assert!(
            now >= before + cut_after - LOST && now - before <= served,
            "{now} bytes are kept after {before}, of {served}"
        );
        assert_eq!(env.running().as_deref(), Some("1"));
        assert_eq!(
            env.state_names("generations"),
            [first.manifest.generation().to_string()]
        );
        before = now;
    }
    let served = update_over_a_wire(&env, u64::MAX, 0);
    assert!(
        served < LARGE - before + 200_000,
        "{served} bytes came after {before}"
    );
    env.is_wholly_on("2");
    assert!(!env.state("received").exists());

    // A delta goes on, too.
    let mut contents = large("3");
    let data = contents.pop().expect("there is data");
    contents.push(Content::new("config/more", data.bytes));
    let third = env.publish(contents, &[&second]);
    update_over_a_wire(&env, 2_000_000, 4);
    let before = kept(&env);
    assert!(before > 2_000_000 - LOST, "{before} bytes are kept");
    let name = format!(
        "{}.{}",
        third.manifest.generation(),
        second.manifest.generation()
    );
    assert_eq!(env.state_names("received"), [name]);
    let served = update_over_a_wire(&env, u64::MAX, 0);
    assert!(
        served < LARGE - before + 200_000,
        "{served} bytes came after {before}"
    );
    env.is_wholly_on("3");
}

#[test]
fn what_came_before_the_cut_is_not_believed() {
    let (mut env, _) = updated();
    let second = env.publish(large("2"), &[]);
    update_over_a_wire(&env, 1_500_000, 4);
    let file = env.state("received").join(&env.state_names("received")[0]);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "secrets may be in it");

    // The same generation, published again, has other bytes: it comes whole in the same run.
    let again = compressed_otherwise(&second);
    env.server.publish_as(&second, |publication| {
        fs::write(publication.join("bundle.tar.gz"), &again).unwrap();
    });
    let served = update_over_a_wire(&env, u64::MAX, 0);
    assert!(served > LARGE, "{served} bytes came");
    env.is_wholly_on("2");
    assert!(!env.state("received").exists());

    // Somebody, or a disk, changed what is kept; and what is kept is longer than what is there now.
    for (version, damage) in [
        ("3", (|bytes| bytes[500_000] ^= 1) as fn(&mut Vec<u8>)),
        ("4", |bytes| bytes.resize(10_000_000, 7)),
    ] {
        env.publish(large(version), &[]);
        update_over_a_wire(&env, 1_500_000, 4);
        let file = env.state("received").join(&env.state_names("received")[0]);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        update_over_a_wire(&env, u64::MAX, 0);
        env.is_wholly_on(version);
    }
}

#[test]
fn what_is_not_wanted_any_more_is_not_kept() {
    let (mut env, first) = updated();
    env.publish(large("2"), &[]);
    update_over_a_wire(&env, 1_500_000, 4);
    assert!(kept(&env) > 0);
    // The administrator goes back: there is nothing to pull.
    env.server.publish(&first, &[]);
    update_over_a_wire(&env, u64::MAX, 0);
    assert_eq!(kept(&env), 0);
}

/// The bundle of a generation in other bytes, as a later publication may have it.
fn compressed_otherwise(generation: &Generation) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(generation.bundle().as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    let mut archive = Vec::new();
    GzEncoder::new(plain.as_slice(), Compression::none())
        .read_to_end(&mut archive)
        .unwrap();
    archive
}
