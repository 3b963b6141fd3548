//! The administrator: owns the fleet folder, and runs the appliance.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::place::Place;
use super::screen::Screen;
use crate::appliance::{self, CONFINEMENT};
use crate::process::Output;
use crate::{Appliance, Podman, artifacts, wait};

const PROMPT: &str = "admin $";
const IMAGE: &str = "localhost/bento";
/// The appliance's own port, and those that are tried where that one is taken.
const PORTS: std::ops::RangeInclusive<u16> = 2222..=2242;
/// How soon a change is published.
const PROMISE: Duration = Duration::from_secs(5);
/// A publication that takes longer than promised should be seen to do so.
const PUBLICATION_LIMIT: Duration = Duration::from_secs(30);

/// Who keeps the fleet, on this machine.
#[derive(Debug)]
pub(super) struct Administrator {
    podman: Podman,
    place: Place,
    appliance: Appliance,
}

impl Administrator {
    pub(super) fn new(podman: Podman, place: Place) -> Result<Self> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = PORTS.clone().find(is_free).with_context(|| {
            format!(
                "all ports from {} to {} are taken",
                PORTS.start(),
                PORTS.end()
            )
        })?;
        let appliance = Appliance::adopt(place.container, port)?;
        Ok(Self {
            podman,
            place,
            appliance,
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn port(&self) -> u16 {
        self.appliance.port()
    }

    /// Who that is.
    pub(super) fn user(&self) -> String {
        let (user, _) = self.podman.ids();
        let name = nix::unistd::User::from_uid(user).ok().flatten();
        name.map_or_else(|| format!("user {user}"), |user| user.name)
    }

    /// What this machine makes podman say besides what the README says.
    pub(super) fn run_options(&self) -> String {
        self.podman.run_options().join(" ")
    }

    /// Puts the image that was built here into podman's store.
    pub(super) fn load_image(&self, screen: &mut Screen) -> Result<()> {
        let archive = artifacts::image()?;
        let typed = format!("podman load < {}", super::place::shown(&archive));
        screen.command(PROMPT, &typed);
        let said = screen.wait("loading", || self.podman.load(&archive))?;
        said.lines().for_each(|line| screen.output(line));
        Ok(())
    }

    /// Runs a command of `bento` over the fleet folder, in a container of its own.
    pub(super) fn bento_once(&self, screen: &mut Screen, command: &[&str]) -> Result<Output> {
        let volume = format!("{}:/config", self.place.fleet.display());
        let mut run = vec!["run", "--rm", "--volume", &volume];
        run.extend(self.podman.run_options());
        run.push(IMAGE);
        self.podman(screen, &[&run, command])?.success()
    }

    /// Makes the fleet folder.
    pub(super) fn make_folder(&self) -> Result<()> {
        fs::create_dir_all(&self.place.fleet)
            .with_context(|| format!("cannot make {}", self.place.fleet.display()))?;
        self.podman.own(&self.place.fleet)
    }

    /// Starts the appliance.
    pub(super) fn start(&self, screen: &mut Screen) -> Result<Duration> {
        let name = self.place.container;
        let publish = format!("127.0.0.1:{}:2222", self.port());
        let fleet = format!("{}:/config:ro", self.place.fleet.display());
        let state = format!("{}:/state", appliance::volume(name));
        let (capabilities, privileges) = CONFINEMENT.split_at(3);
        let started = Instant::now();
        self.podman(
            screen,
            &[
                &["run", "--detach", "--name", name, "--publish", &publish],
                &["--volume", &fleet, "--volume", &state],
                capabilities,
                privileges,
                self.podman.run_options(),
                &[IMAGE],
            ],
        )?
        .success()?;
        screen.wait("the first publication", || self.appliance.await_health())?;
        Ok(started.elapsed())
    }

    /// Runs a command of `bento` in the appliance.
    pub(super) fn bento(&self, screen: &mut Screen, command: &[&str]) -> Result<Output> {
        let exec = ["exec", self.place.container, "bento"];
        self.podman(screen, &[&exec, command])
    }

    /// What the appliance knows of the machine, as `bento status --json` has it.
    pub(super) fn machine(&self) -> Result<Value> {
        let mut status = self.appliance.status_json()?;
        let hosts = status["hosts"]
            .as_array_mut()
            .context("there are no hosts")?;
        let machine = hosts
            .iter_mut()
            .find(|host| host["name"] == self.place.machine);
        Ok(machine
            .with_context(|| format!("there is no {}", self.place.machine))?
            .take())
    }

    /// The states of all machines.
    pub(super) fn states(&self) -> Result<Vec<String>> {
        let status = self.appliance.status_json()?;
        let hosts = status["hosts"].as_array().context("there are no hosts")?;
        Ok(hosts.iter().map(|host| text(&host["state"])).collect())
    }

    /// The generation that is published for the machine.
    pub(super) fn published(&self) -> Result<String> {
        Ok(text(&self.machine()?["published"]["generation"]))
    }

    /// Changes a file of the fleet folder in an editor, and waits until the machine has another generation for it.
    pub(super) fn edit(&self, screen: &mut Screen, path: &str, old: &str, new: &str) -> Result<()> {
        let before = self.published()?;
        let file = self.place.fleet.join(path);
        let content =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(
            content.matches(old).count() == 1,
            "expected  {} to have once: {old}\nseen      {content}",
            file.display()
        );
        screen.command(
            PROMPT,
            &format!("$EDITOR {}", self.at_home(&file.display().to_string())),
        );
        screen.change(old, new);
        fs::write(&file, content.replace(old, new))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let saved = Timestamp::now();
        let seen = screen.wait("the appliance waits until nothing changes any more", || {
            wait::until("another generation", PUBLICATION_LIMIT, || {
                self.published().ok().filter(|now| *now != before)
            })
        });
        let published = seen.and_then(|generation| self.published_at(&generation));
        let took = published.map(|at| at.duration_since(saved).as_secs_f64());
        if let Ok(took) = took
            && took <= PROMISE.as_secs_f64()
        {
            return screen.check(
                &format!("published {took:.1} s after it was saved"),
                true,
                "",
            );
        }
        screen.check(
            &format!(
                "another generation than {before}, at most {PROMISE:?} after the change was saved"
            ),
            false,
            took.map_or_else(
                |error| format!("{error:#}"),
                |took| format!("one after {took:.1} s"),
            ),
        )
    }

    /// When the appliance published a generation of the machine: its log is more exact than a poll from outside,
    /// which takes a moment on a busy machine.
    fn published_at(&self, generation: &str) -> Result<Timestamp> {
        let log = self.appliance.logs()?;
        let said = format!(
            "published host={} generation={generation}",
            self.place.machine
        );
        let line = log.lines().rev().find(|line| line.contains(&said));
        let time = line.and_then(|line| line.split(' ').next());
        let time = time.with_context(|| format!("the log doesn't say {said:?}"))?;
        Ok(time.parse()?)
    }

    /// The server's public host key.
    pub(super) fn host_key(&self, screen: &mut Screen) -> Result<String> {
        let key = self.bento(screen, &["host-key"])?.success()?.stdout;
        Ok(key.trim().to_owned())
    }

    /// The end of the appliance's log.
    pub(super) fn log(&self) -> Result<String> {
        self.appliance.logs()
    }

    /// Leaves the appliance running.
    pub(super) fn keep(self) -> Place {
        self.appliance.keep();
        self.place
    }

    fn podman(&self, screen: &mut Screen, groups: &[&[&str]]) -> Result<Output> {
        let words = groups.concat();
        let lines: Vec<_> = groups
            .iter()
            .filter(|group| !group.is_empty())
            .map(|group| {
                group
                    .iter()
                    .map(|word| quoted(word))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let one = lines.join(" ");
        let typed = if one.len() > 110 {
            lines.join(" \\\n")
        } else {
            one
        };
        let mut command = self.podman.command();
        command.args(words);
        screen.run(PROMPT, &format!("podman {}", self.at_home(&typed)), command)
    }

    /// A command as it is typed by who has a home.
    fn at_home(&self, typed: &str) -> String {
        match self.podman.home() {
            Some(home) => typed.replace(&format!("{}/", home.display()), "~/"),
            None => typed.to_owned(),
        }
    }
}

/// A string of a JSON document; anything else as it is written there.
pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn quoted(word: &str) -> String {
    if word.contains(' ') {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}
