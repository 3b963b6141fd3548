//! Clients that are in use: what each needs to take what is a machine's and to leave a report is there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bento_protocol::ReportName;
use bento_tests::process::{self, Output};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::IsolationEnv;
use crate::machine::Machine;
use crate::{reports, states};

impl IsolationEnv {
    /// Each client's own folder.
    fn folder_of(&self, client: &str) -> Result<String> {
        let folder = self.own(client);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn assert_taken(&self, folder: &str) -> Result<()> {
        let taken = fs::read_to_string(Path::new(folder).join("configuration.nix"))?;
        assert_eq!(taken, "kikimora's");
        Ok(())
    }

    /// A report for a client to leave, as a file of its own: where it lies, and where it is to go.
    fn report(&self, machine: &Machine) -> Result<(String, String)> {
        let report = reports::success(machine.log_in()?.poll()?);
        let run = report.run;
        let name = ReportName { run, attempt: 1 }.to_string();
        fs::write(self.own(&name), reports::packed(&report)?)?;
        Ok((self.own(&name), format!("/logs/{name}")))
    }

    /// Waits until so many reports have been taken in, each of them whole.
    fn await_reports(&self, count: u64) -> Result<()> {
        states::await_runs(&self.appliance, "kikimora", count).map(drop)
    }
}

/// `ssh` as other programs start it.
fn transport(machine: &Machine) -> String {
    format!(
        "ssh -a -x -F none -i {} -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
         -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        machine.key().display()
    )
}

fn run(command: &mut Command) -> Result<Output> {
    process::run(command, process::SHORT)?.success()
}

#[test]
fn every_client_in_use_takes_what_is_its_own_and_leaves_a_report() -> Result<()> {
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    let folder = env.folder_of("openssh")?;
    let listed = kikimora.sftp("ls -l /")?.success()?.stdout;
    assert!(listed.contains("manifest.json"), "{listed}");
    kikimora
        .sftp(&format!("get -R /config/. {folder}"))?
        .success()?;
    env.assert_taken(&folder)?;
    let (file, target) = env.report(&kikimora)?;
    kikimora.sftp(&format!("put {file} {target}"))?.success()?;
    env.await_reports(1)?;

    let folder = env.folder_of("lftp")?;
    let (server, name) = (kikimora.server(), kikimora.name());
    let (file, target) = env.report(&kikimora)?;
    let script = format!(
        "set cmd:fail-exit true; set net:max-retries 1; set sftp:connect-program '{}'; \
         open -u {name}, sftp://{server}; mirror /config {folder}; put {file} -o {target}; bye",
        transport(&kikimora)
    );
    run(Command::new("lftp").args(["--norc", "-c", &script]))?;
    env.assert_taken(&folder)?;
    env.await_reports(2)?;

    let folder = env.folder_of("rclone")?;
    let rclone = |arguments: &[&str]| {
        let mut command = Command::new("rclone");
        command.args(arguments).args(["--config", "/dev/null"]);
        command.args(["--sftp-host", &server.ip().to_string()]);
        command.args(["--sftp-port", &server.port().to_string()]);
        command.args(["--sftp-user", name, "--sftp-key-file"]);
        command.arg(kikimora.key());
        // There is no shell to ask for checksums, and times can't be set.
        command.args(["--sftp-shell-type=none", "--sftp-disable-hashcheck"]);
        command.args(["--sftp-set-modtime=false", "--retries=1"]);
        run(&mut command)
    };
    rclone(&["copy", ":sftp:/config", &folder])?;
    env.assert_taken(&folder)?;
    let (file, target) = env.report(&kikimora)?;
    rclone(&["copyto", &file, &format!(":sftp:{target}")])?;
    env.await_reports(3)?;

    // libssh2, as in the client.
    let session = kikimora.log_in()?;
    assert_eq!(
        session.pull()?.text("config/configuration.nix"),
        "kikimora's"
    );
    session.leave(&reports::success(session.poll()?))?;
    env.await_reports(4)
}

#[test]
fn the_commands_of_a_client_of_2022_still_do() -> Result<()> {
    let env = IsolationEnv::new()?;
    let kikimora = env.machine("kikimora");
    let listing =
        || Ok::<_, anyhow::Error>(kikimora.sftp("ls -l last_change_date")?.success()?.stdout);
    let state = listing()?;
    assert!(
        state
            .lines()
            .last()
            .is_some_and(|line| line.contains("last_change_date"))
    );
    assert_eq!(listing()?, state);
    let folder = env.folder_of("2022")?;
    kikimora
        .sftp(&format!("lcd {folder}\ncd config\nget -R ."))?
        .success()?;
    env.assert_taken(&folder)?;
    let log = env.own("20220917-1200_gen_success.log.gz");
    let mut gzip = GzEncoder::new(fs::File::create(&log)?, Compression::default());
    gzip.write_all(b"building the system configuration...")?;
    gzip.finish()?;
    kikimora.sftp(&format!("cd logs\nput {log}"))?.success()?;
    states::await_word(&env.appliance, "kikimora", "legacy").map(drop)
}
