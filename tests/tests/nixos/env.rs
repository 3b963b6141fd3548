//! What all scenarios share: one appliance with its fleet, and what the machines have in their stores.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bento_tests::{Appliance, Fleet, Options, guest, wait};
use serde_json::Value;

/// Publications and reports take some 3 s; a machine that is busy with other things needs more.
const LIMIT: Duration = Duration::from_secs(60);

/// An appliance, and the store paths of nixpkgs and bento on every machine.
pub(crate) struct Env {
    pub(crate) fleet: RefCell<Fleet>,
    pub(crate) appliance: Appliance,
    pub(crate) host_key: String,
    base: PathBuf,
    checkout: String,
    nixpkgs: String,
    bento: String,
}

impl Env {
    pub(crate) fn new() -> Result<Self> {
        let base = guest::base_tree()?;
        let path = |name: &str| -> Result<String> {
            let file = base.join("nix").join(name);
            let path = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            Ok(path.trim().to_owned())
        };
        let fleet = Fleet::new()?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        // What follows the key is its fingerprint.
        let host_key = appliance.host_key()?;
        let host_key = host_key
            .split(" SHA256:")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        Ok(Self {
            host_key,
            checkout: path("checkout")?,
            nixpkgs: path("nixpkgs")?,
            bento: path("bento")?,
            base,
            fleet: RefCell::new(fleet),
            appliance,
        })
    }

    /// Whether the checkout of nixpkgs has this file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.base
            .join(self.checkout.trim_start_matches('/'))
            .join(path)
            .exists()
    }

    /// The flake of one machine, as an administrator would write it.
    pub(crate) fn flake(&self, name: &str) -> String {
        let (nixpkgs, bento) = (&self.nixpkgs, &self.bento);
        format!(
            r#"{{
  inputs.nixpkgs.url = "path:{nixpkgs}";
  inputs.bento.url = "path:{bento}";
  inputs.bento.inputs.nixpkgs.follows = "nixpkgs";
  outputs = {{ nixpkgs, bento, ... }}: {{
    nixosConfigurations.{name} = nixpkgs.lib.nixosSystem {{
      specialArgs = {{ inherit bento; }};
      modules = [ bento.nixosModules.client ./configuration.nix ];
    }};
  }};
}}
"#
        )
    }

    /// Waits until the status has this word for a machine, and gives all of its status.
    pub(crate) fn await_state(&self, name: &str, state: &str) -> Result<Value> {
        let mut last = Value::Null;
        wait::until(&format!("{name} to be {state}"), LIMIT, || {
            let status = self.appliance.status_json().ok()?;
            let hosts = status["hosts"].as_array()?;
            last = hosts.iter().find(|host| host["name"] == name)?.clone();
            (last["state"] == state).then(|| last.clone())
        })
        .with_context(|| format!("its status is {last}"))
    }

    /// Waits until a file of a machine is published with this text.
    pub(crate) fn await_published(&self, name: &str, file: &str, text: &str) -> Result<()> {
        let published = self
            .appliance
            .host_folder(name)?
            .join("current/config")
            .join(file);
        wait::until("the publication", LIMIT, || {
            let now = fs::read_to_string(&published).ok()?;
            (now == text).then_some(())
        })
    }

    /// The median time of each phase, over all updates that ended well, in the order of the phases.
    pub(crate) fn phases(&self) -> Result<Vec<(String, f64)>> {
        let mut times: Vec<(String, Vec<f64>)> = Vec::new();
        for host in fs::read_dir(self.appliance.state_folder()?.join("hosts"))? {
            for report in self
                .appliance
                .reports(&host?.file_name().to_string_lossy())?
            {
                let phases = report["phases"]
                    .as_array()
                    .filter(|_| report["outcome"] == "switched");
                for phase in phases.into_iter().flatten() {
                    let (name, seconds) = (
                        &phase["name"],
                        phase["seconds"].as_f64().unwrap_or_default(),
                    );
                    match times.iter_mut().find(|(known, _)| name == known) {
                        Some((_, known)) => known.push(seconds),
                        None => times
                            .push((name.as_str().unwrap_or_default().to_owned(), vec![seconds])),
                    }
                }
            }
        }
        let median = |(name, mut seconds): (String, Vec<f64>)| {
            seconds.sort_by(f64::total_cmp);
            (name, seconds[seconds.len() / 2])
        };
        Ok(times.into_iter().map(median).collect())
    }
}
