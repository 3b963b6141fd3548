//! Reboots: whether the policy allows one now, and how it is made.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, ensure};
use bento_nix::process::{self, Limited};
use bento_protocol::{Reboot, RebootWindow, Terms};
use jiff::Zoned;
use jiff::civil::Time;
use serde::Deserialize;

use crate::machine::Machine;
use crate::machine::rollback_timer::INHIBITOR;

/// The unit with which NixOS, where `boot.kexec.enable` is set, loads the kernel of the system profile.
const KEXEC_LOADER: &str = "prepare-kexec.service";

/// Longest time for logind to name the holders of locks.
const ANSWER: Duration = Duration::from_secs(10);

/// The time of day where this machine is.
pub(crate) fn local_time() -> Time {
    Zoned::now().time()
}

/// Whether the policy allows a reboot at this time of day. `window` without a window allows none: the appliance
/// publishes no such policy, and a time that nobody named is no time to reboot at.
pub(crate) fn may(terms: &Terms, local: Time) -> bool {
    match (terms.reboot, &terms.reboot_window) {
        (Reboot::Immediate, _) => true,
        (Reboot::Window, Some(window)) => is_in(window, local),
        (Reboot::Window, None) | (Reboot::Never, _) => false,
    }
}

/// The first minute belongs to the window, the one at which it ends doesn't. A window that ends when it begins is the
/// whole day, as it is to NixOS's `system.autoUpgrade.rebootWindow`: for no time at all there is `never`.
fn is_in(window: &RebootWindow, local: Time) -> bool {
    let (from, to) = (window.from.minutes(), window.to.minutes());
    let now =
        u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
    if from < to {
        (from..to).contains(&now)
    } else {
        now >= from || now < to
    }
}

/// Starts a reboot by systemd, and returns at once. With `kexec` it jumps into the new kernel without the
/// firmware, where the machine is set up for that. If a program holds a lock against shutdown, there is no reboot: the
/// error names it.
pub(crate) fn reboot(machine: &Machine, kexec: bool) -> anyhow::Result<()> {
    ensure!(
        machine.has_systemd(),
        "this machine can't reboot by itself: systemd doesn't run it"
    );
    // systemctl asks this itself only since systemd 257, and then minds bento's own lock, too.
    let locks = locks();
    ensure!(
        locks.is_empty(),
        "the reboot waits, because it is inhibited by {}; `systemd-inhibit --list` shows more",
        locks.join(", by ")
    );
    let verb = match kexec && may_kexec(machine) && has_loaded_kernel(machine) {
        true => "kexec",
        false => "reboot",
    };
    systemctl(&["--check-inhibitors=no", verb]).map(|_| ())
}

/// Whether kexec may be used: if the boot loader counts the attempts to boot a system, only it can go back from a kernel
/// that doesn't boot, and kexec would bypass it.
fn may_kexec(machine: &Machine) -> bool {
    let entries = machine.boot_entries();
    let mut names = entries
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    !names.any(|name| is_counted(&name))
}

/// Whether the name of a boot loader's entry carries the attempts left, and perhaps those made: `name+2-1.conf`, as
/// <https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT/> has it.
fn is_counted(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let counter = name
        .strip_suffix(".conf")
        .and_then(|stem| Some(stem.rsplit_once('+')?.1));
    counter.is_some_and(|counter| {
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        is_number(left) && is_number(done)
    })
}

/// Whether a kernel is loaded to jump into; NixOS loads it now where it is set up to. One that can't be loaded is no
/// obstacle to a whole reboot.
fn has_loaded_kernel(machine: &Machine) -> bool {
    // Nobody knows which kernel that is, and the one of the profile isn't loaded over it.
    if is_loaded(&machine.kexec_loaded()) {
        return false;
    }
    let load_state = systemctl(&["show", "--property=LoadState", "--value", KEXEC_LOADER]);
    let exists = load_state.is_ok_and(|output| output.stdout.trim_ascii() == b"loaded");
    exists && systemctl(&["start", KEXEC_LOADER]).is_ok() && is_loaded(&machine.kexec_loaded())
}

