//! Streaming parsers for manifests and deltas, with only one file in memory at a time.

use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{FilePath, Format, GenerationId, HostName, ManifestEntry, Policy};

/// A manifest without its files. It is verified only once the files are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    format: Format,
    /// The machine.
    pub host: HostName,
    /// The id in the document.
    pub generation: GenerationId,
    /// When it was published, by the appliance's clock.
    pub published: Timestamp,
    /// The settings for the client.
    pub policy: Policy,
}

/// A delta without its files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DeltaHead {
    /// The generation to which it applies.
    pub from: GenerationId,
    /// The head of the resulting manifest.
    #[serde(flatten)]
    pub head: Head,
}

/// Callback for each item of a list. An error ends the parsing, with this text.
pub type Each<'a, T> = &'a mut dyn FnMut(T) -> Result<(), String>;

/// Reads a manifest.
pub fn read_manifest<'de, D: Deserializer<'de>>(
    document: D,
    files: Each<'_, ManifestEntry>,
) -> Result<Head, D::Error> {
    read(
        document,
        Lists {
            files: ("files", files),
            removed: None,
        },
    )
}

/// Reads a delta.
pub fn read_delta<'de, D: Deserializer<'de>>(
    document: D,
    changed: Each<'_, ManifestEntry>,
    removed: Each<'_, FilePath>,
) -> Result<DeltaHead, D::Error> {
    read(
        document,
        Lists {
            files: ("changed", changed),
            removed: Some(("removed", removed)),
        },
    )
}

fn read<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    document: D,
    lists: Lists<'_>,
) -> Result<T, D::Error> {
    let rest = document.deserialize_map(lists)?;
    serde_json::from_value(Value::Object(rest)).map_err(Error::custom)
}

/// The fields that are held in memory. Unknown fields are skipped.
const HELD: [&str; 6] = [
    "format",
    "from",
    "generation",
    "host",
    "policy",
    "published",
];

/// The streamed lists, each with the name of its field.
struct Lists<'a> {
    files: (&'static str, Each<'a, ManifestEntry>),
    removed: Option<(&'static str, Each<'a, FilePath>)>,
}

impl<'de> Visitor<'de> for Lists<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    /// Returns the held fields, and null for each list.
    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut held = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let mut value = Value::Null;
            if name == self.files.0 {
                fields.next_value_seed(Items(self.files.1))?;
            } else if let Some((_, each)) = self.removed.as_mut().filter(|list| list.0 == name) {
                fields.next_value_seed(Items(*each))?;
            } else if HELD.contains(&name.as_str()) {
                value = fields.next_value()?;
            } else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            if held.insert(name, value).is_some() {
                return Err(Error::custom("duplicate field"));
            }
        }
        let mut lists = [Some(self.files.0), self.removed.map(|list| list.0)]
            .into_iter()
            .flatten();
        match lists.find(|list| !held.contains_key(*list)) {
            Some(missing) => Err(Error::missing_field(missing)),
            None => Ok(held),
        }
    }
}

struct Items<'a, T>(Each<'a, T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Items<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item).map_err(Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delta;
    use crate::manifest::tests::manifest;

    fn files(json: &str) -> Result<(Head, Vec<ManifestEntry>), serde_json::Error> {
        let mut files = Vec::new();
        let mut document = serde_json::Deserializer::from_str(json);
        let head = read_manifest(&mut document, &mut |file| {
            files.push(file);
            Ok(())
        })?;
        Ok((head, files))
    }

    #[test]
    fn the_stream_and_the_document_agree() {
        let manifest = manifest(&[("config/a", "1"), ("config/b", "2"), ("config/c", "-> d")]);
        let json = serde_json::to_string(&manifest).unwrap();
        let (head, streamed) = files(&json).unwrap();
        assert_eq!(head.generation, manifest.generation());
        assert_eq!(&head.host, manifest.host());
        assert_eq!(streamed, manifest.files());

        // In any order, and with fields of a later version.
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let reversed: Vec<_> = value
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .rev()
            .collect();
        let other = format!("{{\"new\":[{{}}],{}}}", reversed.join(","));
        assert_eq!(files(&other).unwrap(), (head, streamed));
    }

    #[test]
    fn an_invalid_document_is_an_invalid_stream() {
        let json = serde_json::to_string(&manifest(&[("config/a", "1")])).unwrap();
        for (old, new) in [
            ("\"format\":1", "\"format\":2"),
            ("\"format\":1,", ""),
            ("\"files\"", "\"changed\""),
            ("\"host\"", "\"files\":[],\"host\""),
            ("\"host\"", "\"host\":\"baba\",\"host\""),
            ("config/a", "config/.."),
            ("kikimora", "Kikimora"),
            ("}]}", "}]"),
        ] {
            let tampered = json.replacen(old, new, 1);
            assert_ne!(tampered, json, "{old} isn't in the document");
            assert!(files(&tampered).is_err(), "{new}");
        }
    }

    #[test]
    fn a_delta_has_two_lists() {
        let old = manifest(&[("config/a", "1"), ("config/b", "1"), ("config/c", "1")]);
        let new = manifest(&[("config/b", "-> d"), ("config/d", "1")]);
        let delta = Delta::between(&old, &new);
        let json = serde_json::to_string(&delta).unwrap();
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        let head = read_delta(
            &mut serde_json::Deserializer::from_str(&json),
            &mut |file| {
                changed.push(file);
                Ok(())
            },
            &mut |path| {
                removed.push(path);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(
            (head.from, head.head.generation),
            (old.generation(), new.generation())
        );
        assert_eq!((changed, removed), (delta.changed, delta.removed));
    }

    #[test]
    fn an_error_of_the_callback_ends_the_parsing() {
        let json =
            serde_json::to_string(&manifest(&[("config/a", "1"), ("config/b", "2")])).unwrap();
        let mut taken = 0;
        let read = read_manifest(&mut serde_json::Deserializer::from_str(&json), &mut |_| {
            taken += 1;
            Err("no more".into())
        });
        assert!(read.unwrap_err().to_string().contains("no more"));
        assert_eq!(taken, 1);
    }
}
