use std::fs::File;
use std::io::Read;

use bento_protocol::SystemPath;
use toml_edit::DocumentMut;

use super::{Operation, RebootSettings};

/// The path of the client's settings in a system.
const SETTINGS: &str = "etc/bento/client.toml";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Settings for the activation of a system that doesn't run yet. They may be for another version of the client: unknown
/// values are `None`, not errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SystemSettings {
    /// When to activate it.
    pub(crate) operation: Option<Operation>,
    /// Whether the running kernel may start its kernel.
    pub(crate) kexec: Option<bool>,
}

impl SystemSettings {
    /// The settings of a system in the store.
    pub(crate) fn of(system: &SystemPath) -> Self {
        let read = || {
            let mut text = String::new();
            let file = File::open(system.join(SETTINGS)).ok()?;
            file.take(LONGEST).read_to_string(&mut text).ok()?;
            Some(text)
        };
        read().map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let Ok(document) = text.parse::<DocumentMut>() else {
            return Self::default();
        };
        let operation = match document.get("operation") {
            None => Some(Operation::default()),
            Some(value) => match value.as_str() {
                Some("switch") => Some(Operation::Switch),
                Some("boot") => Some(Operation::Boot),
                _ => None,
            },
        };
        let reboot = document.get("reboot");
        let kexec = match reboot.and_then(|reboot| reboot.get("kexec")) {
            None => Some(RebootSettings::default().kexec),
            Some(value) => value.as_bool(),
        };
        SystemSettings { operation, kexec }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 31.
    #[test]
    fn settings_of_a_new_system_are_read_and_unknown_values_are_none() {
        let of = |text: &str| {
            let SystemSettings { operation, kexec } = SystemSettings::parse(text);
            (operation, kexec)
        };
        let (switch, boot) = (Some(Operation::Switch), Some(Operation::Boot));
        assert_eq!(of(""), (switch, Some(true)));
        assert_eq!(
            of("name = \"a\"\nlater = 1\n[reboot]\n"),
            (switch, Some(true))
        );
        assert_eq!(
            of("operation = \"boot\"\nreboot.kexec = false"),
            (boot, Some(false))
        );
        assert_eq!(
            of("operation = \"dream\"\n[reboot]\nkexec = \"no\""),
            (None, None)
        );
        assert_eq!(of("operation = "), (None, None));
        let nowhere = "/nix/store/there-is-no-such-system".parse().unwrap();
        assert_eq!(SystemSettings::of(&nowhere), SystemSettings::default());
    }
}
