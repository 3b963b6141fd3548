//! Which symlinks stay symlinks.

use std::path::Path;

use bento_protocol::{Area, FilePath, Symlink, SymlinkError};

/// What becomes of a symlink.
#[derive(Debug)]
pub(super) enum LinkKind {
    /// It stays inside what is published as it is, and so stays a symlink.
    Kept(Symlink),
    /// It leaves that: what it leads to is published in its place.
    Followed,
    /// It can be neither: what is wrong, and what to do about it.
    Wrong(String, &'static str),
}

impl LinkKind {
    /// What becomes of the symlink that a machine sees at `seen`, which lies `depth` folders deep in what is published
    /// as it is. Its text alone decides.
    pub(super) fn of(area: Area, seen: &Path, depth: usize, target: &Path) -> Self {
        if target.is_absolute() {
            let what = format!("is a symlink to the absolute path {}", target.display());
            return LinkKind::Wrong(
                what,
                "make it relative, and let it stay inside the fleet folder",
            );
        }
        // Secrets hold no symlinks: whoever reads one gets a file.
        if area == Area::Secrets {
            return LinkKind::Followed;
        }
        let wrong = |what: String| LinkKind::Wrong(what, "make it shorter and plainer");
        let Some(text) = target.to_str() else {
            return wrong("is a symlink whose target isn't in UTF-8".to_owned());
        };
        let path = match FilePath::new(area, &seen.to_string_lossy()) {
            Ok(path) => path,
            Err(error) => return LinkKind::Wrong(error.to_string(), "rename or move it"),
        };
        match Symlink::new(path, text.to_owned()) {
            Ok(link) if link.climbs() <= depth => LinkKind::Kept(link),
            Ok(_) | Err(SymlinkError::Outside(..)) => LinkKind::Followed,
            Err(SymlinkError::LateParent(_, target)) => LinkKind::Wrong(
                format!(
                    "is a symlink to {target}, which has .. after another part: where that is a symlink, too, it leads \
                     elsewhere than it says"
                ),
                "let .. stand only at the start of the target",
            ),
            Err(SymlinkError::Length(_, bytes)) => {
                wrong(format!("is a symlink whose target has {bytes} bytes"))
            }
            Err(_) => wrong("is a symlink whose target has a control character".to_owned()),
        }
    }
}