fn is_loaded(kexec_loaded: &Path) -> bool {
    fs::read_to_string(kexec_loaded).is_ok_and(|text| text.trim() == "1")
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new("systemctl")
        .arg("--no-ask-password")
        .args(arguments)
        .output()
        .context("can't run systemctl: is it in PATH?")?;
    ensure!(
        output.status.success(),
        "systemctl {} ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// A list of locks as `busctl --json=short` prints it.
#[derive(Deserialize)]
struct Inhibitors {
    data: [Vec<Inhibitor>; 1],
}

/// What, who, why, mode, user, process.
type Inhibitor = (String, String, String, String, u32, u32);

/// Holders of locks against shutdown, and their reasons. Without a logind that answers there are no locks.
fn locks() -> Vec<String> {
    let mut command = Command::new("busctl");
    command.args([
        "--json=short",
        "call",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
        "ListInhibitors",
    ]);
    let mut said = Vec::new();
    let limited = process::run_limited(command, ANSWER, &mut |line| said.push(line.to_owned()));
    match limited {
        Ok(Limited::Ended(status)) if status.success() => locks_in(said.join("\n").as_bytes()),
        _ => Vec::new(),
    }
}

fn locks_in(json: &[u8]) -> Vec<String> {
    let Ok(Inhibitors { data: [inhibitors] }) = serde_json::from_slice(json) else {
        return Vec::new();
    };
    // Those that only delay, logind lets run out; weak ones don't bind root. And bento's own is that of a client which
    // is overruled: it keeps others from ending the update.
    let holds = |(what, who, _, mode, ..): &&Inhibitor| {
        mode == "block" && who != INHIBITOR && what.split(':').any(|what| what == "shutdown")
    };
    let held = inhibitors.iter().filter(holds);
    held.map(|(_, who, why, _, _, process)| format!("{who:?} (process {process}, reason {why:?})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(json: &str) -> Terms {
        serde_json::from_str(json).unwrap()
    }

    fn window(from: &str, to: &str) -> Terms {
        terms(&format!(
            r#"{{"reboot":"window","reboot_window":{{"from":"{from}","to":"{to}"}}}}"#
        ))
    }

    fn at(hour: i8, minute: i8, second: i8) -> Time {
        Time::constant(hour, minute, second, 999_999_999)
    }

    #[test]
    fn only_the_policy_lets_a_machine_reboot() {
        assert!(!may(&Terms::default(), at(3, 0, 0)));
        assert!(may(&terms(r#"{"reboot":"immediate"}"#), at(3, 0, 0)));
        assert!(!may(&terms(r#"{"reboot":"window"}"#), at(3, 0, 0)));
        let unused = r#"{"reboot":"never","reboot_window":{"from":"02:00","to":"05:00"}}"#;
        assert!(!may(&terms(unused), at(3, 0, 0)));
    }

    #[test]
    fn a_window_has_its_first_minute_and_not_its_last() {
        for (from, to, inside, outside) in [
            (
                "02:00",
                "05:00",
                vec![at(2, 0, 0), at(3, 30, 0), at(4, 59, 59)],
                vec![at(1, 59, 59), at(5, 0, 0), at(0, 0, 0), at(23, 59, 59)],
            ),
            (
                "22:30",
                "05:00",
                vec![at(22, 30, 0), at(23, 59, 59), at(0, 0, 0), at(4, 59, 59)],
                vec![at(22, 29, 59), at(5, 0, 0), at(12, 0, 0)],
            ),
            (
                "23:59",
                "00:00",
                vec![at(23, 59, 0), at(23, 59, 59)],
                vec![at(23, 58, 59), at(0, 0, 0)],
            ),
            (
                "00:00",
                "00:01",
                vec![at(0, 0, 0), at(0, 0, 59)],
                vec![at(0, 1, 0), at(23, 59, 59)],
            ),
            (
                "02:00",
                "02:00",
                vec![at(2, 0, 0), at(1, 59, 59), at(0, 0, 0), at(14, 0, 0)],
                vec![],
            ),
        ] {
            for time in inside {
                assert!(may(&window(from, to), time), "{from}-{to} {time}");
            }
            for time in outside {
                assert!(!may(&window(from, to), time), "{from}-{to} {time}");
            }
        }
    }

    #[test]
    fn a_boot_loader_that_counts_keeps_kexec_away() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path());
        assert!(may_kexec(&machine));
        for boot in ["boot", "efi", "boot/efi"] {
            let entries = root.path().join(boot).join("loader/entries");
            fs::create_dir_all(&entries).unwrap();
            fs::write(entries.join("nixos-generation-1.conf"), "").unwrap();
            assert!(may_kexec(&machine), "{boot}");
            let counted = entries.join("nixos-generation-2+3.conf");
            fs::write(&counted, "").unwrap();
            assert!(!may_kexec(&machine), "{boot}");
            fs::remove_file(counted).unwrap();
        }
        for (name, counts) in [
            ("a+3.conf", true),
            ("a+2-1.conf", true),
            ("a+b+0-3.conf", true),
            ("a.conf", false),
            ("a+3.efi", false),
            ("c++.conf", false),
            ("a+x.conf", false),
            ("a+3-.conf", false),
        ] {
            assert_eq!(is_counted(name), counts, "{name}");
        }
    }

    #[test]
    fn a_kernel_that_somebody_loaded_is_jumped_into() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("kexec_loaded");
        assert!(!is_loaded(&path));
        fs::write(&path, "0\n").unwrap();
        assert!(!is_loaded(&path));
        fs::write(&path, "1\n").unwrap();
        assert!(is_loaded(&path));
    }

    #[test]
    fn who_blocks_a_shutdown_is_named_and_who_delays_it_is_not() {
        // As systemd 257 printed it.
        let one = r#"["shutdown:sleep","editor","unsaved work","block",0,450]"#;
        let list = |locks: &str| {
            locks_in(format!(r#"{{"type":"a(ssssuu)","data":[[{locks}]]}}"#).as_bytes())
        };
        assert_eq!(
            list(one),
            [r#""editor" (process 450, reason "unsaved work")"#]
        );
        let others = r#"["sleep","a","b","block",0,1],["shutdown","a","b","delay",0,2],
                        ["shutdown","a","b","block-weak",0,3],["sleep:shutdown","bento","b","block",0,4]"#;
        assert!(list(others).is_empty());
        assert!(list("").is_empty());
        assert_eq!(list(&format!("{others},{one}")).len(), 1);
    }

    #[test]
    fn without_systemd_there_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = reboot(&Machine::new(root.path()), false).unwrap_err();
        assert!(error.to_string().contains("systemd"), "{error}");
    }
}
