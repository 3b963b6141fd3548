//! The OCI documents of an image: an index names a manifest, which names a configuration and
//! layers.

use std::collections::HashMap;

use anyhow::{Context, Result};
use oci_spec::image::{
    ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REF_NAME, ANNOTATION_TITLE,
    ANNOTATION_VERSION, Arch, Config, ConfigBuilder, Descriptor, Digest, History, HistoryBuilder,
    ImageConfiguration, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder,
    MediaType, OciLayoutBuilder, Os, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;

use crate::date::SourceDate;
use crate::layer::{Blob, Layer};
use crate::name::ImageName;

/// The version of the OCI image layout, the files `index.json` and `blobs`.
const LAYOUT_VERSION: &str = "1.0.0";

/// An image, before its OCI documents are generated.
#[derive(Debug)]
pub struct Image {
    /// The name of the loaded image.
    pub name: ImageName,
    /// The architecture of its programs.
    pub architecture: Arch,
    /// Its creation date.
    pub date: SourceDate,
    /// Its layers, from the bottom up.
    pub layers: Vec<Layer>,
}

/// An image as the files of an OCI layout.
#[derive(Debug)]
pub struct Layout {
    /// The file `oci-layout`.
    pub marker: Vec<u8>,
    /// The file `index.json`.
    pub index: Vec<u8>,
    /// The manifest.
    pub manifest: Blob,
    /// The configuration.
    pub configuration: Blob,
    /// The layers, from the bottom up.
    pub layers: Vec<Blob>,
}

impl Layout {
    /// The digest of the image: that of its manifest, which names all other parts.
    pub fn digest(&self) -> &Digest {
        &self.manifest.digest
    }
}

impl Image {
    /// Generates the OCI documents.
    ///
    /// # Errors
    /// Never in practice: every required field is set.
    pub fn layout(self) -> Result<Layout> {
        let configuration = Blob::new(json(&self.configuration()?)?)?;
        let layers: Vec<Blob> = self.layers.into_iter().map(|layer| layer.blob).collect();
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &configuration))
            .layers(
                layers
                    .iter()
                    .map(|layer| descriptor(MediaType::ImageLayerGzip, layer))
                    .collect::<Vec<_>>(),
            )
            .build()?;
        let manifest = Blob::new(json(&manifest)?)?;
        // podman load takes the name from here, and accepts exactly one descriptor.
        let mut named = descriptor(MediaType::ImageManifest, &manifest);
        named.set_annotations(Some(HashMap::from([(
            ANNOTATION_REF_NAME.to_owned(),
            self.name.to_string(),
        )])));
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![named])
            .build()?;
        let marker = OciLayoutBuilder::default()
            .image_layout_version(LAYOUT_VERSION)
            .build()?;
        Ok(Layout {
            marker: json(&marker)?,
            index: json(&index)?,
            manifest,
            configuration,
            layers,
        })
    }

    fn configuration(&self) -> Result<ImageConfiguration> {
        let unpacked = self.layers.iter().map(|layer| layer.unpacked.to_string());
        let rootfs = RootFsBuilder::default()
            .typ("layers")
            .diff_ids(unpacked.collect::<Vec<_>>())
            .build()?;
        Ok(ImageConfigurationBuilder::default()
            .created(self.date.rfc3339())
            .architecture(self.architecture.clone())
            .os(Os::Linux)
            .config(run_time()?)
            .rootfs(rootfs)
            .history(
                self.layers
                    .iter()
                    .map(|layer| self.history(layer))
                    .collect::<Result<Vec<_>>>()?,
            )
            .build()?)
    }

    fn history(&self, layer: &Layer) -> Result<History> {
        Ok(HistoryBuilder::default()
            .created(self.date.rfc3339())
            .created_by(format!("bento-image: {}", layer.holds))
            .build()?)
    }
}

