//! bento end to end: the real image in rootless podman, a real sshd, OpenSSH's own clients, `bento-client` on whole
//! machines with real Nix.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

mod generation;
mod halted;
mod image;
mod machine;
mod reports;
mod states;

mod administrator;
mod atomicity;
mod backup;
mod bad_input;
mod container;
mod containerfile;
mod disk;
mod endurance;
mod faults;
mod inbox;
mod insight;
mod isolation;
mod life;
mod limits;
mod modules;
mod nixos;
mod notification;
mod publication;
mod release;
mod renaming;
mod stand_in;
mod status;
mod truth;
mod tutorial;
mod vm;
mod wire;
