use std::ffi::OsString;

/// A variable of the environment. An empty one counts as unset, as in Nix and most other programs.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
