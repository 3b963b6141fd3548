//! Wires the command line to the library.

use std::process::ExitCode;

use bento_image::commands::{build, rootfs};
use clap::Parser;

/// Assembles the OCI image of the bento appliance, without any container tool.
#[derive(Parser)]
#[command(name = "bento-image", version)]
enum Command {
    Build(build::Build),
    Rootfs(rootfs::Rootfs),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Build(build) => build.run(),
        Command::Rootfs(rootfs) => rootfs.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bento-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
