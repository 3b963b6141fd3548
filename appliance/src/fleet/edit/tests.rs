use super::super::read;
use super::*;

const ONE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
const TWO: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

/// A fleet with the machines a and b in one style of TOML; each part is separate, so that the expected rest is known.
struct Style {
    above: &'static str,
    a: &'static str,
    between: &'static str,
    b: &'static str,
    below: &'static str,
}

const STYLES: [Style; 11] = [
    Style {
        above: "# The fleet.\n[server]\naddress = \"x\"   # dialled\n\n# The house.\n\n",
        a: "# a's own.\n[hosts.a]\nkeys = [ ] # none\n# reboot = \"never\"\n\n",
        between: "# The garden.\n\n# b's own.\n",
        b: "[hosts.b]\nkeys = []\n",
        below: "\n# The end.\n",
    },
    Style {
        above: "[server]\naddress = \"x\"\n",
        a: "[hosts.a]\n  keys = []\n  [hosts.a.reboot_window]\n  from = \"02:00\"\n  to = \"05:00\"\n",
        between: "# b's own.\n",
        b: "[hosts.b]\n",
        below: "[defaults]\npaused = false\n",
    },
    Style {
        above: "[server]\naddress = \"x\"\n[hosts]\n",
        a: "a.keys = [\n  # none\n]\na.silent_after = \"2d\" # a\n",
        between: "",
        b: "b.keys = []\n",
        below: "\n[publish]\nwhen = \"change\"\n",
    },
    Style {
        above: "server.address = \"x\"\n",
        a: "hosts.a.keys = []\n",
        between: "# b\n",
        b: "hosts.b.keys = []\n",
        below: "publish.when = \"change\"\n",
    },
    Style {
        above: "[server]\naddress = \"x\"\n[hosts]\n",
        a: "a = { keys = [] } # a\n",
        between: "",
        b: "b = {keys=[]}\n",
        below: "",
    },
    Style {
        above: "server = { address = \"x\" }\nhosts = { ",
        a: "a = { keys = [] }, ",
        between: "",
        b: "b = { } ",
        below: "} # all\n",
    },
    Style {
        above: "server.address = \"x\"\nhosts = { ",
        a: "a = { keys = [], }, ",
        between: "",
        b: "b = { silent_after = \"2d\", }",
        below: ", }\n",
    },
    Style {
        above: "server = { address = \"x\" }\nhosts = { ",
        a: "a.keys = [], a.reboot_window.from = \"02:00\", a.reboot_window.to = \"05:00\", ",
        between: "",
        b: "b.keys = []",
        below: " }\n",
    },
    Style {
        above: "server.address = \"x\"\nhosts = {\n  # The house.\n",
        a: "  a.keys = [], # a, mine\n",
        between: "  # b\n",
        b: "  b.keys = [],\n",
        below: "}\n",
    },
    Style {
        above: "[server]\r\naddress = \"x\"\r\n\r\n",
        a: "[hosts.a]\r\nkeys = []\r\n\r\n",
        between: "# b\r\n",
        b: "[hosts.b]\r\nkeys = []\r\n",
        below: "",
    },
    Style {
        above: "\u{feff}[server]\naddress = \"x\"\n\n",
        a: "[hosts.a]\n\n",
        between: "",
        b: "[hosts.b]",
        below: "",
    },
];

