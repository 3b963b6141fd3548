//! A machine that reaches its appliance by way of another host.

use std::fs;

use bento_tests::key;

use crate::env::{ClientEnv, flake};
use crate::server::JumpHost;

#[test]
fn a_machine_goes_through_a_jump_host_and_prints_its_refusals() {
    let mut env = ClientEnv::new();
    env.publish(flake("1"), &[]);
    let folder = env.path("jump");
    let allowed = format!("127.0.0.1:{}", env.server.port);
    let jump = JumpHost::start(&folder, &key::public(&env.path("key")).unwrap(), &allowed);
    let known = env.path("known_hosts");
    let command = format!(
        "ssh -F none -o BatchMode=yes -o UserKnownHostsFile={} -i {} -p {} -W %h:%p kikimora@127.0.0.1",
        known.display(),
        env.path("key").display(),
        jump.port,
    );
    env.configure(&format!("proxy_command = \"{command}\""));

    env.update()
        .with(4)
        .complaining("the proxy command ended with exit code 255")
        .complaining("Host key verification failed");
    fs::write(
        &known,
        format!("[127.0.0.1]:{} {}\n", jump.port, jump.host_key),
    )
    .unwrap();
    // What the jump host says on the way is no complaint.
    env.update().with(0).without_complaint();
    assert_eq!(env.running().as_deref(), Some("1"));
    assert_eq!(env.reports().len(), 1);

    jump.allow("127.0.0.1:1");
    env.update()
        .with(4)
        .complaining("administratively prohibited");
}
