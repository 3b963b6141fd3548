//! The relevant part of the output of a failed Nix.

/// The most lines of Nix's output: enough for an error with its place in the source.
const LINES: usize = 30;
/// The most lines of a builder's log.
const LOG_LINES: usize = 10;
/// The most lines about caches and remote builders.
const REMOTES: usize = 3;

/// The cause of a failure in Nix's output: the last error that isn't a consequence of another, with the end of the
/// failed builder's log, or with the messages about caches and remote builders that caused it. Without any error, the
/// last lines.
pub fn essence<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.collect();
    let Some(Cause { before, error }) = Cause::find(&lines) else {
        return outdented(&lines[lines.len().saturating_sub(LOG_LINES)..]);
    };
    let mut essence = outdented(error);
    for line in log_before(before, error, LOG_LINES) {
        essence += "\n> ";
        essence += line;
    }
    for line in remotes(before, error) {
        essence += "\n";
        essence += line;
    }
    essence
}

/// The lines before an error without a place in the source: messages about caches and remote builders, and the origin
/// of the path that the error is about.
fn remotes<'a>(before: &[&'a str], error: &[&str]) -> Vec<&'a str> {
    // A failed expression or builder has nothing to do with caches.
    let has_place = |line: &&str| {
        let line = line.trim_start();
        url(line).is_some() || line.starts_with("at ") || line.contains("builder")
    };
    if error.iter().any(has_place) {
        return Vec::new();
    }
    let paths: Vec<_> = error.iter().flat_map(|line| store_paths(line)).collect();
    let mut urls = Vec::new();
    let mut found = Vec::new();
    for line in before.iter().rev() {
        let Some(url) = url(line).filter(|url| !urls.contains(url)) else {
            continue;
        };
        let is_complaint = ["error:", "warning:", "cannot "]
            .iter()
            .any(|begin| line.trim_start().starts_with(begin));
        let is_of_path = || store_paths(line).any(|path| paths.contains(&path));
        if is_complaint || is_of_path() {
            urls.push(url);
            found.push(line.trim());
        }
    }
    found.truncate(REMOTES);
    found.reverse();
    found
}

/// The first address in quotes.
fn url(line: &str) -> Option<&str> {
    line.split('\'')
        .skip(1)
        .step_by(2)
        .find(|part| part.contains("://"))
}

/// The paths in quotes.
fn store_paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('\'').skip(1).step_by(2);
    quoted.filter(|part| part.starts_with('/'))
}

/// The error that caused the others.
struct Cause<'l, 'a> {
    /// The output before it.
    before: &'l [&'a str],
    /// Its own lines.
    error: &'l [&'a str],
}

impl<'l, 'a> Cause<'l, 'a> {
    fn find(lines: &'l [&'a str]) -> Option<Self> {
        let starts: Vec<usize> = (0..lines.len())
            .filter(|index| lines[*index].trim_start().starts_with("error:"))
            .collect();
        let ends = starts.iter().skip(1).copied().chain([lines.len()]);
        let blocks: Vec<_> = starts.iter().copied().zip(ends).collect();
        let is_cause = |block: &&(usize, usize)| !is_consequence(&lines[block.0..block.1]);
        let (start, end) = *blocks.iter().rev().find(is_cause).or(blocks.last())?;
        Some(Cause {
            before: &lines[..start],
            error: &lines[start..end.min(start + LINES)],
        })
    }
}

fn outdented(lines: &[&str]) -> String {
    let indent = lines
        .first()
        .map_or(0, |line| line.len() - line.trim_start().len());
    let lines = lines.iter().map(|line| match line.get(indent..) {
        Some(rest) if line[..indent].trim().is_empty() => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The end of the failed builder's log. Nix puts it into the error itself, except with `--print-build-logs`, which
/// bento uses.
fn log_before<'a>(before: &[&'a str], error: &[&str], count: usize) -> Vec<&'a str> {
    let has_log = error.iter().any(|line| line.contains("log lines:"));
    let is_builders = error
        .iter()
        .any(|line| line.contains("builder") && line.contains("failed"));
    if has_log || !is_builders {
        return Vec::new();
    }
    // `nix build` puts the derivation's name before each line, `nix-build` doesn't.
    let prefix = derivation(error[0]).map(|name| format!("{name}> "));
    let own = |line: &&'a str| {
        prefix
            .as_ref()
            .and_then(|prefix| line.strip_prefix(prefix.as_str()))
    };
    let mut log: Vec<&str> = before.iter().filter_map(own).collect();
    if log.is_empty() {
        let begun = before
            .iter()
            .rposition(|line| line.starts_with("building '"));
        log = before[begun.map_or(0, |index| index + 1)..].to_vec();
    }
    log.split_off(log.len().saturating_sub(count))
}

/// The name in `… '/nix/store/<32 digits>-<name>.drv' …`.
fn derivation(line: &str) -> Option<&str> {
    let path = line.split('\'').find(|part| part.ends_with(".drv"))?;
    let (_, name) = path.rsplit_once('/')?.1.split_once('-')?;
    name.strip_suffix(".drv")
}

