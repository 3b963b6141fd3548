//! Resolution of paths in a tree with symlinks.

/// The most symlinks in one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// Resolves all symlinks of a path; the result is empty for the tree's root, and needn't exist. `target_of` returns the
/// target of the symlink at a path. None for a loop, or a target outside of the tree.
pub fn real_path<'t>(path: &str, target_of: impl Fn(&str) -> Option<&'t str>) -> Option<String> {
    let parts = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
    let mut ahead = parts(path);
    let mut real = String::new();
    let mut followed = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => {}
            ".." if real.is_empty() => return None,
            ".." => real.truncate(real.rfind('/').unwrap_or(0)),
            name => {
                let folder = real.len();
                if folder > 0 {
                    real.push('/');
                }
                real.push_str(name);
                if let Some(target) = target_of(&real) {
                    followed += 1;
                    if followed > MAX_LINKS {
                        return None;
                    }
                    real.truncate(folder);
                    ahead.extend(parts(target));
                }
            }
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 3.
    #[test]
    fn a_path_is_followed_through_every_symlink() {
        let target_of = |path: &str| match path {
            "a/up" => Some("../b"),
            "b/c" => Some("d"),
            "loop" => Some("./loop"),
            "one" => Some("two"),
            "two" => Some("one"),
            "here" => Some("."),
            "out" => Some(".."),
            _ => None,
        };
        for (path, real) in [
            ("", Some("")),
            ("x/y", Some("x/y")),
            ("a/up", Some("b")),
            ("a/up/c/e", Some("b/d/e")),
            ("here/here/a//./up", Some("b")),
            ("a/up/../z", Some("z")),
            ("loop", None),
            ("one/x", None),
            ("out", None),
        ] {
            assert_eq!(real_path(path, target_of).as_deref(), real, "{path}");
        }
    }
}
