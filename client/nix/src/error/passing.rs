use super::{Cause, log_before};

/// The most lines of a builder's log, or of git's output, in which a reason is looked for: what stumbles over a full
/// disk or a dead network often says more afterwards.
const LOOK_BACK: usize = 100;

/// What only the machine, the network or a server is to blame for, as Nix and its libraries put it, from 2.8 to 2.35
/// and in Lix.
const OURS: [&str; 32] = [
    // the network, also through git and ssh
    "could not resolve",
    "couldn't resolve",
    "name or service not known",
    "temporary failure in name resolution",
    "couldn't connect to server",
    "could not connect to server",
    "failed to connect",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection closed by",
    "operation timed out",
    "network is unreachable",
    "no route to host",
    "early eof",
    "the remote end hung up",
    "gnutls",
    "tls connect error",
    "ssl connect error",
    "usually happens due to networking issues",
    // a full disk or memory
    "no space left on device",
    "disk quota exceeded",
    "disk is full",
    "lack of free disk space",
    "cannot allocate memory",
    "bad_alloc",
    // the store's and the evaluator's databases
    "' is busy",
    "database is locked",
    // the daemon
    "cannot connect to socket",
    "daemon disconnected",
    "unexpected end-of-file",
    "broken pipe",
];

/// What a builder is killed with from outside, by the kernel for want of memory or with Nix itself.
const KILLED: [&str; 4] = [
    "failed due to signal 1 ",
    "failed due to signal 2 ",
    "failed due to signal 9 ",
    "failed due to signal 15 ",
];

/// What git says of a repository that is there and hasn't what is asked for, or doesn't want to give it.
const GITS_REFUSALS: [&str; 7] = [
    "ambiguous argument",
    "does not appear to be a git repository",
    "not found",
    "couldn't find remote ref",
    "authentication failed",
    "permission denied",
    "could not read username",
];

/// Whether what Nix said is a failure that may pass by itself: of the network or a server on it, of a full disk or
/// memory, of a lock, of the daemon, or an interruption. What a configuration fails for by itself doesn't: an
/// evaluation error, a builder that fails, a wrong hash, a file that isn't there.
///
/// Only the error counts that the others follow from, and what belongs to it: of the log of a builder only what a
/// downloader or the disk is known to say, because tests of all kinds talk about timeouts. A builder without network
/// that tries to download all the same can't be told from one that was let down; it is tried again in vain.
pub fn is_passing<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let lines: Vec<&str> = lines.collect();
    let Some(Cause { before, error }) = Cause::find(&lines) else {
        // It came to no error: a crash, which says so in its last lines, or nothing at all.
        return lines.iter().rev().take(LOOK_BACK).any(|line| is_full(line));
    };
    is_passing_error(error)
        || log_before(before, error, LOOK_BACK)
            .iter()
            .any(|line| is_passing_in_a_log(line))
        || gits_part(before, error).is_some_and(|said| is_passing_for_git(&said, error))
}

fn is_passing_error(error: &[&str]) -> bool {
    let is_limited = || {
        error
            .iter()
            .any(|line| line.to_lowercase().contains("rate limit"))
    };
    error.iter().filter(|line| !is_source(line)).any(|line| {
        if let Some(log) = line.trim_start().strip_prefix("> ") {
            return is_passing_in_a_log(log);
        }
        if let Some(is_passing) = download(line) {
            return is_passing || is_limited();
        }
        let line = line.to_lowercase();
        OURS.iter().chain(&KILLED).any(|ours| line.contains(ours))
            || line.contains("timed out after ")
            || line.contains("interrupted by the user")
            || line.contains("was interrupted")
    })
}

/// A line of the source code that an error quotes.
fn is_source(line: &str) -> bool {
    line.trim_start()
        .trim_start_matches(|character: char| character.is_ascii_digit())
        .starts_with('|')
}

