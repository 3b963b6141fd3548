use std::fmt;
use std::path::Path;

use bento_protocol::{HostName, text_type};

use super::template::Template;

/// A folder of the fleet: relative to it, `/`-separated, or `.` for the fleet folder itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePath(String);

text_type!(SourcePath(String));

impl SourcePath {
    /// The default folder of a machine's configuration.
    pub fn default_of(host: &HostName) -> Self {
        SourcePath(format!("hosts/{host}"))
    }

    /// The path, relative to the fleet folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl std::str::FromStr for SourcePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim_end_matches('/').trim_start_matches("./");
        if matches!(trimmed, "" | ".") && !text.starts_with('/') && !text.is_empty() {
            return Ok(SourcePath(".".into()));
        }
        let stays = trimmed
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
        let private = ["bento-secrets", ".bento", ".git"]
            .iter()
            .any(|name| Path::new(trimmed).starts_with(name));
        if !stays || private || text.starts_with('/') || text.chars().any(char::is_control) {
            return Err(format!(
                "{text:?} can't be a source: name a folder below the fleet folder, such as \"hosts/kikimora\", \
                 or \".\" for the fleet folder itself"
            ));
        }
        Ok(SourcePath(trimmed.to_owned()))
    }
}

/// A [`SourcePath`] with `{name}` as a placeholder for the machine's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTemplate(Template);

text_type!(SourceTemplate);

impl SourceTemplate {
    /// The source of a machine.
    ///
    /// # Errors
    /// When the path with its name can't be a source.
    pub fn of(&self, name: &HostName) -> Result<SourcePath, String> {
        self.0.of(name).parse()
    }
}

impl std::str::FromStr for SourceTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<SourcePath>()?;
        text.parse().map(SourceTemplate)
    }
}

impl fmt::Display for SourceTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_stays_in_the_fleet_folder() {
        for (text, path) in [
            (".", "."),
            ("./", "."),
            ("hosts/a/", "hosts/a"),
            ("./hosts/a", "hosts/a"),
        ] {
            assert_eq!(text.parse::<SourcePath>().unwrap().as_str(), path);
        }
        for bad in [
            "",
            "/",
            "/etc",
            "..",
            "hosts/../../etc",
            "hosts//a",
            "bento-secrets/a",
            ".bento",
            ".git/x",
        ] {
            assert!(bad.parse::<SourcePath>().is_err(), "{bad:?}");
        }
    }
}
