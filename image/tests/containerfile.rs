//! The Containerfile says how a container runs in its own words. They must be the image's.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bento_image::date::SourceDate;
use bento_image::image::Image;
use oci_spec::image::Arch;
use serde_json::{Value, json};

/// The instructions of the last stage, in order: keyword and argument.
fn last_stage() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Containerfile");
    let text = fs::read_to_string(file).unwrap();
    let (_, stage) = text.rsplit_once("FROM scratch\n").unwrap();
    stage
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(keyword, argument)| (keyword.to_owned(), argument.to_owned()))
        .collect()
}

#[test]
fn both_images_run_the_same_way() {
    let mut labels = BTreeMap::new();
    let mut configuration = json!({});
    for (keyword, argument) in last_stage() {
        match keyword.as_str() {
            "COPY" => assert_eq!(argument, "--from=build /rootfs/ /"),
            "LABEL" => {
                let (key, value) = argument.split_once('=').unwrap();
                labels.insert(key.to_owned(), value.trim_matches('"').to_owned());
            }
            "ENV" => configuration["Env"] = json!([argument]),
            "EXPOSE" => configuration["ExposedPorts"] = json!({ argument: {} }),
            "STOPSIGNAL" => configuration["StopSignal"] = argument.into(),
            "ENTRYPOINT" => configuration["Entrypoint"] = serde_json::from_str(&argument).unwrap(),
            "CMD" => configuration["Cmd"] = serde_json::from_str(&argument).unwrap(),
            other => panic!("bento-image has no counterpart of {other}"),
        }
    }
    configuration["Labels"] = json!(labels);

    let layout = Image {
        name: "localhost/bento:latest".parse().unwrap(),
        architecture: Arch::Amd64,
        date: SourceDate::DEFAULT,
        layers: Vec::new(),
    }
    .layout()
    .unwrap();
    let built: Value = serde_json::from_slice(&layout.configuration.bytes).unwrap();
    assert_eq!(configuration, built["config"]);
}
