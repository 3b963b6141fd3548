//! What `bento health` finds out, and what it costs.

use anyhow::Result;
use bento_tests::{Appliance, Options};
use nix::sys::signal::{Signal, kill};

use super::fleet;

#[test]
fn a_health_check_leaves_no_trace_in_the_log() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let before = appliance.logs()?;
    for _ in 0..10 {
        appliance.exec(["health"])?.success()?;
    }
    assert_eq!(appliance.logs()?, before);
    Ok(())
}

#[test]
fn a_hung_appliance_is_not_healthy() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let first = appliance.first_process()?;
    kill(first, Signal::SIGSTOP)?;
    // The kernel still accepts connections for it.
    let health = appliance.exec(["health"])?;
    kill(first, Signal::SIGCONT)?;
    assert_eq!(health.code(), 1, "{}", health.stdout);
    assert!(
        health.stderr.contains("it took too long"),
        "{}",
        health.stderr
    );
    appliance.exec(["health"])?.success()?;
    Ok(())
}
