//! Warnings about large generations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bento_protocol::HostName;

use crate::preview::{HostPreview, Preview};
use crate::problem::Problem;
use crate::text::list::sentence;
use crate::text::size::size;

/// The size of a large generation, in bytes.
const LARGE: u64 = 512 << 20;
/// The growth that causes a warning, and the least size for it in bytes.
const TIMES: u64 = 20;
const FROM: u64 = 8 << 20;
/// The most files and folders that are listed.
const NAMED: usize = 3;

/// Warnings for large generations, and for those much larger than the published ones, whose sizes are in `published`.
pub fn large(preview: &Preview, published: &BTreeMap<HostName, u64>) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (name, host_preview) in &preview.machines {
        let Some(host_preview) = host_preview else {
            continue;
        };
        let bytes = host_preview.tree.files().map(|file| file.stamp.size).sum();
        let before = published.get(name).copied().filter(|before| *before > 0);
        let grown = before.filter(|before| bytes >= FROM && bytes / before >= TIMES);
        let what = match grown {
            Some(before) => format!(
                "would be {}, and the published one is {}",
                size(bytes),
                size(before)
            ),
            None if bytes >= LARGE => format!("would be {}", size(bytes)),
            None => continue,
        };
        let what = format!(
            "its generation {what}; the largest parts are {}",
            largest(host_preview)
        );
        let advice = "if the machine doesn't need this, add it to .bentoignore or exclude";
        warnings.push(Problem::new("", what, advice).of(name));
    }
    warnings
}

/// The largest files and folders at the top.
fn largest(host_preview: &HostPreview) -> String {
    let mut sizes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for file in host_preview.tree.files() {
        let parts = Path::new(file.path.as_str()).iter().take(2);
        *sizes.entry(parts.collect()).or_default() += file.stamp.size;
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let named = sizes.iter().take(NAMED);
    sentence(named.map(|(path, bytes)| format!("{} ({})", path.display(), size(*bytes))))
}
