use crate::{FilePath, ManifestError};

/// Checks the paths of a list, one after another: sorted bytewise, unique, and none a folder of another, so that
/// nothing is below a symlink.
///
/// It only keeps the last path. In a sorted list, all paths between "a" and "a/b" begin with "a", too (such as "a-b").
/// So every file that could be a folder of the next path is a prefix of the last one.
#[derive(Debug, Clone, Default)]
pub struct PathOrder {
    last: String,
    /// The lengths of the prefixes of `last` that are files, including `last`, shortest first.
    files: Vec<usize>,
}

impl PathOrder {
    /// Adds the next path of the list, if its order is right.
    pub fn check(&mut self, path: &FilePath) -> Result<(), ManifestError> {
        let next = path.as_str();
        if next <= self.last.as_str() {
            return Err(ManifestError::Order(path.clone()));
        }
        let pairs = self.last.bytes().zip(next.bytes());
        let common = pairs.take_while(|(one, other)| one == other).count();
        self.files.retain(|length| *length <= common);
        if self.files.iter().any(|&file| next.as_bytes()[file] == b'/') {
            return Err(ManifestError::BelowFile(path.clone()));
        }
        self.files.push(next.len());
        next.clone_into(&mut self.last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str]) -> Result<(), ManifestError> {
        let mut order = PathOrder::default();
        paths.iter().try_for_each(|path| {
            let path = format!("config/{path}").parse().unwrap();
            order.check(&path)
        })
    }

    #[test]
    fn lists_must_be_sorted_bytewise_without_doubles() {
        assert_eq!(check(&["A", "a", "a b", "a-b", "a.b", "a0", "ä"]), Ok(()));
        assert_eq!(check(&["a-b/c", "a.b", "a/b", "a/b-c", "a0/b"]), Ok(()));
        for bad in [["a", "a"], ["b", "a"], ["a/b", "a.b"], ["a", "A"]] {
            assert!(
                matches!(check(&bad), Err(ManifestError::Order(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_file_can_be_a_folder_of_a_later_one() {
        for bad in [
            &["a", "a/b"][..],
            &["a", "a-b", "a/b"],
            &["a", "a b", "a b.c/d", "a-", "a.b/c", "a/b/c"],
            &["a/b", "a/b-c", "a/b-c/d"],
        ] {
            assert!(
                matches!(check(bad), Err(ManifestError::BelowFile(_))),
                "{bad:?}"
            );
        }
        assert_eq!(check(&["a", "aa/b", "b", "b-/a"]), Ok(()));
    }
}
