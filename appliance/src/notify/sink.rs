use std::io::{ErrorKind, Read};
use std::thread;

use anyhow::{Context, anyhow, bail};
use ureq::config::Config;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};

use super::Message;
use crate::fleet::Notify;
use crate::text::sanitise::one_line;

/// The file of the roots that replace the built-in ones, as other programs name it: for a webhook with a certificate of
/// the administrator's own authority.
const ROOTS: &str = "SSL_CERT_FILE";
/// How much of an answer is read, in bytes.
const ANSWER: u64 = 4096;
/// How much of it is shown, in characters.
const SHOWN: usize = 300;

/// Posts a message to the webhook of the settings, and gives the answer in one line. Redirects aren't followed: nobody has
/// named their targets.
///
/// # Errors
/// When there is no success in time; the error says what to do.
pub fn post(settings: &Notify, message: &Message) -> anyhow::Result<String> {
    let Notify { webhook, timeout } = settings;
    let limit = timeout.as_duration();
    // ureq looks the name up in a thread of its own, and would end the process where there is none left.
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
    let mut answer = answer.map_err(|error| explained(settings, error))?;
    let status = answer.status();
    // The body decides nothing: a webhook without one has answered all the same.
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

fn explained(settings: &Notify, error: Error) -> anyhow::Error {
    let Notify { webhook, timeout } = settings;
    let seconds = timeout.as_duration().as_secs();
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
