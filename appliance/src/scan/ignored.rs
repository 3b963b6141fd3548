//! Files that aren't published: those of `.gitignore` and `.bentoignore`, and those that never are.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Whether a name is never published: bento's own files, version control, build results, temporary files of editors.
pub fn is_never_published(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "fleet.toml",
        ".bento",
        "bento-secrets",
        ".git",
        ".direnv",
        "result",
        ".DS_Store",
        ".bentoignore",
    ];
    NAMES.contains(&name)
        || name.starts_with("result-")
        || name.ends_with('~')
        || (name.starts_with('.') && name.ends_with(".swp"))
        || name.starts_with(".#")
        || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'))
}

/// The ignore files of a folder and of those above it, outermost first.
#[derive(Debug, Clone, Default)]
pub struct Chain(Vec<Level>);

#[derive(Debug, Clone)]
struct Level {
    /// Relative to the fleet folder.
    folder: PathBuf,
    patterns: Patterns,
}

/// The patterns of one folder's ignore files.
#[derive(Debug, Clone)]
pub struct Patterns(Rc<Compiled>);

#[derive(Debug)]
struct Compiled {
    /// The patterns of both files.
    all: Gitignore,
    /// The patterns of `.bentoignore`, which apply to files that git tracks, too.
    own: Gitignore,
}

impl Patterns {
    /// The patterns of a `.gitignore` and a `.bentoignore`, which takes precedence; empty for a missing file.
    pub fn new(gitignore: &str, bentoignore: &str) -> Result<Self, BadPattern> {
        Ok(Patterns(Rc::new(Compiled {
            all: patterns(gitignore.lines().chain(bentoignore.lines()))?,
            own: patterns(bentoignore.lines())?,
        })))
    }
}

/// An invalid pattern of an ignore file.
#[derive(Debug)]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// The error.
    pub what: String,
}

impl Chain {
    /// The chain of a folder below, with the patterns of its own ignore files.
    pub fn below(&self, folder: &Path, patterns: Option<&Patterns>) -> Self {
        let mut chain = self.clone();
        chain.0.extend(patterns.map(|patterns| Level {
            folder: folder.to_owned(),
            patterns: patterns.clone(),
        }));
        chain
    }

    /// Whether a path, relative to the fleet folder, is ignored, if no folder above it is, and git doesn't track it.
    /// The innermost file with a matching pattern decides, as in git.
    pub fn ignores(&self, path: &Path, is_folder: bool) -> bool {
        self.names(path, is_folder, |compiled| &compiled.all)
    }

    /// Whether a path is ignored although git tracks it, or something in it: only `.bentoignore` counts.
    pub fn ignores_tracked(&self, path: &Path, is_folder: bool) -> bool {
        self.names(path, is_folder, |compiled| &compiled.own)
    }

    fn names(&self, path: &Path, is_folder: bool, of: impl Fn(&Compiled) -> &Gitignore) -> bool {
        let ignored = self.0.iter().rev().find_map(|level| {
            let below = path.strip_prefix(&level.folder).ok()?;
            match of(&level.patterns.0).matched(below, is_folder) {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            }
        });
        ignored.unwrap_or(false)
    }
}

/// The part of its source that a machine gets: without `exclude`, but with `include`.
#[derive(Debug)]
pub struct Narrowing {
    exclude: Gitignore,
    include: Gitignore,
}

impl Narrowing {
    /// The patterns of a machine's table.
    pub fn new(exclude: &[String], include: &[String]) -> Result<Self, BadPattern> {
        let compile = |lines: &[String]| patterns(lines.iter().map(String::as_str));
        Ok(Narrowing {
            exclude: compile(exclude)?,
            include: compile(include)?,
        })
    }

    /// Whether the machine gets a file, at a path relative to its source. `include` also applies to files in an
    /// excluded folder, unlike in git, where "everything but this" needs a line for each folder.
    pub fn keeps(&self, path: &Path) -> bool {
        !is_named(&self.exclude, path, false) || is_named(&self.include, path, false)
    }

    /// Whether the machine gets nothing of a folder, whatever its content.
    pub fn hides(&self, folder: &Path) -> bool {
        let brings_back = !self.include.is_empty() || self.exclude.num_whitelists() > 0;
        !brings_back && is_named(&self.exclude, folder, true)
    }
}

