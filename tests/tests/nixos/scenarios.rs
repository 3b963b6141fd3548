//! What is tried on a real NixOS.

use anyhow::Result;

use crate::env::Env;
use crate::vm::Vm;

/// A scenario's name, and what it does.
type Scenario = (&'static str, fn(&Env) -> Result<()>);

/// All scenarios, in the order in which they are run.
pub(crate) const SCENARIOS: &[Scenario] = &[("first update, and nothing new", first_update)];

fn first_update(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "first", "")?;
    vm.is_up_to_date()?;
    vm.update_by_unit()?;
    vm.publish("")?;
    vm.update_by_unit()?;
    vm.reports(&["switched"])?;
    vm.is_up_to_date()
}
