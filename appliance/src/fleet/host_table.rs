//! The table of a machine in `fleet.toml`, and `[defaults]`.

use bento_protocol::{Attribute, HostName, NixArguments, Reboot, RebootWindow, Terms};
use serde::Deserialize;

use super::template::Template;
use super::{Host, Overruled, PublicKey, SilentAfter, SourcePath, SourceTemplate};

/// The keys of a machine, or of `[defaults]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTable {
    keys: Option<Vec<PublicKey>>,
    source: Option<SourceTemplate>,
    include: Option<Vec<Template>>,
    exclude: Option<Vec<Template>>,
    attribute: Option<Attribute>,
    renamed_from: Option<String>,
    paused: Option<bool>,
    silent_after: Option<SilentAfter>,
    reboot: Option<Reboot>,
    reboot_window: Option<RebootWindow>,
    self_update: Option<bool>,
    nix_args: Option<NixArguments>,
}

impl HostTable {
    /// The machine's settings: its own keys replace those of the defaults, including lists.
    ///
    /// # Errors
    /// When one of them is invalid, or they contradict each other.
    pub(super) fn resolve(self, name: &HostName, defaults: &HostTable) -> Result<Host, String> {
        let defaults = defaults.clone();
        let renamed_from = self
            .renamed_from
            .or(defaults.renamed_from)
            .filter(|name| !name.is_empty());
        let overruled = Overruled {
            reboot: self.reboot.is_some(),
            self_update: self.self_update.is_some(),
        };
        let attribute = self.attribute.or(defaults.attribute);
        let terms = Terms {
            attribute: attribute.filter(|attribute| attribute.as_str() != name.as_str()),
            reboot: self.reboot.or(defaults.reboot).unwrap_or_default(),
            reboot_window: self.reboot_window.or(defaults.reboot_window),
            self_update: self
                .self_update
                .or(defaults.self_update)
                .unwrap_or_default(),
            nix_args: self.nix_args.or(defaults.nix_args).unwrap_or_default(),
        };
        if terms.reboot == Reboot::Window && terms.reboot_window.is_none() {
            return Err("reboot = \"window\" without a reboot_window".into());
        }
        Ok(Host {
            keys: self.keys.or(defaults.keys).unwrap_or_default(),
            source: match self.source.or(defaults.source) {
                Some(source) => source.of(name)?,
                None => SourcePath::default_of(name),
            },
            include: patterns(self.include.or(defaults.include), name),
            exclude: patterns(self.exclude.or(defaults.exclude), name),
            terms,
            overruled,
            renamed_from: renamed_from
                .map(|name| name.parse::<HostName>())
                .transpose()
                .map_err(|error| error.to_string())?,
            renamed_to: None,
            paused: self.paused.or(defaults.paused).unwrap_or_default(),
            silent_after: self
                .silent_after
                .or(defaults.silent_after)
                .unwrap_or_else(|| SilentAfter::clamped(super::SILENT_AFTER)),
        })
    }
}

fn patterns(templates: Option<Vec<Template>>, name: &HostName) -> Vec<String> {
    let templates = templates.unwrap_or_default();
    templates.iter().map(|pattern| pattern.of(name)).collect()
}