/// Whether patterns match a path, or a folder above it.
fn is_named(patterns: &Gitignore, path: &Path, is_folder: bool) -> bool {
    patterns
        .matched_path_or_any_parents(path, is_folder)
        .is_ignore()
}

fn patterns<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Gitignore, BadPattern> {
    // The empty root: all paths are relative to the folder of the patterns.
    let mut builder = GitignoreBuilder::new("");
    for line in lines {
        let bad = |error: ignore::Error| BadPattern {
            pattern: line.to_owned(),
            what: error.to_string(),
        };
        builder.add_line(None, line).map_err(bad)?;
    }
    builder.build().map_err(|error| BadPattern {
        pattern: String::new(),
        what: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_of_editors_and_build_results_are_never_published() {
        for name in [
            "fleet.toml",
            ".git",
            "result",
            "result-2",
            "a~",
            ".a.swp",
            ".#a.nix",
            "#a.nix#",
            "bento-secrets",
            ".bento",
        ] {
            assert!(is_never_published(name), "{name}");
        }
        for name in [
            "flake.nix",
            "results",
            ".gitignore",
            "swp",
            "a.swp",
            "#",
            "#a.nix",
            "a.nix#",
            "fleet.toml.nix",
        ] {
            assert!(!is_never_published(name), "{name}");
        }
    }

    #[test]
    fn the_innermost_ignore_file_decides() {
        let patterns = |text: &str| Patterns::new(text, "").unwrap();
        let outer = patterns("*.log\n/hosts/a/tmp/\n");
        let outer = Chain::default().below(Path::new(""), Some(&outer));
        let inner = patterns("!keep.log\n# comment\n");
        let inner = outer.below(Path::new("hosts/a"), Some(&inner));
        assert!(inner.ignores(Path::new("hosts/a/x.log"), false));
        assert!(!inner.ignores(Path::new("hosts/a/keep.log"), false));
        assert!(outer.ignores(Path::new("hosts/a/keep.log"), false));
        assert!(inner.ignores(Path::new("hosts/a/tmp"), true));
        assert!(!inner.ignores(Path::new("hosts/b/tmp"), true));
    }

    #[test]
    fn only_a_bentoignore_counts_for_tracked_files() {
        let patterns = Patterns::new("*.log\n*.tmp\n", "*.tmp\n!keep.log\n").unwrap();
        let chain = Chain::default().below(Path::new(""), Some(&patterns));
        let ignores = |path| chain.ignores(Path::new(path), false);
        assert!(ignores("a.log") && ignores("a.tmp") && !ignores("keep.log"));
        assert!(!chain.ignores_tracked(Path::new("a.log"), false));
        assert!(chain.ignores_tracked(Path::new("a.tmp"), false));
    }

    #[test]
    fn include_takes_precedence_over_exclude() {
        let list = |items: &[&str]| {
            items
                .iter()
                .map(|item| (*item).to_owned())
                .collect::<Vec<_>>()
        };
        let narrowing =
            Narrowing::new(&list(&["/hosts/*", "*.md"]), &list(&["/hosts/a/"])).unwrap();
        for (path, kept) in [
            ("flake.nix", true),
            ("hosts/a/default.nix", true),
            ("hosts/b/default.nix", false),
            ("README.md", false),
            ("hosts/a/README.md", true),
        ] {
            assert_eq!(narrowing.keeps(Path::new(path)), kept, "{path}");
        }
        let everything_but =
            Narrowing::new(&list(&["*"]), &list(&["/flake.nix", "/hosts/a/"])).unwrap();
        assert!(
            everything_but.keeps(Path::new("hosts/a/x"))
                && !everything_but.keeps(Path::new("hosts/b/x"))
        );
    }

    #[test]
    fn a_folder_is_hidden_only_if_nothing_below_can_be_included() {
        let hides = |exclude: &[&str], include: &[&str]| {
            let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
            let narrowing = Narrowing::new(&list(exclude), &list(include)).unwrap();
            narrowing.hides(Path::new("a"))
        };
        assert!(hides(&["a/"], &[]));
        assert!(!hides(&["b/"], &[]));
        assert!(!hides(&["a/"], &["*.nix"]));
        assert!(!hides(&["a/", "!a/b"], &[]));
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        assert_eq!(
            Narrowing::new(&["[z-a]".into()], &[]).unwrap_err().pattern,
            "[z-a]"
        );
    }
}