impl Style {
    fn text(&self) -> String {
        [self.above, self.a, self.between, self.b, self.below].concat()
    }
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn keys(texts: &[&str]) -> Vec<PublicKey> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn fleet(text: &str) -> super::super::Fleet {
    let reading = read(text).unwrap_or_else(|problems| panic!("{problems:?}:\n{text}"));
    assert!(
        reading.problems.is_empty(),
        "{:?}:\n{text}",
        reading.problems
    );
    reading.fleet
}

/// Whether the text is the old one with one insertion.
fn is_insertion(old: &str, new: &str) -> bool {
    let same = old
        .bytes()
        .zip(new.bytes())
        .take_while(|(old, new)| old == new);
    let head = same.count();
    (0..=head).any(|head| {
        old.is_char_boundary(head) && new.starts_with(&old[..head]) && new.ends_with(&old[head..])
    })
}

#[test]
fn removing_a_machine_keeps_all_other_lines() {
    for style in &STYLES {
        let text = style.text();
        let left = remove(&text, &[name("a")]).unwrap();
        assert_eq!(
            left,
            [style.above, style.between, style.b, style.below].concat()
        );
        let hosts = fleet(&left).hosts;
        assert_eq!(hosts.keys().collect::<Vec<_>>(), [&name("b")], "{left}");
        let none = remove(&text, &[name("b"), name("a")]).unwrap();
        assert!(fleet(&none).hosts.is_empty(), "{none}");
        for comment in
            [style.above, style.below].map(|part| part.lines().filter(|line| line.starts_with('#')))
        {
            comment.for_each(|line| assert!(none.contains(line), "{line} in {none}"));
        }
        let unknown = remove(&text, &[name("c")]).unwrap_err();
        assert_eq!(unknown, EditError::Unknown(name("c")));
    }
}

#[test]
fn additions_to_a_machine_change_nothing_else() {
    for style in &STYLES {
        let text = style.text();
        for host in ["a", "b", "c"] {
            let one = enrol(&text, &name(host), &keys(&[ONE]), None).unwrap();
            let two = enrol(&one, &name(host), &keys(&[ONE, TWO]), None).unwrap();
            let known = &fleet(&two).hosts[&name(host)].keys;
            assert_eq!(*known, keys(&[ONE, TWO]), "{two}");
            assert!(is_insertion(&one, &two), "{one}\n---\n{two}");
            assert_eq!(fleet(&two).hosts.len(), 2 + usize::from(host == "c"));
            let source: SourceTemplate = "hosts/desks".parse().unwrap();
            let sourced = enrol(&two, &name(host), &[], Some(&source)).unwrap();
            assert_eq!(
                Ok(&fleet(&sourced).hosts[&name(host)].source),
                source.of(&name(host)).as_ref()
            );
            assert!(is_insertion(&two, &sourced), "{two}\n---\n{sourced}");
            assert_eq!(
                enrol(&sourced, &name(host), &keys(&[TWO]), None).unwrap(),
                sourced
            );
            for text in [&one, &two, &sourced] {
                let lines = text.lines().count();
                let ends = text.matches("\r\n").count();
                assert!(ends == 0 || ends == lines, "{text:?}");
            }
        }
    }
}

#[test]
fn pausing_and_resuming_change_one_value_of_one_machine() {
    for style in &STYLES {
        let text = style.text();
        for host in ["a", "b"] {
            let paused = set_paused(&text, &[name(host)], true).unwrap();
            let other = if host == "a" { "b" } else { "a" };
            assert!(is_insertion(&text, &paused), "{text}\n---\n{paused}");
            let hosts = fleet(&paused).hosts;
            assert!(
                hosts[&name(host)].paused && !hosts[&name(other)].paused,
                "{paused}"
            );
            assert_eq!(set_paused(&paused, &[name(host)], true).unwrap(), paused);
            let resumed = set_paused(&paused, &[name(host)], false).unwrap();
            let as_before = resumed.replace("{  }", "{ }");
            assert_eq!(as_before.trim_end(), text.trim_end());
            let both = set_paused(&text, &[name("a"), name("b")], true).unwrap();
            assert!(
                fleet(&both).hosts.values().all(|host| host.paused),
                "{both}"
            );
        }
    }
    let defaults = "[server]\naddress = \"x\"\n[defaults]\npaused = true\n[hosts.a]\n";
    let resumed = set_paused(defaults, &[name("a")], false).unwrap();
    assert_eq!(resumed, format!("{defaults}paused = false\n"));
    assert_eq!(set_paused(&resumed, &[name("a")], true).unwrap(), defaults);
    for kept in [
        "[hosts.a]\npaused = true # till Monday\n",
        "hosts.a.paused = true\n",
    ] {
        let resumed = set_paused(kept, &[name("a")], false).unwrap();
        assert_eq!(resumed, kept.replace("true", "false"));
    }
}

#[test]
fn a_machine_in_several_places_is_removed_from_all_of_them() {
    let text =
        "hosts.a.keys = []\nhosts.b.keys = []\nhosts.a.paused = true\nserver.address = \"x\"\n";
    let left = remove(text, &[name("a")]).unwrap();
    assert_eq!(left, "hosts.b.keys = []\nserver.address = \"x\"\n");
    let text = "[hosts.a.reboot_window]\nfrom = \"02:00\"\nto = \"05:00\"\n[server]\naddress = \"x\"\n[hosts.a]\nkeys = []\n";
    let left = remove(text, &[name("a")]).unwrap();
    assert_eq!(left, "[server]\naddress = \"x\"\n");
    let only =
        "[server]\naddress = \"x\"\n\n[hosts.a.reboot_window]\nfrom = \"02:00\"\nto = \"05:00\"\n";
    assert!(fleet(&set_paused(only, &[name("a")], true).unwrap()).hosts[&name("a")].paused);
}

#[test]
fn dotted_keys_are_removed_with_their_machine_and_no_others() {
    let text = |hosts: &str| format!("server.address = \"x\"\nhosts = {{ {hosts} }}\n");
    let mixed = text("a.keys = [], b.keys = [], a.source = \"x\"");
    assert_eq!(remove(&mixed, &[name("a")]).unwrap(), text("b.keys = []"));
    let left = remove(&mixed, &[name("b")]).unwrap();
    assert_eq!(left, text("a.keys = [], a.source = \"x\""));
    assert!(
        fleet(&remove(&left, &[name("a")]).unwrap())
            .hosts
            .is_empty()
    );
    let only = text("a.paused = true");
    let resumed = set_paused(&only, &[name("a")], false).unwrap();
    assert_eq!(resumed, text("a.paused = false"));
    for text in ["hosts = { a = { }, }\n", "hosts = {\n a = { },\n}\n"] {
        let text = format!("server.address = \"x\"\n{text}");
        let none = remove(&text, &[name("a")]).unwrap();
        assert!(fleet(&none).hosts.is_empty(), "{none}");
    }
}

#[test]
fn a_machine_keeps_an_inherited_key_beside_a_new_one() {
    let defaults =
        format!("[server]\naddress = \"x\"\n[defaults]\nkeys = [\"{ONE}\"]\n[hosts.a]\n");
    let same = enrol(&defaults, &name("a"), &keys(&[ONE]), None).unwrap();
    assert_eq!(same, defaults);
    let both = enrol(&defaults, &name("a"), &keys(&[TWO]), None).unwrap();
    assert_eq!(fleet(&both).hosts[&name("a")].keys, keys(&[ONE, TWO]));
    // It was refused because another machine has the key.
    let text = format!("{defaults}[hosts.b]\n");
    let own = enrol(&text, &name("b"), &keys(&[TWO]), None).unwrap();
    let hosts = fleet(&own).hosts;
    let of = |host: &str| &hosts[&name(host)].keys;
    assert_eq!((of("a"), of("b")), (&keys(&[ONE]), &keys(&[TWO])));
}

#[test]
fn a_file_that_is_no_fleet_is_an_error() {
    assert!(matches!(
        remove("[hosts", &[name("a")]),
        Err(EditError::Syntax(_))
    ));
    for text in ["hosts = 1\n", "hosts.a = 1\n", "[hosts.a]\nkeys = 1\n"] {
        let error = enrol(text, &name("a"), &keys(&[ONE]), None).unwrap_err();
        let line = text.lines().count();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("line {line}: ")),
            "{text}: {message}"
        );
        assert!(message.contains(": write "), "{text}: {message}");
    }
}

