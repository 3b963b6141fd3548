/// Examples: the page, the command line, and its effect.
pub const EXAMPLES: [(&str, &str, &str); 30] = [
    (
        "bento",
        "bento init ~/fleet --address bento.example.org",
        "create a fleet folder with examples",
    ),
    (
        "bento",
        "bento check",
        "preview the next publication, and list problems",
    ),
    (
        "bento",
        "bento status --problems",
        "machines that need attention",
    ),
    (
        "bento-init",
        "bento init --existing",
        "write a fleet.toml for the flake in this folder",
    ),
    (
        "bento-check",
        "bento check --quiet --offline",
        "before a commit: only errors and warnings",
    ),
    (
        "bento-check",
        "bento check kikimora --verbose",
        "list the files that would change for one machine",
    ),
    (
        "bento-host",
        "bento host list",
        "list the machines of fleet.toml",
    ),
    (
        "bento-host-add",
        "bento host add kikimora --key -",
        "add a machine with the key on standard input",
    ),
    (
        "bento-host-rename",
        "bento host rename kikimora leshy",
        "rename a machine",
    ),
    (
        "bento-host-pause",
        "bento host pause luna nixie",
        "keep the current generation of two machines",
    ),
    (
        "bento-build",
        "bento build --dry-run kikimora",
        "check that its configuration evaluates",
    ),
    (
        "bento-build",
        "bento build web --target root@web.example.org",
        "build its system, and run it there until the next boot",
    ),
    (
        "bento-deploy",
        "bento deploy kikimora",
        "deploy one machine first",
    ),
    (
        "bento-deploy",
        "bento deploy --dry-run",
        "show the changes only",
    ),
    (
        "bento-diff",
        "bento diff kikimora",
        "compare the running and the published generation",
    ),
    ("bento-status", "bento status --watch", "follow an update"),
    (
        "bento-status",
        "bento status --problems --exit-code",
        "for cron: exit with 1 if a machine needs attention",
    ),
    (
        "bento-logs",
        "bento logs kikimora --run latest",
        "show the newest report with its log",
    ),
    (
        "bento-flake-update",
        "bento flake-update --host kikimora nixpkgs",
        "update one input of one machine's flake",
    ),
    (
        "bento-host-key",
        "bento host-key",
        "print the key for the machines, with its fingerprint",
    ),
    (
        "bento-notify",
        "bento notify --test",
        "send a test message, and print the answer",
    ),
    (
        "bento-serve",
        "bento serve --metrics 0.0.0.0:9470",
        "serve metrics for Prometheus, too",
    ),
    (
        "bento-client",
        "bento-client check",
        "check that an update can work",
    ),
    (
        "bento-client",
        "bento-client status",
        "show the current generation and the next steps",
    ),
    (
        "bento-client-update",
        "bento-client update",
        "update now, without waiting for the timer",
    ),
    (
        "bento-client-update",
        "bento-client update --retry",
        "retry a generation that has failed",
    ),
    (
        "bento-client-hold",
        "bento-client hold --for 2d",
        "no updates for two days",
    ),
    (
        "bento-client-rollback",
        "bento-client rollback",
        "go back to the previous system",
    ),
    (
        "bento-client-status",
        "bento-client status --json",
        "print JSON for a program",
    ),
    (
        "bento-image-build",
        "bento-image build --binary bento --output bento.oci.tar",
        "create an image for podman load",
    ),
];
