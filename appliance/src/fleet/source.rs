use std::fmt;
use std::path::Path;

use bento_protocol::HostName;
use serde::{Deserialize, Serialize};

use super::template::Template;

/// A folder of the fleet: relative to it, `/`-separated, or `.` for the fleet folder itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourcePath(String);

impl SourcePath {
    /// Where a machine's configuration lies if nothing else is said.
    pub fn default_of(host: &HostName) -> Self {
        SourcePath(format!("hosts/{host}"))
    }

    /// Relative to the fleet folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<String> for SourcePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
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

impl From<SourcePath> for String {
    fn from(source: SourcePath) -> String {
        source.0
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A [`SourcePath`] in which `{name}` may stand for the machine's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SourceTemplate(Template);

impl SourceTemplate {
    /// Where one machine's configuration lies.
    ///
    /// # Errors
    /// When its name makes a path of it that can't be a source.
    pub fn of(&self, name: &HostName) -> Result<SourcePath, String> {
        self.0.of(name).try_into()
    }
}

impl TryFrom<String> for SourceTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        SourcePath::try_from(text.clone())?;
        Template::try_from(text).map(SourceTemplate)
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
            assert_eq!(
                SourcePath::try_from(text.to_owned()).unwrap().to_string(),
                path
            );
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
            assert!(SourcePath::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