#[test]
fn a_comment_on_an_inline_entry_survives_the_removal_of_the_next_one() {
    let server = "server.address = \"x\"\n";
    let text = |entries: &str| format!("{server}hosts = {{{entries}}}\n");
    for (before, after) in [
        (" a = {}, # at home\n  b = {} ", " a = {}, # at home\n   "),
        (
            "\n  a = {}, # at home\n  b = {}, ",
            "\n  a = {}, # at home\n   ",
        ),
    ] {
        let left = remove(&text(before), &[name("b")]).unwrap();
        assert_eq!(left, text(after));
        assert_eq!(fleet(&left).hosts.len(), 1);
    }
    for entries in [
        " a = {\n  paused = true, # till Monday\n} ",
        " a.keys = [],\n  a.paused = true # till Monday\n",
    ] {
        let resumed = set_paused(&text(entries), &[name("a")], false).unwrap();
        assert_eq!(resumed, text(entries).replace("true", "false"));
    }
}

// Issue 10, line 28.
#[test]
fn renaming_a_machine_changes_nothing_else() {
    for style in &STYLES {
        let text = style.text();
        let new = name("new-a");
        let renamed = rename(&text, &name("a"), &new).unwrap();
        let (before, after) = (fleet(&text), fleet(&renamed));
        assert_eq!(after.hosts.len(), before.hosts.len(), "{renamed}");
        assert!(!after.hosts.contains_key(&name("a")), "{renamed}");
        let (old, host) = (&before.hosts[&name("a")], &after.hosts[&new]);
        assert_eq!(host.renamed_from, Some(name("a")));
        assert_eq!((&host.keys, &host.terms), (&old.keys, &old.terms));
        assert_eq!(after.hosts[&name("b")], before.hosts[&name("b")]);
        let comments = |text: &str| text.matches('#').count();
        assert_eq!(comments(&renamed), comments(&text), "{renamed}");
        let taken = rename(&text, &name("a"), &name("b")).unwrap_err();
        assert_eq!(taken, EditError::Taken(name("b")));
    }
}
