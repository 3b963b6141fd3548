//! docs/tutorial.md, followed to the letter by somebody who has a server and two machines, and nothing of bento yet.

mod document;
mod substitutions;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process as system;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bento_tests::guest::Features;
use bento_tests::process::{self, Output};
use bento_tests::{Account, Guest, artifacts, wait};

use document::{ANYTHING, Block};
use substitutions::{SENT, Substitutions};

const DOCUMENT: &str = "docs/tutorial.md";
/// The place that isn't a machine of the fleet.
const SERVER: &str = "server";
const MACHINES: [&str; 2] = ["kikimora", "luna"];
/// What the machines dial.
const ADDRESS: &str = "bento.example.org";
const PORT: u16 = 2222;
/// How long a reader repeats a command for what must come. It comes within some seconds; a busy machine needs more.
const PATIENCE: Duration = Duration::from_secs(60);
/// A shell couldn't run the command: looking again doesn't help.
const NO_SUCH_COMMAND: [i32; 2] = [126, 127];
/// How a key begins that is printed at one place and typed at another.
const KEY: &str = "ssh-ed25519 AAAA";

const CONFIGURATION: &str = include_str!("tutorial/configuration.nix");
const HARDWARE: &str = include_str!("tutorial/hardware-configuration.nix");

#[test]
fn the_tutorials_commands_print_what_it_shows() -> Result<()> {
    let document = fs::read_to_string(artifacts::repository().join(DOCUMENT))?;
    let blocks = document::blocks(&document).context(DOCUMENT)?;
    let mut reader = Reader::new()?;
    for block in &blocks {
        reader
            .follow(block)
            .with_context(|| format!("{DOCUMENT}:{}, typed on {}", block.line, block.place))?;
    }
    reader.substitutions.were_all_used()
}

/// Who follows the document.
struct Reader {
    machines: BTreeMap<&'static str, Guest>,
    account: Account,
    substitutions: Substitutions,
    /// The last keys that were printed on the server, and on a machine.
    server_key: Option<String>,
    machine_key: Option<String>,
}

impl Reader {
    fn new() -> Result<Self> {
        let address = unused_address()?;
        let boots = MACHINES.map(|name| (name, thread::spawn(move || install(address))));
        let account = Account::open()?;
        let mut machines = BTreeMap::new();
        for (name, boot) in boots {
            let guest = boot.join().ok().context("a thread panicked")?;
            machines.insert(name, guest?);
        }
        Ok(Self {
            machines,
            account,
            substitutions: Substitutions::new(address),
            server_key: None,
            machine_key: None,
        })
    }

    /// Types what stands there; if the document shows what it prints, again until it does.
    fn follow(&mut self, block: &Block) -> Result<()> {
        let typed = self.typed(block)?;
        let mut latest = None;
        let seen = wait::until("it", PATIENCE, || {
            let output = self.run(&block.place, &typed);
            let goes_on = output
                .as_ref()
                .is_ok_and(|output| may_become(block, output));
            latest = Some(output);
            (!goes_on).then_some(())
        });
        let output = latest.context("it was never typed")??;
        if let Some(difference) = difference(block, &output) {
            let often = seen.map_or("typed again and again", |()| "typed");
            bail!("{difference}\n{often}:\n{typed}printed:\n{}", output.stdout);
        }
        // What led to a failure is shown above it.
        println!("{} # {typed}{}", block.place, output.stdout);
        self.remember(block, &output);
        self.carry(block)
    }

    /// What is typed here for a block.
    fn typed(&mut self, block: &Block) -> Result<String> {
        let mut typed = self.substitutions.apply(&block.script);
        let pattern = format!("{KEY}{ANYTHING}");
        if typed.contains(&pattern) {
            let key = match block.place == SERVER {
                true => &self.machine_key,
                false => &self.server_key,
            };
            let key = key
                .as_ref()
                .context("no key was printed at the other place")?;
            typed = typed.replace(&pattern, key);
        }
        ensure!(!typed.contains(ANYTHING), "nobody can type this: {typed}");
        Ok(typed)
    }

    fn run(&self, place: &str, typed: &str) -> Result<Output> {
        let command = if place == SERVER {
            self.account.bash(typed)
        } else {
            let log_in = ["env", "--chdir=/root", "bash", "-ec", typed];
            self.machine(place)?.command(log_in)?
        };
        process::follow(command, process::LONG, &mut |_| {})
    }

    fn machine(&self, name: &str) -> Result<&Guest> {
        self.machines
            .get(name)
            .with_context(|| format!("there is no machine {name}"))
    }

    fn remember(&mut self, block: &Block, output: &Output) {
        let key = match block.place == SERVER {
            true => &mut self.server_key,
            false => &mut self.machine_key,
        };
        let Some(start) = output.stdout.rfind(KEY) else {
            return;
        };
        let is_of_a_key = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let printed = &output.stdout[start..];
        let end = printed[KEY.len()..].find(|c| !is_of_a_key(c));
        *key = Some(printed[..end.map_or(printed.len(), |end| KEY.len() + end)].to_owned());
    }

    /// Takes to the server what a machine sends there.
    fn carry(&self, block: &Block) -> Result<()> {
        if block.place == SERVER {
            return Ok(());
        }
        let machine = self.machine(&block.place)?;
        let list = format!("! cd {SENT} 2>/dev/null || find . -type f");
        for path in machine.shell(&list)?.success()?.stdout.lines() {
            let to = self.account.home().join(path);
            let folder = to.parent().context("a file lies in a folder")?;
            ensure!(
                folder.is_dir(),
                "there is no {} to copy to",
                folder.display()
            );
            fs::write(&to, machine.read_file(&format!("{SENT}{path}"))?)?;
            self.account.own(&to)?;
        }
        machine.run(["rm", "-rf", SENT])?.success().map(drop)
    }
}

/// Whether it isn't as the document says, and looking again may help.
fn may_become(block: &Block, output: &Output) -> bool {
    let is_waited_for = block.shown.is_some() && !NO_SUCH_COMMAND.contains(&output.code());
    is_waited_for && difference(block, output).is_some()
}

/// What isn't as the document says.
fn difference(block: &Block, output: &Output) -> Option<String> {
    let code = output.code();
    if code != block.exit {
        return Some(format!(
            "expected  exit code {}\nseen      exit code {code}",
            block.exit
        ));
    }
    let missing = block.missing(&output.stdout)?;
    Some(format!(
        "expected  a line, in this order: {missing}\nseen      none such"
    ))
}

/// A machine as the installer of NixOS leaves it.
fn install(server: Ipv4Addr) -> Result<Guest> {
    let guest = Guest::boot_with(Features::default())?;
    let hardware = HARDWARE.replace("SYSTEM", &format!("{ARCH}-linux"));
    guest.put_file("/etc/nixos/configuration.nix", "644", CONFIGURATION)?;
    guest.put_file("/etc/nixos/hardware-configuration.nix", "644", hardware)?;
    guest.put_file(
        "/etc/hosts",
        "644",
        format!("127.0.0.1 localhost\n{server} {ADDRESS}\n"),
    )?;
    Ok(guest)
}

/// An address of this machine of whose ports nobody has taken that of the appliance.
fn unused_address() -> Result<Ipv4Addr> {
    let [.., high, low] = system::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 87, high, low);
    TcpListener::bind((address, PORT))
        .with_context(|| format!("something here has taken the port {PORT} on all addresses"))?;
    Ok(address)
}