/// The runtime configuration of containers. The Containerfile has the same.
///
/// No volume is declared: without `--volume …:/state`, podman would create an anonymous one, and
/// host keys and reports would seem to persist until the container is replaced. Without a
/// declaration, a read-only container without that volume fails at once.
fn run_time() -> Result<Config> {
    let labels = [
        (ANNOTATION_TITLE, "bento"),
        (
            ANNOTATION_DESCRIPTION,
            "Keeps a fleet of NixOS machines up to date, by pull over SFTP",
        ),
        (ANNOTATION_VERSION, env!("CARGO_PKG_VERSION")),
        (ANNOTATION_LICENSES, env!("CARGO_PKG_LICENSE")),
    ];
    Ok(ConfigBuilder::default()
        // Separate, so that `podman run … localhost/bento init …` works on a machine without bento.
        .entrypoint(["/usr/bin/bento".to_owned()])
        .cmd(["serve".to_owned()])
        // So that `podman exec <container> bento status` finds it.
        .env(["PATH=/usr/bin".to_owned()])
        .exposed_ports(["2222/tcp".to_owned()])
        .stop_signal("SIGTERM")
        .labels(HashMap::from(
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())),
        ))
        .build()?)
}

fn descriptor(kind: MediaType, blob: &Blob) -> Descriptor {
    Descriptor::new(kind, blob.size(), blob.digest.clone())
}

/// JSON with sorted keys. oci-spec has labels and annotations in hash maps, whose order changes
/// from run to run (youki-dev/oci-spec-rs#249), and every byte enters a digest.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(value).context("describing the image")?;
    // serde_json sorts by itself, unless another crate enables its feature `preserve_order`.
    value.sort_all_objects();
    serde_json::to_vec(&value).context("describing the image")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn image() -> Image {
        Image {
            name: "localhost/bento:latest".parse().unwrap(),
            architecture: Arch::Amd64,
            date: SourceDate::DEFAULT,
            layers: vec![Layer::pack(&Tree::default(), "nothing", SourceDate::DEFAULT).unwrap()],
        }
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn each_part_names_the_next_by_digest_and_size() {
        let layout = image().layout().unwrap();
        let index = parse(&layout.index);
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        let manifest = &index["manifests"][0];
        assert_eq!(manifest["digest"], layout.digest().to_string());
        assert_eq!(manifest["size"], layout.manifest.size());
        assert_eq!(
            manifest["annotations"],
            json!({"org.opencontainers.image.ref.name": "localhost/bento:latest"})
        );
        let manifest = parse(&layout.manifest.bytes);
        let named = |blob: &Blob, kind: &str| {
            json!({
                "digest": blob.digest.to_string(),
                "size": blob.size(),
                "mediaType": format!("application/vnd.oci.image.{kind}"),
            })
        };
        assert_eq!(
            manifest["config"],
            named(&layout.configuration, "config.v1+json")
        );
        assert_eq!(
            manifest["layers"],
            json!([named(&layout.layers[0], "layer.v1.tar+gzip")])
        );
    }

    #[test]
    fn the_configuration_runs_the_appliance() {
        let image = image();
        let unpacked = image.layers[0].unpacked.to_string();
        let configuration = parse(&image.layout().unwrap().configuration.bytes);
        assert_eq!(
            configuration,
            json!({
                "architecture": "amd64",
                "os": "linux",
                "created": "1970-01-01T00:00:01Z",
                "config": {
                    "Cmd": ["serve"],
                    "Entrypoint": ["/usr/bin/bento"],
                    "Env": ["PATH=/usr/bin"],
                    "ExposedPorts": {"2222/tcp": {}},
                    "StopSignal": "SIGTERM",
                    "Labels": {
                        "org.opencontainers.image.title": "bento",
                        "org.opencontainers.image.description":
                            "Keeps a fleet of NixOS machines up to date, by pull over SFTP",
                        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                        "org.opencontainers.image.licenses": "MIT",
                    },
                },
                "rootfs": {"type": "layers", "diff_ids": [unpacked]},
                "history": [{
                    "created": "1970-01-01T00:00:01Z",
                    "created_by": "bento-image: nothing",
                }],
            })
        );
    }

    #[test]
    fn keys_are_sorted_in_spite_of_hash_maps() {
        let text = String::from_utf8(image().layout().unwrap().configuration.bytes).unwrap();
        let at = |key: &str| text.find(key).unwrap();
        assert!(at("image.description") < at("image.licenses"));
        assert!(at("image.licenses") < at("image.title"));
        assert!(at("image.title") < at("image.version"));
        assert!(at("Entrypoint") < at("ExposedPorts"));
        assert!(at("\"architecture\"") < at("\"rootfs\""));
    }
}
