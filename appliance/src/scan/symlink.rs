//! Classification of symlinks: published as symlinks, or followed.

use std::path::Path;

use bento_protocol::{Area, FilePath, Symlink, SymlinkError};

/// Treatment of a symlink.
#[derive(Debug)]
pub(super) enum LinkKind {
    /// Published as a symlink: its target is inside the same published folder.
    Kept(Symlink),
    /// Followed: its target is outside of that, and is published in its place.
    Followed,
    /// An error, with advice.
    Wrong(String, &'static str),
}

impl LinkKind {
    /// The treatment of a symlink that a machine sees at `seen`, `depth` folders below the top of the published folder.
    /// Only its text counts.
    pub(super) fn of(area: Area, seen: &Path, depth: usize, target: &Path) -> Self {
        if target.is_absolute() {
            let what = format!("is a symlink to the absolute path {}", target.display());
            return LinkKind::Wrong(
                what,
                "make it relative, and let it stay inside the fleet folder",
            );
        }
        // Secrets hold no symlinks: a machine gets a file in its place.
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
