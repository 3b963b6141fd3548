//! The privileges of the appliance: those that it needs, and how it drops the others.

use std::fmt;
use std::fs;
use std::io;

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};

use crate::sshd::passwd::UIDS;

/// The capabilities that the appliance and its sshd need.
pub const NEEDED: [Capability; 7] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// The privileges of a process, read from `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    no_new_privileges: bool,
}

/// The privileges that the container lacks, each with the option that adds it.
///
/// # Errors
/// When they can't be read.
pub fn missing() -> Result<Vec<String>> {
    let own = |name: &str| {
        let path = format!("/proc/self/{name}");
        fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
    };
    let effective = caps::read(None, CapSet::Effective).context("can't read the capabilities")?;
    let mut missing = missing_capabilities(&effective);
    for (kind, file) in [("user", "uid_map"), ("group", "gid_map")] {
        missing.extend(missing_ids(kind, &own(file)?));
    }
    missing.extend(denied_groups(&own("setgroups")?));
    Ok(missing)
}

/// Drops every capability but [`NEEDED`] for good, in all five sets, and sets no-new-privileges. It changes only the
/// calling thread and those that it starts: call it before there are others.
///
/// The bounding set can only be reduced with CAP_SETPCAP; without that capability, the surplus can't be used.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_unneeded() -> Result<()> {
    let needed = CapsHashSet::from(NEEDED);
    rustix::thread::set_no_new_privs(true).context("can't set no-new-privileges")?;
    let drop = || -> Result<(), caps::errors::CapsError> {
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
            let bounding = caps::read(None, CapSet::Bounding)?;
            for capability in bounding.difference(&needed) {
                caps::drop(None, CapSet::Bounding, *capability)?;
            }
        }
        caps::clear(None, CapSet::Ambient)?;
        caps::clear(None, CapSet::Inheritable)?;
        let permitted = caps::read(None, CapSet::Permitted)?;
        let kept = permitted.intersection(&needed).copied().collect();
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)
    };
    drop().context("can't drop capabilities")
}

fn missing_capabilities(effective: &CapsHashSet) -> Vec<String> {
    let missing = NEEDED
        .iter()
        .filter(|capability| !effective.contains(capability));
    missing
        .map(|capability| {
            let name = capability.to_string();
            let short = name.trim_start_matches("CAP_");
            format!("{name} is missing: run it with --cap-add={short} (AddCapability={name} in a quadlet)")
        })
        .collect()
}

/// The fault of an id map that lacks ids of machines. Each line of a map has the first id inside, the first one outside,
/// and their number.
fn missing_ids(kind: &str, map: &str) -> Option<String> {
    let ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let numbers: Vec<u64> = line
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let [inside, _, count] = numbers.try_into().ok()?;
            Some((inside, inside + count))
        })
        .collect();
    let mut covered = 0;
    while let Some((_, end)) = ranges
        .iter()
        .find(|(start, end)| (*start..*end).contains(&covered))
    {
        covered = *end;
    }
    let needed = u64::from(UIDS.end);
    (covered < needed).then(|| {
        format!(
            "{kind} ids are mapped without a gap only below {covered}, but up to {} are needed: give the user who runs \
             podman 65536 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER), \
             run podman system migrate as that user, and use no --userns, --uidmap or --gidmap that has fewer",
            needed - 1
        )
    })
}

fn denied_groups(setgroups: &str) -> Option<String> {
    (setgroups.trim() == "deny").then(|| {
        "groups can't be changed (setgroups is denied): install newuidmap and newgidmap (package uidmap), and give \
         the user who runs podman lines in /etc/subuid and /etc/subgid"
            .into()
    })
}

impl Privileges {
    /// Reads the privileges of a process.
    ///
    /// # Errors
    /// When there is no such process, or they can't be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&status).ok_or_else(|| io::Error::other("the kernel shows no capabilities"))
    }

    fn parse(status: &str) -> Option<Self> {
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let set = |name: &str| u64::from_str_radix(value(name)?, 16).ok();
        Some(Privileges {
            inheritable: set("CapInh")?,
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
            no_new_privileges: value("NoNewPrivs")? == "1",
        })
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, set) in [
            ("effective", self.effective),
            ("permitted", self.permitted),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
            ("bounding", self.bounding),
        ] {
            writeln!(formatter, "{name}: {}", names(set))?;
        }
        write!(
            formatter,
            "no-new-privileges: {}",
            if self.no_new_privileges { "yes" } else { "no" }
        )
    }
}

/// The names in a set of capabilities; as numbers where a newer kernel has others.
fn names(set: u64) -> String {
    let known = caps::all();
    let mut names: Vec<_> = known
        .iter()
        .filter(|capability| set & capability.bitmask() != 0)
        .map(Capability::to_string)
        .collect();
    names.sort();
    let unknown = set
        & !known
            .iter()
            .fold(0, |mask, capability| mask | capability.bitmask());
    if unknown != 0 {
        names.push(format!("{unknown:#x}"));
    }
    if names.is_empty() {
        "none".into()
    } else {
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named_with_its_option() {
        assert_eq!(missing_capabilities(&caps::all()), Vec::<String>::new());
        let some = [
            Capability::CAP_CHOWN,
            Capability::CAP_SETUID,
            Capability::CAP_SYS_ADMIN,
        ];
        let missing = missing_capabilities(&some.into()).join("\n");
        for name in ["DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SYS_CHROOT"] {
            assert!(missing.contains(&format!("--cap-add={name} ")), "{missing}");
        }
        assert_eq!(missing.lines().count(), 5);
    }

    #[test]
    fn the_ids_of_machines_must_all_be_mapped() {
        for good in [
            "         0          0 4294967295\n",
            "         0       1000          1\n         1     100000      65536\n",
            "1 100000 65536\n0 1000 1\n",
        ] {
            assert_eq!(missing_ids("user", good), None, "{good:?}");
        }
        for (bad, covered) in [
            ("", 0),
            ("0 1000 1\n", 1),
            ("0 1000 1\n1 100000 9999\n", 10_000),
            ("0 1000 1\n2 100000 65536\n", 1),
            ("garbage\n", 0),
        ] {
            let message = missing_ids("user", bad).unwrap();
            assert!(message.contains(&format!("below {covered},")), "{message}");
        }
    }

    #[test]
    fn denied_groups_are_reported() {
        assert_eq!(denied_groups("allow\n"), None);
        assert!(denied_groups("deny\n").unwrap().contains("newgidmap"));
    }

    #[test]
    fn only_the_needed_capabilities_are_kept() {
        // In a thread of its own, as it can't be undone.
        let thread = std::thread::spawn(|| {
            drop_unneeded().unwrap();
            let needed = CapsHashSet::from(NEEDED);
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
                assert_eq!(caps::read(None, set).unwrap(), needed, "{set:?}");
            }
            for set in [CapSet::Inheritable, CapSet::Ambient] {
                assert_eq!(
                    caps::read(None, set).unwrap(),
                    CapsHashSet::new(),
                    "{set:?}"
                );
            }
            assert!(rustix::thread::no_new_privs().unwrap());
            drop_unneeded().unwrap();
        });
        thread.join().unwrap();
    }

    #[test]
    fn the_privileges_of_this_process_can_be_read() {
        let own = Privileges::of(std::process::id()).unwrap();
        let effective = caps::read(None, CapSet::Effective).unwrap();
        assert_eq!(
            names(own.effective).split(' ').count(),
            effective.len().max(1)
        );
        assert!(own.to_string().contains("bounding: "));
        assert_eq!(names(1 << 63 | 1), "CAP_CHOWN 0x8000000000000000");
    }
}
