//! The map of the code in docs/architecture.md: each file that it names exists.

use std::fs;
use std::path::Path;

/// The folders that a path may begin in.
const FOLDERS: [&str; 3] = ["", "appliance/src", "client/src"];

#[test]
fn each_file_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let paths: Vec<_> = quoted.filter(|quoted| quoted.ends_with(".rs")).collect();
    assert!(paths.len() > 50, "{paths:?}");
    let exists = |path: &&str| {
        FOLDERS
            .iter()
            .any(|folder| root.join(folder).join(path).exists())
    };
    let missing: Vec<_> = paths.into_iter().filter(|path| !exists(path)).collect();
    assert_eq!(missing, [""; 0]);
}
