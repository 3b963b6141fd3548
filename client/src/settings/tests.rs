use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

fn text() -> String {
    format!(
        "name = \"kikimora\"\n\
         [[servers]]\n\
         address = \"bento.example.org\"\n\
         host_keys = [\"{KEY}\"]\n"
    )
}

// Issue 10, line 41.
#[test]
fn a_value_of_the_wrong_type_is_explained_in_words() {
    let text = "name = \"a\"\n[[servers]]\naddress = \"b\"\nport = \"x\"\nhost_keys = []\n";
    let error = Settings::parse(text).unwrap_err().to_string();
    let words = "line 4: port is the text \"x\", and must be a number from 0 to 65535";
    assert!(error.starts_with(words), "{error}");
}

#[test]
fn missing_settings_have_their_defaults() {
    let settings = Settings::parse(&text()).unwrap();
    assert_eq!(settings.identity_file, Path::new(IDENTITY_FILE));
    assert_eq!(settings.nix_path, NIX_PATH);
    assert_eq!(settings.servers[0].port, 2222);
    assert_eq!(
        settings.timeouts.connect.duration(),
        Duration::from_secs(30)
    );
    assert_eq!(
        settings.timeouts.transfer.duration(),
        Duration::from_secs(60)
    );
    assert_eq!(settings.timeouts.build.duration(), Duration::from_hours(24));
    assert_eq!(settings.operation, Operation::Switch);
    assert!(settings.guard && settings.reboot.kexec && settings.disk.collect_garbage);
    assert_eq!(settings.rollback.after.duration(), Duration::from_secs(300));
    assert_eq!(settings.confirm.grace.duration(), Duration::from_secs(60));
    assert_eq!(settings.health.timeout.duration(), Duration::from_secs(60));
    assert_eq!(settings.health.checks, []);
    assert_eq!(settings.restart_units, RestartUnits::default());
    assert_eq!(settings.disk.store_free.bytes(), 1 << 30);
    assert_eq!(settings.disk.keep_systems.count(), 5);
    assert_eq!(settings.self_update.every, None);
}

#[test]
fn all_settings_are_read() {
    let text = text()
        + r#"
        [rollback]
        after = "10m"
        [confirm]
        grace = "2m"
        [health]
        timeout = "30s"
        [[health.checks]]
        name = "web"
        command = ["curl", "--fail", "http://localhost"]
        timeout = "10s"
        [[health.checks]]
        name = "printer"
        command = ["lpstat"]
        required = false
        [restart_units]
        "wireguard.key" = ["wireguard-wg0.service", "backup.timer"]
        [disk]
        store_free = "500MiB"
        collect_garbage = false
        keep_systems = 2
        [self_update]
        every = "1d"
        [reboot]
        kexec = false
        "#;
    let settings =
        Settings::parse(&format!("operation = \"boot\"\nguard = false\n{text}")).unwrap();
    assert_eq!(settings.operation, Operation::Boot);
    assert!(!settings.guard && !settings.reboot.kexec && !settings.disk.collect_garbage);
    assert_eq!(settings.rollback.after.duration(), Duration::from_secs(600));
    assert_eq!(settings.confirm.grace.duration(), Duration::from_secs(120));
    let [web, printer] = &settings.health.checks[..] else {
        panic!("{:?}", settings.health);
    };
    assert_eq!((web.name.to_string(), web.required), ("web".into(), true));
    assert_eq!(web.command.program(), "curl");
    assert_eq!(web.command.arguments(), ["--fail", "http://localhost"]);
    assert_eq!(
        web.timeout.map(Limit::duration),
        Some(Duration::from_secs(10))
    );
    assert_eq!((printer.required, printer.timeout), (false, None));
    let units = settings
        .restart_units
        .of(&"secrets/wireguard.key".parse().unwrap());
    assert_eq!(units[1].as_str(), "backup.timer");
    assert_eq!(settings.disk.store_free.bytes(), 500 << 20);
    assert_eq!(settings.disk.keep_systems.count(), 2);
    assert_eq!(
        settings.self_update.every.map(Interval::duration),
        Some(Duration::from_secs(86400))
    );
}