/// Whether an error only reports a failed dependency, or only begins a trace.
fn is_consequence(block: &[&str]) -> bool {
    let first = block.first().map_or("", |line| line.trim());
    first == "error:"
        || first.starts_with("error: some substitutes for ")
        || first.contains("of derivation") && first.contains("failed to build")
        || first.starts_with("error: build of ")
        || block
            .iter()
            .any(|line| line.trim_start().starts_with("Reason: ") && line.contains("dependenc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_builder_is_named_rather_than_what_depends_on_it() {
        let old = "building '/nix/store/x-broken.drv'...\n\
                   error: builder for '/nix/store/x-broken.drv' failed with exit code 1;\n       \
                   last 1 log lines:\n       > no such thing\n       \
                   For full logs, run 'nix log /nix/store/x-broken.drv'.\n\
                   error: 1 dependencies of derivation '/nix/store/y-system.drv' failed to build";
        let said = essence(old.lines());
        assert!(
            said.starts_with("error: builder for '/nix/store/x-broken.drv' failed"),
            "{said}"
        );
        assert!(said.contains("> no such thing"), "{said}");
        assert!(!said.contains("y-system"), "{said}");

        let new = "error: Cannot build '/nix/store/x-broken.drv'.\n       \
                   Reason: builder failed with exit code 1.\n       Last 1 log lines:\n       > no such thing\n\
                   error: Cannot build '/nix/store/y-system.drv'.\n       Reason: 1 dependency failed.\n       \
                   Output paths:\n         /nix/store/y-system";
        let said = essence(new.lines());
        assert!(
            said.starts_with("error: Cannot build '/nix/store/x-broken.drv'"),
            "{said}"
        );
    }

    #[test]
    fn an_evaluation_error_comes_without_its_trace() {
        let output = "warning: something\nerror:\n       … while calling the 'derivationStrict' builtin\n\n         \
                      at <nix/derivation-internal.nix>:34:12:\n\n       error: undefined variable 'pkgz'\n\n       \
                      at /nix/store/x-source/configuration.nix:3:5:\n\n            2| {\n            3|   pkgz\n";
        let said = essence(output.lines());
        assert!(
            said.starts_with("error: undefined variable 'pkgz'\n\nat /nix/store/x-source"),
            "{said}"
        );
        assert!(said.ends_with("     3|   pkgz"), "{said}");
    }

    #[test]
    fn the_log_before_an_error_is_added_to_it() {
        let flake = "system> compiling\nother> fine\nsystem> no such thing\n\
                     error: builder for '/nix/store/x-system.drv' failed with exit code 3";
        assert!(
            essence(flake.lines())
                .ends_with("failed with exit code 3\n> compiling\n> no such thing"),
            "{}",
            essence(flake.lines())
        );
        let classic = "these 1 derivations will be built:\nbuilding '/nix/store/x-system.drv'...\nno such thing\n\
                       error: builder for '/nix/store/x-system.drv' failed with exit code 3";
        assert!(essence(classic.lines()).ends_with("failed with exit code 3\n> no such thing"));
    }

    #[test]
    fn without_an_error_the_last_lines_are_the_essence() {
        let output: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
        let said = essence(output.iter().map(String::as_str));
        assert_eq!(said.lines().next(), Some("line 10"));
        assert_eq!(essence(std::iter::empty()), "");
    }

    // Issue 10, line 22. As Nix 2.8 says it.
    #[test]
    fn a_remote_builder_or_a_cache_that_fails_is_named() {
        let builder = "this derivation will be built:\n  /nix/store/x-system.drv\n\
            cannot build on 'ssh://root@fast': error: cannot connect to 'root@fast': ssh: connect to host fast port 22: \
            Connection refused\nFailed to find a machine for remote build!\n\
            error: unable to start any build; remote machines may not have all required system features.";
        let damaged = "copying path '/nix/store/x-dep' from 'http://cache.lan'...\n\
            copying path '/nix/store/y-dep' from 'http://other.lan'...\n\
            error: hash mismatch importing path '/nix/store/x-dep';\n\
            error: some substitutes for the outputs of derivation '/nix/store/x-dep.drv' failed (usually happens due to \
            networking issues); try '--fallback' to build derivation from source\n\
            error: 1 dependencies of derivation '/nix/store/z-system.drv' failed to build";
        let proxy = "warning: error: unable to download 'http://a.lan/x': Couldn't connect to server (7); retrying in 1 ms\n\
            warning: error: unable to download 'http://a.lan/x': Couldn't connect to server (7); retrying in 2 ms\n\
            error: unable to download 'http://a.lan/x': Couldn't connect to server (7)";
        for (said, expected) in [
            (
                builder,
                vec![
                    "error: unable to start",
                    "cannot build on 'ssh://root@fast'",
                ],
            ),
            (
                damaged,
                vec!["error: hash mismatch importing", "from 'http://cache.lan'"],
            ),
            (proxy, vec!["error: unable to download 'http://a.lan/x'"]),
        ] {
            let essence = essence(said.lines());
            let lines: Vec<_> = essence.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{essence}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.contains(expected), "{expected:?} isn't in {essence}");
            }
        }
        let own = "warning: unable to download 'http://cache.lan/nix-cache-info': Couldn't connect to server (7)\n\
            error: undefined variable 'pkgz'\n       at /nix/store/x-source/flake.nix:1:2:";
        assert!(!essence(own.lines()).contains("cache.lan"));
    }
}
