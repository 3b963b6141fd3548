use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use bento_protocol::BoundedDuration;

/// Time limit for one notification; others wait for it.
pub type PostTimeout = BoundedDuration<1_000, 600_000>;

/// The webhook for changes of a machine's state to bad, and back to good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// The URL for messages.
    pub webhook: Webhook,
    /// Time limit for one post, at most ten minutes.
    #[serde(default = "default_timeout")]
    pub timeout: PostTimeout,
}

fn default_timeout() -> PostTimeout {
    PostTimeout::clamped(Duration::from_secs(30))
}

/// The URL of a webhook. It is a secret, and shown without its path.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Webhook(Uri);

impl Webhook {
    /// The whole URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl TryFrom<String> for Webhook {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The error doesn't quote the text: it may be a secret with one wrong letter.
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("the webhook isn't an address: {error}"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http"))
            || uri.host().is_none_or(str::is_empty)
        {
            return Err("the webhook must begin with https:// (or http://) and a name".into());
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(
                "the webhook has a user in its address: put the token in the path instead".into(),
            );
        }
        Ok(Webhook(uri))
    }
}

impl From<Webhook> for String {
    fn from(webhook: Webhook) -> String {
        webhook.0.to_string()
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(formatter, "{scheme}://{authority}/…")
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const SERVER: &str = "[server]\naddress = \"a\"\n";

    fn notify(lines: &str) -> Result<Notify, String> {
        match read(&format!("{SERVER}[notify]\n{lines}\n")) {
            Ok(reading) => Ok(reading.fleet.notify.unwrap()),
            Err(problems) => Err(problems[0].to_string()),
        }
    }

    #[test]
    fn a_webhook_is_shown_without_its_secret() {
        let notify = notify("webhook = \"https://ntfy.example.org:8443/secret?token=1\"").unwrap();
        assert_eq!(notify.timeout.duration(), Duration::from_secs(30));
        assert_eq!(
            notify.webhook.to_string(),
            "https://ntfy.example.org:8443/…"
        );
        assert!(!format!("{notify:?}").contains("secret"));
        let json = serde_json::to_string(&notify).unwrap();
        assert_eq!(
            serde_json::from_str::<Notify>(&json).unwrap(),
            notify,
            "the state keeps it"
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (lines, line, what) in [
            ("", 3, "missing field `webhook`"),
            (
                "webhook = \"https://a\"\ncommand = [\"/notify\"]",
                5,
                "unknown field `command`",
            ),
            ("webhok = \"https://a\"", 4, "unknown field `webhok`"),
            (
                "webhook = \"ftp://a/secret\"",
                4,
                "must begin with https://",
            ),
            (
                "webhook = \"https://secret@a/\"",
                4,
                "has a user in its address",
            ),
            ("webhook = \"https:// secret\"", 4, "isn't an address"),
            (
                "webhook = \"https://a\"\ntimeout = \"never\"",
                5,
                "isn't a length of time",
            ),
            ("webhook = \"https://a\"\ntimeout = \"1h\"", 5, "to \"10m\""),
        ] {
            let error = notify(lines).unwrap_err();
            assert!(
                error.starts_with(&format!("fleet.toml:{line}: [notify]: ")),
                "{lines}: {error}"
            );
            assert!(
                error.contains(what) && !error.contains("secret"),
                "{lines}: {error}"
            );
        }
    }
}