/// What a failed transfer of Nix's own means; none if the line isn't about one.
fn download(line: &str) -> Option<bool> {
    let at = ["unable to download '", "unable to upload '"]
        .iter()
        .find_map(|verb| line.find(verb).map(|at| at + verb.len()))?;
    let (_, why) = line[at..].split_once("': ")?;
    if let Some(status) = why.strip_prefix("HTTP error ") {
        return Some(is_passing_status(number(status)?));
    }
    // `Could not resolve hostname (6) …`, or Lix's `… (curl error code=6)`: curl's text and its number.
    let (_, code) = why.split_once(" (")?;
    let code = code.strip_prefix("curl error code=").unwrap_or(code);
    Some(is_passing_curl(number(code)?))
}

/// Whether a server that answers so may answer otherwise later.
fn is_passing_status(status: u32) -> bool {
    match status {
        // The answer was good, its transfer wasn't.
        ..400 => true,
        408 | 425 | 429 => true,
        501 | 505 => false,
        // 511 among them: somebody has yet to log in to the network.
        500.. => true,
        _ => false,
    }
}

/// Whether curl may succeed later after it has ended with this code (libcurl-errors(3)): after all but those for what
/// was asked, and for a file that isn't there. A certificate that doesn't verify is often the work of a network that
/// wants a login, or of a wrong clock.
fn is_passing_curl(code: u32) -> bool {
    const HOPELESS: [u32; 8] = [1, 3, 4, 22, 37, 43, 47, 61];
    !HOPELESS.contains(&code)
}

fn number(text: &str) -> Option<u32> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

/// A line that a builder wrote.
fn is_passing_in_a_log(line: &str) -> bool {
    if let Some(is_passing) = download(line) {
        return is_passing;
    }
    if let Some(rest) = line.trim_start().strip_prefix("curl: (") {
        // 22: the server answered with an error.
        return match rest.split_once("returned error: ") {
            Some((_, status)) => number(status).is_some_and(is_passing_status),
            None => number(rest).is_some_and(is_passing_curl),
        };
    }
    is_full(line) || is_of_git(line) && is_ours(line)
}

fn is_full(line: &str) -> bool {
    let line = line.to_lowercase();
    [
        "no space left on device",
        "disk quota exceeded",
        "bad_alloc",
        "cannot allocate memory",
    ]
    .iter()
    .any(|full| line.contains(full))
}

fn is_ours(line: &str) -> bool {
    let line = line.to_lowercase();
    OURS.iter().any(|ours| line.contains(ours))
}

/// A line in which git or the ssh that it runs says why it fails. They write it to Nix's own output.
fn is_of_git(line: &str) -> bool {
    ["fatal: ", "ssh: ", "error: RPC failed", "remote: "]
        .iter()
        .any(|begin| line.starts_with(begin))
        || line.starts_with("kex_exchange_identification: ")
        || line.starts_with("Connection closed by ")
}

/// What git said before an error that is about a git repository; none if it isn't.
fn gits_part<'a>(before: &[&'a str], error: &[&str]) -> Option<Vec<&'a str>> {
    let is_about_git = error.iter().any(|line| {
        is_gits_failure(line) || line.contains("Git reference") || line.contains("Git revision")
    });
    is_about_git.then(|| {
        let last = &before[before.len().saturating_sub(LOOK_BACK)..];
        last.iter()
            .copied()
            .filter(|line| is_of_git(line))
            .collect()
    })
}

/// Whether git itself was run and failed: `program 'git' failed …`, `Failed to fetch git repository …`.
fn is_gits_failure(line: &str) -> bool {
    let line = line.to_lowercase();
    line.contains("failed to fetch git repository")
        || line.contains("program ") && line.contains("git") && line.contains(" failed")
}

