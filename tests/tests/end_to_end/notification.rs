//! What the appliance says by itself: a webhook is notified of a machine that turns bad, and Prometheus is answered. Nothing of that holds up what it does for machines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bento_tests::{Appliance, Fleet, Options, process};
use serde_json::Value;

use crate::machine::Machine;
use crate::{reports, states};

const NAME: &str = "kikimora";
/// Where a container finds this machine's loopback, if slirp4netns lets it.
const HOST: &str = "10.0.2.2";
/// The second try comes 10 s after the first, which hangs for 2; a machine that is busy with other tests needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// A server on this machine's loopback that takes notifications, and hangs at first.
struct Webhook {
    port: u16,
    hangs: Arc<AtomicBool>,
    messages: Receiver<Value>,
}

impl Webhook {
    fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let hangs = Arc::new(AtomicBool::new(true));
        let (sender, messages) = channel();
        let is_hanging = Arc::clone(&hangs);
        // It ends with the tests' process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (sender, hangs) = (sender.clone(), Arc::clone(&is_hanging));
                thread::spawn(move || serve(&connection?, &hangs, &sender));
            }
        });
        Ok(Webhook {
            port,
            hangs,
            messages,
        })
    }

    /// Waits for a message of which this holds; what was tried before is passed over.
    fn await_that(&self, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.context("no such notification came")?;
            if holds(&message) {
                return Ok(message);
            }
        }
    }
}

/// Reads one message, and answers it unless it is to hang.
fn serve(connection: &TcpStream, hangs: &AtomicBool, sender: &Sender<Value>) -> Result<()> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    sender.send(serde_json::from_slice(&body)?)?;
    if hangs.load(Ordering::SeqCst) {
        // Until the appliance goes away.
        reader.read_to_end(&mut Vec::new())?;
    }
    write!(
        &*connection,
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    )?;
    Ok(())
}

fn scrape(port: u16) -> Result<String> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(LIMIT))?;
    write!(
        connection,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").context("it isn't HTTP")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    Ok(text.to_owned())
}

#[test]
fn a_hanging_webhook_holds_up_nothing_and_hears_what_is_true_once_it_answers() -> Result<()> {
    let webhook = Webhook::open()?;
    let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut fleet = Fleet::new()?;
    fleet.server(&format!(
        "address = \"127.0.0.1\"\n[notify]\nwebhook = \"http://{HOST}:{}/\"\n\
         timeout = \"2s\"",
        webhook.port
    ))?;
    fleet.host(NAME, |host| {
        host.file("configuration.nix", "{ }")?;
        Ok(())
    })?;
    let options = Options {
        podman: vec![
            "--network=slirp4netns:allow_host_loopback=true".to_owned(),
            format!("--publish=127.0.0.1:{metrics}:9470"),
        ],
        command: ["serve", "--metrics", "0.0.0.0:9470"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    };
    let appliance = Appliance::start(fleet.path(), options)?;
    let machine = Machine::of(&fleet, NAME, &appliance);

    let first = machine.pull()?.id();
    machine
        .log_in()?
        .leave(&reports::build_failure(first, "no luck"))?;
    let message = webhook.await_that(|_| true)?;
    assert_eq!(
        (&message["machine"], &message["bad"], &message["error"]),
        (&NAME.into(), &true.into(), &"no luck".into())
    );

    // The webhook hasn't answered, and the appliance takes in and publishes meanwhile.
    machine.log_in()?.leave(&reports::success(first))?;
    states::await_word(&appliance, NAME, "up-to-date")?;
    fleet.write("hosts/kikimora/configuration.nix", "{ services = { }; }")?;
    let second = machine.await_other_than(first)?.id();
    machine
        .log_in()?
        .leave(&reports::build_failure(second, "no luck again"))?;
    states::await_runs(&appliance, NAME, 3)?;

    webhook.hangs.store(false, Ordering::SeqCst);
    let message = webhook.await_that(|message| message["error"] == "no luck again")?;
    assert_eq!(
        (&message["machine"], &message["bad"]),
        (&NAME.into(), &true.into())
    );
    states::await_log(&appliance, "notified by webhook http://10.0.2.2")?;

    let test = appliance
        .exec(["notify", "--test", NAME])?
        .success()?
        .stdout;
    assert!(test.contains("/…: answered 204 No Content\n"), "{test}");
    webhook.await_that(|message| message["test"] == true)?;
    let shown = appliance.exec(["notify"])?.success()?.stdout;
    assert_eq!(shown.matches("kikimora: sent at ").count(), 1, "{shown}");
    assert!(
        !shown.contains("failed at") && !shown.contains("not sent yet"),
        "{shown}"
    );

    let scraped = scrape(metrics)?;
    let printed = appliance.exec(["metrics"])?.success()?.stdout;
    for text in [&scraped, &printed] {
        for line in [
            "bento_machine_state{machine=\"kikimora\",state=\"failing\"} 1\n",
            "bento_reports_total 3\n",
            "bento_publications_total 2\n",
            "bento_logins_total ",
            "bento_up 1\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
        let mut promtool = std::process::Command::new("promtool");
        promtool.args(["check", "metrics"]);
        process::run_with_input(&mut promtool, text.as_bytes(), process::SHORT)?.success()?;
    }
    Ok(())
}
