//! The cause in an error of a failed run, for a cell that is too narrow for all of it.

use unicode_width::UnicodeWidthStr;

use super::cut;

/// The beginning of an error of Nix.
const NIX: &str = "error: ";
const STORE: &str = "/nix/store/";
/// The characters of a store path before its name: a hash and a hyphen.
const HASH: usize = 33;

/// As much of an error as fits into so many cells, from its cause on. In an error of the client each cause follows its
/// effect: the cause is the error of Nix, or else the end of the chain.
pub(super) fn within(error: &str, room: usize) -> String {
    if error.width() <= room {
        return error.to_owned();
    }
    let error = without_hashes(error);
    // A trace of Nix begins as an error, too.
    let nix = error
        .match_indices(NIX)
        .map(|(place, _)| &error[place + NIX.len()..])
        .find(|said| !said.trim_start().starts_with('…'));
    if let Some(said) = nix {
        return cut(said, room);
    }
    let ends = error
        .match_indices(": ")
        .map(|(place, colon)| &error[place + colon.len()..]);
    let mut fitting = ends.filter(|end| end.width() <= room);
    let last = error.rsplit(": ").next().unwrap_or(&error);
    cut(fitting.next().unwrap_or(last), room)
}

/// `broken.drv` instead of `/nix/store/<32 characters>-broken.drv`.
fn without_hashes(error: &str) -> String {
    let mut parts = error.split(STORE);
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let name = part
            .get(HASH..)
            .filter(|_| part.as_bytes()[HASH - 1] == b'-');
        match name {
            Some(name) => short.push_str(name),
            None => short.extend([STORE, part]),
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 42.
    #[test]
    fn an_error_that_does_not_fit_begins_with_its_cause() {
        let hash = "a".repeat(32);
        let builder = format!(
            "the build of generation b71fa047 failed: error: builder for '/nix/store/{hash}-greeter.drv' failed with exit \
             code 1; last 1 log lines: > no such thing"
        );
        let cases = [
            (
                "the build of generation b71fa047 failed: error: undefined variable 'pkgz' at /nix/store/x:3:5",
                40,
                "undefined variable 'pkgz' at /nix/store…",
            ),
            (
                "the build of generation b71fa047 failed: error: … while calling the 'head' builtin error: attribute \
                 'x' missing",
                22,
                "attribute 'x' missing",
            ),
            (&builder, 44, "builder for 'greeter.drv' failed with exit …"),
            (
                "the new system isn't healthy: `curl --fail http://localhost` ended with 7: curl: (7) Connection refused",
                32,
                "curl: (7) Connection refused",
            ),
            (
                "generation b71fa047 can't be pulled: the connection was cut",
                24,
                "the connection was cut",
            ),
            ("nothing fits anywhere in this error", 12, "nothing fit…"),
            ("it fits: all of it", 40, "it fits: all of it"),
        ];
        for (error, room, shown) in cases {
            assert_eq!(within(error, room), shown, "{error}");
        }
    }
}
