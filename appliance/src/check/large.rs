//! Machines that get much more than a configuration is, or than they had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bento_protocol::HostName;

use crate::preview::{HostPreview, Preview};
use crate::problem::Problem;
use crate::text::list::sentence;
use crate::text::size::size;

/// What is more than a configuration, in bytes.
const LARGE: u64 = 512 << 20;
/// How many times what it had is worth a word, and from how many bytes on.
const TIMES: u64 = 20;
const FROM: u64 = 8 << 20;
/// How many places are named.
const NAMED: usize = 3;

/// Whoever gets a large generation, or one much larger than what is published, of which `published` tells the bytes.
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
                "would be {}, and what is published is {}",
                size(bytes),
                size(before)
            ),
            None if bytes >= LARGE => format!("would be {}", size(bytes)),
            None => continue,
        };
        let what = format!(
            "its generation {what}; the most of it is {}",
            largest(host_preview)
        );
        let advice = "if it needs that, all is well; else name it in .bentoignore, or take it away with exclude";
        warnings.push(Problem::new("", what, advice).of(name));
    }
    warnings
}

/// The files and the folders at the top that are largest.
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
