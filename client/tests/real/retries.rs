//! What is tried again, and what isn't.

use bento_protocol::Outcome;

use crate::ground::{Ground, broken, flake, with};
use crate::server;

#[test]
fn a_fetch_that_fails_is_tried_again_at_once_and_then_ever_more_rarely() {
    let mut ground = Ground::new();
    let source = format!(
        "folder: derivation {{ name = \"system\"; system = builtins.readFile (folder + \"/platform\");\n\
         builder = builtins.fetchurl {{ url = \"http://127.0.0.1:{}/builder\";\n\
         sha256 = \"0000000000000000000000000000000000000000000000000000\"; }}; }}",
        server::free_port()
    );
    let first = ground.publish(with(flake("1"), "config/system.nix", &source), &[]);
    for tries in 1..=2 {
        ground.update().with(1).complaining("unable to download");
        assert_eq!(ground.reports().len(), tries);
        assert_eq!(ground.last_report().outcome, Outcome::BuildFailed);
    }
    ground
        .update()
        .with(1)
        .complaining("is tried again after")
        .complaining("unable to download");
    assert_eq!(ground.reports().len(), 2);
    ground.update_with(&["--retry"]).with(1);
    assert_eq!(ground.reports().len(), 3);

    ground.publish(flake("2"), &[&first]);
    ground.update().with(0).without_complaint();
    ground.is_wholly_on("2");
}

#[test]
fn an_evaluation_error_stays_one_unless_nothing_pins_the_inputs() {
    let mut ground = Ground::new();
    let pinned = ground.publish(broken("1"), &[]);
    ground.update().with(1).complaining("undefined variable");
    ground
        .update()
        .with(1)
        .complaining("isn't tried again until it changes")
        .complaining("undefined variable");
    assert_eq!(ground.reports().len(), 1);

    let mut loose = broken("1");
    loose.retain(|content| content.path != "config/flake.lock");
    ground.publish(loose, &[&pinned]);
    for tries in 2..=3 {
        ground.update().with(1);
        assert_eq!(ground.reports().len(), tries);
    }
    ground.update().with(1).complaining("is tried again after");
}
