use std::io::{ErrorKind, Read};
use std::thread;

use anyhow::{Context, anyhow, bail};
use ureq::config::Config;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};

use super::Message;
use crate::fleet::Notify;
use crate::text::sanitise::one_line;

/// The variable that names a file with certificate authorities, which replace the built-in ones.
const ROOTS: &str = "SSL_CERT_FILE";
/// The most bytes of an answer that are read.
const ANSWER: u64 = 4096;
/// The most characters of an answer that are shown.
const SHOWN: usize = 300;

/// Posts a message to the webhook, and returns its answer in one line. Redirects aren't followed, because the
/// administrator didn't choose their targets.
///
/// # Errors
/// When there is no success in time; the error has advice.
pub fn post(settings: &Notify, message: &Message) -> anyhow::Result<String> {
    let Notify { webhook, timeout } = settings;
    let limit = timeout.duration();
    // ureq resolves the name in a new thread, and would end the process if none can be started.
    let thread = thread::Builder::new().spawn(|| ());
    thread.context("can't start a thread to resolve the webhook's name")?;
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
    // The body is optional and only shown.
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
            "{webhook} answered {status}{said}; check the address in [notify] of fleet.toml, and that server"
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
            "{ROOTS} names {}, which has no certificates",
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
    let seconds = timeout.duration().as_secs();
    match error {
        Error::Timeout(_) => anyhow!(
            "{webhook} hasn't answered within {seconds} s, the timeout in [notify] of fleet.toml"
        ),
        Error::HostNotFound => anyhow!(
            "can't resolve the name of {webhook}: check the address in [notify] of fleet.toml, and the container's \
             network"
        ),
        // The kind of rustls' errors.
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => anyhow!(
            "can't trust {webhook}: {error}; for your own certificate authority, set {ROOTS} in the container's \
             environment"
        ),
        Error::Io(error) => anyhow!("can't reach {webhook}: {error}"),
        error => anyhow!("can't reach {webhook}: {error}"),
    }
}

#[cfg(test)]
mod tests;
