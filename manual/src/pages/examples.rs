/// The page on which an example stands, what is typed, and what it does.
pub const EXAMPLES: [(&str, &str, &str); 30] = [
    (
        "bento",
        "bento init ~/fleet --address bento.example.org",
        "a fleet to begin with",
    ),
    (
        "bento",
        "bento check",
        "what would be published, and what is wrong",
    ),
    ("bento", "bento status --problems", "who needs somebody"),
    (
        "bento-init",
        "bento init --existing",
        "a fleet of the flake in this folder",
    ),
    (
        "bento-check",
        "bento check --quiet --offline",
        "before a commit: only what is wrong",
    ),
    (
        "bento-check",
        "bento check kikimora --verbose",
        "which files would be different for one machine",
    ),
    (
        "bento-host",
        "bento host list",
        "the machines of fleet.toml",
    ),
    (
        "bento-host-add",
        "bento host add kikimora --key -",
        "with the key that comes from standard input",
    ),
    (
        "bento-host-rename",
        "bento host rename kikimora leshy",
        "another name for a machine",
    ),
    (
        "bento-host-pause",
        "bento host pause luna nixie",
        "they keep the generation that they have",
    ),
    (
        "bento-build",
        "bento build --dry-run kikimora",
        "does it evaluate with what it gets?",
    ),
    (
        "bento-build",
        "bento build web --target root@web.example.org",
        "build it, and let it run there until the next boot",
    ),
    ("bento-deploy", "bento deploy kikimora", "one machine first"),
    (
        "bento-deploy",
        "bento deploy --dry-run",
        "what would go out",
    ),
    (
        "bento-diff",
        "bento diff kikimora",
        "what it runs, and what is published",
    ),
    ("bento-status", "bento status --watch", "follow an update"),
    (
        "bento-status",
        "bento status --problems --exit-code",
        "for cron",
    ),
    (
        "bento-logs",
        "bento logs kikimora --run latest",
        "the newest report, with its log",
    ),
    (
        "bento-flake-update",
        "bento flake-update --host kikimora nixpkgs",
        "one input of one machine's flake",
    ),
    (
        "bento-host-key",
        "bento host-key",
        "the key for the machines, and its fingerprint",
    ),
    (
        "bento-notify",
        "bento notify --test",
        "send one, and see what comes back",
    ),
    (
        "bento-serve",
        "bento serve --metrics 0.0.0.0:9470",
        "with numbers for Prometheus",
    ),
    (
        "bento-client",
        "bento-client check",
        "could an update work?",
    ),
    (
        "bento-client",
        "bento-client status",
        "what this machine is on, and what comes next",
    ),
    (
        "bento-client-update",
        "bento-client update",
        "ask now instead of when the timer does",
    ),
    (
        "bento-client-update",
        "bento-client update --retry",
        "try a generation again that has failed",
    ),
    (
        "bento-client-hold",
        "bento-client hold --for 2d",
        "not updated for two days",
    ),
    (
        "bento-client-rollback",
        "bento-client rollback",
        "back to what ran before",
    ),
    (
        "bento-client-status",
        "bento-client status --json",
        "for a program",
    ),
    (
        "bento-image-build",
        "bento-image build --binary bento --output bento.oci.tar",
        "for podman load",
    ),
];
