//! What a `.gitignore` or `.bentoignore` of the fleet names, and what is never published whatever they say.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Names that are never published: the administrator's own, version control, results of builds, editors' leavings.
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

/// What the ignore files of one folder say.
#[derive(Debug, Clone)]
pub struct Patterns(Rc<Said>);

#[derive(Debug)]
struct Said {
    /// All of it.
    all: Gitignore,
    /// What counts for files that git tracks, too.
    own: Gitignore,
}

impl Patterns {
    /// From the text of a `.gitignore` and of a `.bentoignore`, which has the last word; empty where there is none.
    pub fn new(gitignore: &str, bentoignore: &str) -> Result<Self, BadPattern> {
        Ok(Patterns(Rc::new(Said {
            all: patterns(gitignore.lines().chain(bentoignore.lines()))?,
            own: patterns(bentoignore.lines())?,
        })))
    }
}

/// A line of an ignore file that isn't a pattern.
#[derive(Debug)]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub what: String,
}

impl Chain {
    /// The chain of a folder below, and what its own ignore files say.
    pub fn below(&self, folder: &Path, patterns: Option<&Patterns>) -> Self {
        let mut chain = self.clone();
        chain.0.extend(patterns.map(|patterns| Level {
            folder: folder.to_owned(),
            patterns: patterns.clone(),
        }));
        chain
    }

    /// Whether a path, relative to the fleet folder, is ignored, supposing that no folder above it is, and that git
    /// doesn't track it. The innermost file that says something about it decides, as in git.
    pub fn ignores(&self, path: &Path, is_folder: bool) -> bool {
        self.names(path, is_folder, |said| &said.all)
    }

    /// The same of what git tracks, or tracks something of: only what a `.bentoignore` says counts.
    pub fn ignores_tracked(&self, path: &Path, is_folder: bool) -> bool {
        self.names(path, is_folder, |said| &said.own)
    }

    fn names(&self, path: &Path, is_folder: bool, of: impl Fn(&Said) -> &Gitignore) -> bool {
        let verdict = self.0.iter().rev().find_map(|level| {
            let below = path.strip_prefix(&level.folder).ok()?;
            match of(&level.patterns.0).matched(below, is_folder) {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            }
        });
        verdict.unwrap_or(false)
    }
}

/// What a host gets of its source: `exclude` takes away, `include` brings back.
#[derive(Debug)]
pub struct Narrowing {
    exclude: Gitignore,
    include: Gitignore,
}

impl Narrowing {
    /// From the patterns of a host's table.
    pub fn new(exclude: &[String], include: &[String]) -> Result<Self, BadPattern> {
        let compile = |lines: &[String]| patterns(lines.iter().map(String::as_str));
        Ok(Narrowing {
            exclude: compile(exclude)?,
            include: compile(include)?,
        })
    }

    /// Whether the host gets a file, at a path relative to its source. A folder that is excluded doesn't hide what
    /// `include` names below it, unlike in git, where "everything but this" takes a line for each folder.
    pub fn keeps(&self, path: &Path) -> bool {
        !is_named(&self.exclude, path, false) || is_named(&self.include, path, false)
    }

    /// Whether the host gets nothing of a folder, whatever lies in it.
    pub fn hides(&self, folder: &Path) -> bool {
        let brings_back = !self.include.is_empty() || self.exclude.num_whitelists() > 0;
        !brings_back && is_named(&self.exclude, folder, true)
    }
}

/// Whether patterns name a path, or a folder above it.
fn is_named(patterns: &Gitignore, path: &Path, is_folder: bool) -> bool {
    patterns
        .matched_path_or_any_parents(path, is_folder)
        .is_ignore()
}

fn patterns<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Gitignore, BadPattern> {
    // The empty root: all paths are given relative to where the patterns stand.
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
    fn editors_leavings_and_results_are_never_published() {
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
        let inner = patterns("!keep.log\n# note\n");
        let inner = outer.below(Path::new("hosts/a"), Some(&inner));
        assert!(inner.ignores(Path::new("hosts/a/x.log"), false));
        assert!(!inner.ignores(Path::new("hosts/a/keep.log"), false));
        assert!(outer.ignores(Path::new("hosts/a/keep.log"), false));
        assert!(inner.ignores(Path::new("hosts/a/tmp"), true));
        assert!(!inner.ignores(Path::new("hosts/b/tmp"), true));
    }

    #[test]
    fn only_a_bentoignore_counts_for_what_git_tracks() {
        let patterns = Patterns::new("*.log\n*.tmp\n", "*.tmp\n!keep.log\n").unwrap();
        let chain = Chain::default().below(Path::new(""), Some(&patterns));
        let ignores = |path| chain.ignores(Path::new(path), false);
        assert!(ignores("a.log") && ignores("a.tmp") && !ignores("keep.log"));
        assert!(!chain.ignores_tracked(Path::new("a.log"), false));
        assert!(chain.ignores_tracked(Path::new("a.tmp"), false));
    }

    #[test]
    fn include_brings_back_what_exclude_took() {
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
    fn a_folder_is_hidden_only_where_nothing_below_can_come_back() {
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
    fn a_bad_pattern_is_told() {
        assert_eq!(
            Narrowing::new(&["[z-a]".into()], &[]).unwrap_err().pattern,
            "[z-a]"
        );
    }
}
