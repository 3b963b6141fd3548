//! The units in which the client's module runs the client.

use anyhow::Result;
use serde_json::json;

use super::nix::Nix;
use super::{client, one_server, system};

#[test]
fn the_update_outlives_its_own_switch_and_its_timer_makes_up_for_time_asleep() -> Result<()> {
    let nix = Nix::new()?;
    let settings = format!(
        "{} interval = \"hourly\"; jitter = \"5min\"; package = \"/opt/bento\";",
        one_server()
    );
    let evaluated = nix.evaluate(&format!(
        "let
            config = {}.config;
            part = name: let unit = config.systemd.services.${{name}}; in {{
                inherit (unit) restartIfChanged stopIfChanged unitConfig serviceConfig
                    environment path before wantedBy;
            }};
        in {{
            update = part \"bento-update\";
            reboot = part \"bento-reboot-if-needed\";
            secrets = part \"bento-secrets\";
            timers = builtins.mapAttrs (_: timer: {{ inherit (timer) wantedBy timerConfig; }})
                config.systemd.timers;
        }}",
        client(&settings)
    ))?;
    for (unit, command) in [
        ("update", "update"),
        ("reboot", "reboot-if-needed"),
        ("secrets", "settle-secrets"),
    ] {
        let unit = &evaluated[unit];
        assert_eq!(unit["restartIfChanged"], false);
        assert_eq!(unit["stopIfChanged"], false);
        assert_eq!(unit["unitConfig"]["X-StopOnRemoval"], false);
        assert_eq!(unit["serviceConfig"]["Type"], "oneshot");
        assert_eq!(
            unit["serviceConfig"]["ExecStart"],
            format!("/opt/bento/bin/bento-client {command}")
        );
    }
    // Issue 10, line 25.
    let update = &evaluated["update"]["serviceConfig"];
    assert_eq!(update["SuccessExitStatus"], json!([4, 5]));
    assert_eq!(
        update["ExecCondition"],
        "/opt/bento/bin/bento-client has-key"
    );
    let reboot = &evaluated["reboot"]["serviceConfig"];
    assert_eq!(reboot["SuccessExitStatus"], 5);
    for unit in ["update", "reboot"] {
        let unit = &evaluated[unit];
        assert_eq!(unit["unitConfig"]["RequiresMountsFor"], "/var/lib/bento");
        // A build takes as long as it takes; systemd's default for a oneshot is no limit.
        assert_eq!(unit["serviceConfig"].get("TimeoutStartSec"), None);
        assert_eq!(unit["environment"]["HOME"], "/root");
        assert_eq!(unit["path"].as_array().map(Vec::len), Some(6));
    }
    let timer = &evaluated["timers"]["bento-update"];
    assert_eq!(timer["wantedBy"], json!(["timers.target"]));
    assert_eq!(timer["timerConfig"]["OnCalendar"], "hourly");
    assert_eq!(timer["timerConfig"]["RandomizedDelaySec"], "5min");
    // A minute, systemd's own, would come on top of the jitter.
    assert_eq!(timer["timerConfig"]["AccuracySec"], "1s");
    assert_eq!(timer["timerConfig"]["Persistent"], true);
    let timer = &evaluated["timers"]["bento-update-boot"];
    assert_eq!(timer["wantedBy"], json!(["timers.target"]));
    assert_eq!(timer["timerConfig"]["Unit"], "bento-update.service");
    assert_eq!(timer["timerConfig"]["OnActiveSec"], "1min");
    // Of a timer that has one, systemd remembers when it was due.
    assert_eq!(timer["timerConfig"].get("Persistent"), None);
    let timer = &evaluated["timers"]["bento-reboot-if-needed"];
    assert_eq!(timer["wantedBy"], json!(["timers.target"]));
    assert_eq!(timer["timerConfig"]["OnCalendar"], "*:0/10");
    Ok(())
}

#[test]
fn secrets_are_in_place_before_anything_reads_them_and_that_never_takes_long() -> Result<()> {
    let nix = Nix::new()?;
    let unit = nix.evaluate(&format!(
        "{{ inherit ({}.config.systemd.services.bento-secrets)
            before after wants conflicts wantedBy unitConfig serviceConfig; }}",
        client(&format!("{} package = \"/opt/bento\";", one_server()))
    ))?;
    assert_eq!(unit["wantedBy"], json!(["sysinit.target"]));
    let before = json!(["sysinit.target", "network-pre.target", "shutdown.target"]);
    assert_eq!(unit["before"], before);
    assert_eq!(unit["after"], json!(["local-fs.target"]));
    assert_eq!(unit["unitConfig"]["DefaultDependencies"], false);
    assert_eq!(unit["unitConfig"]["RequiresMountsFor"], "/var/lib/bento");
    assert_eq!(unit["serviceConfig"]["TimeoutStartSec"], 10);
    assert_eq!(unit["serviceConfig"]["TimeoutStartFailureMode"], "kill");

    // Issue 10, line 20. Where systemd makes the users, the script that otherwise does must stay empty.
    for (more, expected) in [
        ("", json!(["bentoSecrets"])),
        ("systemd.sysusers.enable = true;", json!([])),
        ("services.userborn.enable = true;", json!([])),
    ] {
        let settings = format!(
            "services.bento-client = {{ enable = true; {} }}; {more}",
            one_server()
        );
        let deps = nix.evaluate(&format!(
            "{}.config.system.activationScripts.users.deps",
            system("client", &settings)
        ))?;
        assert_eq!(deps, expected, "{more}");
    }
    Ok(())
}

#[test]
fn a_time_that_systemd_would_ignore_is_no_system() -> Result<()> {
    let nix = Nix::new()?;
    let check = |settings: &str| {
        let client = client(&format!("{} {settings}", one_server()));
        format!("builtins.head {client}.config.system.checks")
    };
    nix.build(&check(""))?;
    nix.build(&check("interval = \"hourly\"; jitter = \"0\";"))?;
    // A zone of which nothing is known where this is built.
    nix.build(&check("interval = \"Mon *-*-* 03:00 Here/Elsewhere\";"))?;
    for (settings, says) in [
        (
            "interval = \"every 15 min\";",
            "services.bento-client.interval",
        ),
        ("jitter = \"soon\";", "services.bento-client.jitter"),
    ] {
        let error = format!("{:#}", nix.build(&check(settings)).unwrap_err());
        assert!(error.contains(says), "{error}");
    }
    Ok(())
}

#[test]
fn no_unit_has_a_name_of_bento_2022_beside_which_it_runs_while_a_fleet_migrates() -> Result<()> {
    let nix = Nix::new()?;
    let units = nix.evaluate(&format!(
        "let systemd = {}.config.systemd; in
        builtins.attrNames (systemd.services // systemd.timers)",
        client(&format!("{} package = \"/opt/bento\";", one_server()))
    ))?;
    assert!(units.to_string().contains("bento-update"), "{units}");
    // NixOS would merge the two: the 2022 service is disabled as it comes, and ours would be with it.
    for theirs in ["bento-upgrade", "bento-reboot"] {
        assert!(
            !units.to_string().contains(&format!("{theirs:?}")),
            "{units}"
        );
    }
    Ok(())
}