fn is_passing_for_git(said: &[&str], error: &[&str]) -> bool {
    let refuses = |line: &&str| {
        let line = line.to_lowercase();
        GITS_REFUSALS.iter().any(|refusal| line.contains(refusal))
    };
    let has_failed = error.iter().any(|line| is_gits_failure(line));
    said.iter().any(|line| is_ours(line)) || has_failed && !said.iter().any(refuses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(output: &str) -> bool {
        is_passing(output.lines())
    }

    #[test]
    fn what_the_network_does_may_pass() {
        for output in [
            "error: unable to download 'https://a.invalid/x': Couldn't resolve host name (6)\n\
             (use '--show-trace' to show detailed location information)",
            "error: unable to download 'https://a.invalid/x': Could not resolve hostname (6) Could not resolve host: a.invalid",
            "error: unable to download 'https://a.invalid/x': Could not resolve hostname (curl error code=6)",
            "error: unable to download 'https://a/x': Timeout was reached (28)",
            "error: unable to download 'https://a/x': SSL peer certificate or SSH remote key was not OK (60)",
            "error: unable to download 'https://a/x': HTTP error 200 (curl error: Transferred a partial file)",
            "error: unable to download 'https://a/x': HTTP error 429 ('Too Many Requests')",
            "error: unable to download 'https://a/x': HTTP error 503",
            "error: unable to download 'https://a/x': HTTP error 511",
            "error: unable to download 'https://api.github.com/x': HTTP error 403\n\n       response body:\n\n       \
             {\"message\":\"API rate limit exceeded for 192.0.2.1\"}",
            "error:\n       … while fetching the input 'https://a/x.tar.gz'\n\n       \
             error: Failed to open archive (Source threw exception: error: unable to download 'https://a/x.tar.gz': \
             Could not connect to server (7) Failed to connect to a port 443 after 0 ms: Could not connect to server)",
            "error: some substitutes for the outputs of derivation '/nix/store/x-y.drv' failed (usually happens due to \
             networking issues); try '--fallback' to build derivation from source\n\
             error: 1 dependencies of derivation '/nix/store/y-system.drv' failed to build",
        ] {
            assert!(judge(output), "{output}");
        }
    }

    #[test]
    fn what_a_server_says_of_a_file_stays() {
        for output in [
            "error: unable to download 'https://a/x': HTTP error 404 ('Not Found')",
            "error: unable to download 'https://a/x': HTTP error 404\n\n       response body:\n\n       404: Not Found",
            "error: unable to download 'https://a/503': HTTP error 410",
            "error: unable to download 'https://a/x': HTTP error 401",
            "error: unable to download 'file:///x': Couldn't read a file:// file (37)",
            "error: unable to download 'gopher:x': Unsupported protocol (1)",
            "error: unable to download 'https://a/x': HTTP error 404 (Not Found)",
            "error: unable to download 'gopher:x': Unsupported protocol (curl error code=1)",
        ] {
            assert!(!judge(output), "{output}");
        }
    }

    #[test]
    fn git_is_judged_by_what_it_said_itself() {
        let old = "error: program 'git' failed with exit code 128";
        let newest = "error: program \"git\" failed with exit code 128";
        let new = "warning: could not read HEAD ref from repo at 'https://a.invalid/x.git', using 'master'\nerror:\n       \
                   … while fetching the input 'git+https://a.invalid/x.git'\n\n       \
                   error: resolving Git reference 'master': revspec 'master' not found";
        let fetch = "error: Failed to fetch git repository 'https://a.invalid/x.git'";
        for error in [old, newest, new, fetch] {
            for passing in [
                "fatal: unable to access 'https://a.invalid/x.git/': Could not resolve host: a.invalid",
                "ssh: connect to host 127.0.0.1 port 1: Connection refused\n\
                 fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights",
            ] {
                assert!(judge(&format!("{passing}\n{error}")), "{passing}\n{error}");
            }
            for own in [
                "fatal: '/nonexistent' does not appear to be a git repository\n\
                 fatal: Could not read from remote repository.",
                "fatal: ambiguous argument 'nope': unknown revision or path not in the working tree.",
                "remote: Repository not found.\nfatal: repository 'https://a/x' not found",
            ] {
                assert!(!judge(&format!("{own}\n{error}")), "{own}\n{error}");
            }
        }
        assert!(judge(old), "git that says nothing was killed");
        assert!(!judge(new.split_once('\n').unwrap().1));
        assert!(!judge(
            "error: Cannot find Git revision '1111' in ref 'main' of repository '/r'! Please make sure …"
        ));
    }

    #[test]
    fn what_the_machine_lacks_may_come_back() {
        for output in [
            "error: writing to file: No space left on device",
            "error: setting journal mode: database or disk is full, database or disk is full (in '/x/db.sqlite')",
            "/bin/head: error writing 'standard output': No space left on device\n\
             error: builder for '/nix/store/x-y.drv' failed with exit code 1\n       \
             note: build failure may have been caused by lack of free disk space",
            "y> cc: fatal error: error writing to /build/a.s: No space left on device\ny> make: *** [a.o] Error 1\n\
             error: builder for '/nix/store/x-y.drv' failed with exit code 2",
            "error: Cannot build '/nix/store/x-y.drv'.\n       Reason: builder failed with exit code 1.\n       \
             Last 1 log lines:\n       > tar: x: Cannot write: No space left on device",
            "error: builder for '/nix/store/x-y.drv' failed due to signal 9 (Killed)",
            "error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused",
            "error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': No such file or directory",
            "error: Nix daemon disconnected unexpectedly (maybe it crashed?)",
            "error: unexpected end-of-file",
            "error: SQLite database '/nix/var/nix/db/db.sqlite' is busy",
            "error: interrupted by the user",
            "error: building of '/nix/store/x-y.drv!out' from .drv file timed out after 60 seconds of silence",
            "terminate called after throwing an instance of 'std::bad_alloc'",
        ] {
            assert!(judge(output), "{output}");
        }
    }

    #[test]
    fn a_fetcher_that_was_let_down_may_succeed_later() {
        let ended = "error: builder for '/nix/store/x-a.tar.gz.drv' failed with exit code 1";
        for passing in [
            "curl: (6) Could not resolve host: a.invalid",
            "curl: (22) The requested URL returned error: 503",
            "curl: (28) Connection timed out after 15000 milliseconds",
            "fatal: unable to access 'https://a/x': Could not resolve host: a",
            "error: unable to download 'http://127.0.0.1:1/x': Couldn't connect to server (7)",
        ] {
            let flake = format!(
                "a.tar.gz> {passing}\na.tar.gz> error: cannot download a from any mirror\n{ended}"
            );
            assert!(judge(&flake), "{flake}");
            let classic = format!("building '/nix/store/x-a.tar.gz.drv'...\n{passing}\n{ended}");
            assert!(judge(&classic), "{classic}");
        }
        assert!(!judge(&format!(
            "a.tar.gz> curl: (22) The requested URL returned error: 404\n{ended}"
        )));
    }

    #[test]
    fn a_failure_of_its_own_stays_whatever_else_was_said() {
        for output in [
            "",
            "warning: unable to download 'https://cache/nix-cache-info': Couldn't connect to server (7)\n\
             building '/nix/store/x-y.drv'...\nerror: builder for '/nix/store/x-y.drv' failed with exit code 1",
            "y> test dials: connection timed out\ny> curl is missing\n\
             error: builder for '/nix/store/x-y.drv' failed with exit code 1",
            "other> curl: (6) Could not resolve host: a\n\
             error: builder for '/nix/store/x-y.drv' failed with exit code 1",
            "error: Cannot build '/nix/store/x-y.drv'.\n       Reason: builder failed with exit code 1.\n       \
             Last 1 log lines:\n       > test: operation timed out",
            "error: hash mismatch in fixed-output derivation '/nix/store/x-y.drv':\n         specified: sha256-AAAA=\n            \
             got:    sha256-mOpu=",
            "error: undefined variable 'pkgz'\n\n       at /nix/store/x-source/configuration.nix:3:5:\n\n            \
             2| # connection refused, no space left on device\n            3|   pkgz",
            "error: builder for '/nix/store/x-y.drv' failed due to signal 11 (Segmentation fault)",
        ] {
            assert!(!judge(output), "{output}");
        }
    }
}
