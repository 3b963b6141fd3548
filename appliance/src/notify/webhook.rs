use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ureq::config::Config;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};

use super::Message;
use crate::fleet::Webhook;
use crate::text::sanitise::one_line;

/// Where the roots are that count instead of the built-in ones, as other programs know it: for a webhook whose
/// certificate an administrator's own authority has signed.
const ROOTS: &str = "SSL_CERT_FILE";
/// How much of an answer is read, in bytes.
const ANSWER: u64 = 4096;
/// How much of it is shown, in characters.
const SHOWN: usize = 300;

/// Posts the message to a webhook, within the limit. Redirects aren't followed: where they lead, nobody has named.
///
/// # Errors
/// When it isn't answered in time with a success.
pub(super) fn post(
    webhook: &Webhook,
    message: &Message,
    limit: Duration,
) -> anyhow::Result<String> {
    // It looks the name up in a thread of its own, and would end the process where there is none left.
    let thread = thread::Builder::new().spawn(|| ());
    thread.context("there is no thread left to look up the webhook's name")?;
    let config = Config::builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("bento/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots()?).build())
        .build();
    let answer = Agent::new_with_config(config)
        .post(webhook.uri())
        .content_type("application/json")
        .send(&message.json()[..]);
    let mut answer = answer.map_err(|error| explained(webhook, error, limit))?;
    let status = answer.status();
    // What it says besides decides nothing; a webhook that is silent has answered all the same.
    let mut body = Vec::new();
    let _ = answer
        .body_mut()
        .as_reader()
        .take(ANSWER)
        .read_to_end(&mut body);
    let said = match one_line(&String::from_utf8_lossy(&body), SHOWN) {
        said if said.is_empty() => said,
        said => format!(": {said}"),
    };
    if !status.is_success() {
        bail!(
            "{webhook} answered {status}{said}; look at the address in [notify] of fleet.toml, and at that server"
        );
    }
    Ok(format!("answered {status}{said}"))
}

fn roots() -> anyhow::Result<RootCerts> {
    let Some(path) = std::env::var_os(ROOTS).filter(|path| !path.is_empty()) else {
        return Ok(RootCerts::WebPki);
    };
    let unusable = || {
        format!(
            "{} has no certificates, and {ROOTS} names it",
            path.display()
        )
    };
    let text = std::fs::read(&path).with_context(unusable)?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        bail!(unusable());
    }
    Ok(RootCerts::from(certificates))
}

fn explained(webhook: &Webhook, error: Error, limit: Duration) -> anyhow::Error {
    let seconds = limit.as_secs();
    match error {
        Error::Timeout(_) => anyhow!(
            "{webhook} hasn't answered within {seconds} s; [notify] timeout in fleet.toml sets how long it may take"
        ),
        Error::HostNotFound => anyhow!(
            "{webhook} can't be found: the name doesn't resolve where the appliance runs; look at its address in \
             fleet.toml and at the container's network"
        ),
        // What rustls objects to comes as this kind.
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => anyhow!(
            "{webhook} can't be trusted: {error}; a certificate of an authority of your own needs {ROOTS} in the \
             container's environment"
        ),
        Error::Io(error) => anyhow!("{webhook} can't be reached: {error}"),
        error => anyhow!("{webhook} can't be reached: {error}"),
    }
}

#[cfg(test)]
mod tests;