#[test]
fn errors_in_optional_settings_name_the_line_too() {
    for (more, line, says) in [
        ("[rollback]\nafter = \"soon\"", 6, "soon"),
        ("[rollback]\nafer = \"5m\"", 6, "unknown field `afer`"),
        ("[disk]\nstore_free = \"1GB\"", 6, "1GiB"),
        ("[disk]\nkeep_systems = 1", 6, "at least 2"),
        ("[disk]\nkeep_systems = -1", 6, "-1"),
        ("[self_update]\nevery = \"daily\"", 6, "daily"),
        ("[reboot]\nkexec = \"yes\"", 6, "true or false"),
        ("[[health.checks]]\nname = \"a\"", 5, "command"),
        ("[[health.checks]]\ncommand = [\"a\"]", 5, "name"),
        (
            "[[health.checks]]\nname = \" \"\ncommand = [\"a\"]",
            6,
            "something on it",
        ),
        (
            "[[health.checks]]\nname = \"a\\nb\"\ncommand = [\"a\"]",
            6,
            "one line",
        ),
        (
            "[[health.checks]]\nname = \"a\"\ncommand = []",
            7,
            "no program",
        ),
        (
            "[[health.checks]]\nname = \"a\"\ncommand = [\"a\"]\nrequire = false",
            8,
            "unknown field `require`",
        ),
        ("[restart_units]\na = [\"nginx\"]", 6, "nginx"),
        ("[restart_units]\n\"../a\" = []", 5, "secrets/../a"),
    ] {
        let wrong = format!("{}{more}\n", text());
        let error = format!("{:#}", Settings::parse(&wrong).unwrap_err());
        let is_named = |end| error.contains(&format!("line {line}{end}"));
        assert!([',', ':'].into_iter().any(is_named), "{more}: {error}");
        assert!(error.contains(says), "{more}: {error}");
    }
    let wrong = format!("operation = \"reboot\"\n{}", text());
    let error = Settings::parse(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("line 1,") && error.contains("reboot"),
        "{error}"
    );
}

#[test]
fn the_rollback_timer_must_be_longer_than_the_grace_time() {
    let with = |after: &str, grace: &str| {
        Settings::parse(&format!(
            "{}[rollback]\nafter = \"{after}\"\n[confirm]\ngrace = \"{grace}\"\n",
            text()
        ))
    };
    with("61s", "1m").unwrap();
    let error = with("60s", "1m").unwrap_err().to_string();
    assert!(
        error.contains("rollback.after") && error.contains("confirm.grace"),
        "{error}"
    );
}

#[test]
fn errors_name_the_line_and_what_is_wrong() {
    for (old, new, line, says) in [
        ("name =", "nam =", 1, "unknown field `nam`"),
        ("\"kikimora\"", "\"Kikimora\"", 1, "Kikimora"),
        ("[[servers]]", "[[servers]]\nadress = 1", 3, "unknown field"),
        ("bento.example.org", "bento;example", 3, "bento;example"),
        ("AAAA", "BBBB", 4, "isn't a host key"),
        (
            "\"kikimora\"",
            "\"kikimora\"\nnix_args = [\"--store\"]",
            2,
            "--store",
        ),
        (
            "\"kikimora\"",
            "\"kikimora\"\ntimeouts.connect = \"soon\"",
            2,
            "soon",
        ),
        (
            "\"kikimora\"",
            "\"kikimora\"\ntimeouts.transfer = \"2m\"",
            2,
            "to \"1m\"",
        ),
        ("\"kikimora\"", "\"kikimora", 1, "string"),
    ] {
        let wrong = text().replacen(old, new, 1);
        let error = format!("{:#}", Settings::parse(&wrong).unwrap_err());
        assert!(error.contains(&format!("line {line},")), "{new}: {error}");
        assert!(error.contains(says), "{new}: {error}");
    }
}

#[test]
fn a_server_must_be_pinned() {
    let unpinned = text().replace(&format!("\"{KEY}\""), "");
    let error = Settings::parse(&unpinned).unwrap_err().to_string();
    assert!(error.contains("bento.example.org:2222"), "{error}");
    assert!(error.contains("bento host-key"), "{error}");
    assert!(Settings::parse("name = \"a\"\nservers = []\n").is_err());
}
