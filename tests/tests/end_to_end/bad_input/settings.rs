//! What is wrong with `fleet.toml`.

use std::fs;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options};
use serde_json::Value;

use super::{add, await_problem, check, lines, only_line};
use crate::machine::Machine;
use crate::states;

#[test]
fn what_is_wrong_with_one_machine_in_fleet_toml_stops_only_that_machine() -> Result<()> {
    let mut fleet = Fleet::new()?;
    let faulty = [
        "bad-arguments",
        "bad-key",
        "bad-source",
        "twin",
        "unknown-key",
    ];
    let names = || faulty.into_iter().chain(["good"]);
    for name in names() {
        add(&mut fleet, name)?;
    }
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = |name: &str| Machine::of(&fleet, name, &appliance);
    let before: Vec<_> = names()
        .map(|name| machine(name).pull())
        .collect::<Result<_>>()?;
    let key = |name: &str| -> Result<String> {
        let public = fs::read_to_string(fleet.key(name).with_added_extension("pub"))?;
        Ok(public.trim().to_owned())
    };
    let (good, own) = (key("good")?, key("unknown-key")?);
    let text = format!(
        "[server]\n\
         address = \"127.0.0.1\"\n\
         [hosts.good]\n\
         keys = [\"{good}\"]\n\
         [hosts.bad-key]\n\
         keys = [\"ssh-ed25519 nonsense\"]\n\
         [hosts.unknown-key]\n\
         keys = [\"{own}\"]\n\
         kyes = []\n\
         [hosts.bad-source]\n\
         source = \"../elsewhere\"\n\
         [hosts.bad-arguments]\n\
         nix_args = [\"--store\", \"/tmp\"]\n\
         [hosts.twin]\n\
         keys = [\"{good}\"]\n\
         [hosts.Bad_Name]\n\
         [hosts.root]\n"
    );
    fleet.write("hosts/good/configuration.nix", "changed")?;
    fleet.write("fleet.toml", text)?;
    let last = before.last().context("it was published")?;
    machine("good").await_other_than(last.id())?;
    states::await_log(&appliance, "fleet.toml:17: ")?;

    let checked = check(&appliance)?;
    let expected = [
        (6, "bad-key: ", "isn't an SSH public key"),
        (9, "unknown-key: ", "unknown field `kyes`"),
        (11, "bad-source: ", "can't be a source"),
        (13, "bad-arguments: ", "--store"),
        (15, "twin: ", "is good's already"),
        (16, "", "Bad_Name"),
        (17, "", "root"),
    ];
    for (line, name, what) in expected {
        let place = format!("fleet.toml:{line}: {name}");
        only_line(&checked, &["error:", &place, what])?;
        only_line(&appliance.logs()?, &["WARN", &place, what])?;
    }
    let status = appliance.status_json()?;
    for (line, name, what) in expected {
        let name = name.trim_end_matches(": ");
        let shown = if name.is_empty() {
            lines(&status["problems"])
        } else {
            let host = states::of(&appliance, name)?;
            host["error"].as_str().unwrap_or_default().to_owned()
        };
        only_line(&shown, &[&format!("fleet.toml:{line}: "), what])?;
    }
    // Each keeps what it has, and comes in with the key that it had.
    for (name, generation) in faulty.into_iter().zip(&before) {
        assert_eq!(machine(name).pull()?, *generation, "{name}");
    }
    Ok(())
}

#[test]
fn a_fleet_toml_that_cannot_be_read_removes_nobody_also_over_a_restart() -> Result<()> {
    let mut fleet = Fleet::new()?;
    for name in ["domovoi", "kikimora"] {
        add(&mut fleet, name)?;
    }
    let good = fs::read_to_string(fleet.path().join("fleet.toml"))?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let mut generation = Machine::of(&fleet, "kikimora", &appliance).pull()?;
    let typo = good.replacen("[server]", "[sever]", 1);
    let section = format!("{good}[hots.leshy]\n");
    let last = section.lines().count();
    for (text, place, what) in [
        ("[server\n".to_owned(), "fleet.toml:1: ".to_owned(), ""),
        (
            String::new(),
            "fleet.toml: ".to_owned(),
            "there is no [server]",
        ),
        (typo, "fleet.toml:1: ".to_owned(), "\"sever\""),
        (section, format!("fleet.toml:{last}: "), "\"hots\""),
    ] {
        fleet.write("fleet.toml", &text)?;
        await_problem(&appliance, &[&place, what])?;
        only_line(&check(&appliance)?, &["error: ", &place, what])?;
        for is_restarted in [false, true] {
            if is_restarted {
                appliance.restart()?;
            }
            await_problem(&appliance, &[&place, what])?;
            for name in ["domovoi", "kikimora"] {
                let shown = states::of(&appliance, name)?;
                assert_eq!(
                    (&shown["state"], &shown["error"]),
                    (&"new".into(), &Value::Null)
                );
            }
            let kikimora = Machine::of(&fleet, "kikimora", &appliance);
            assert_eq!(kikimora.pull()?, generation, "with {text:?}");
        }
        // Their folders are published all the while.
        fleet.write("hosts/kikimora/configuration.nix", &text)?;
        generation =
            Machine::of(&fleet, "kikimora", &appliance).await_other_than(generation.id())?;
    }
    Ok(())
}
