//! Collects all problems of `fleet.toml`, each with its line.

use std::ops::Range;

use bento_protocol::wrong_type;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml_edit::{Document, Item, Key};

use super::FILE_NAME;
use crate::problem::Problem;

/// Parser for parts of the file, which collects their problems.
pub(super) struct Reader<'text> {
    text: &'text str,
    pub(super) problems: Vec<Problem>,
}

impl<'text> Reader<'text> {
    /// A reader without problems.
    pub(super) fn new(text: &'text str) -> Self {
        Reader {
            text,
            problems: Vec::new(),
        }
    }

    /// Adds a problem at this position of the text, or of the whole file.
    pub(super) fn add(
        &mut self,
        span: Option<Range<usize>>,
        what: impl Into<String>,
        advice: &str,
    ) {
        let place = match span {
            Some(span) => format!("{FILE_NAME}:{}", self.line(span.start)),
            None => FILE_NAME.to_owned(),
        };
        // The parser's messages may have several lines.
        let what = what.into().replace('\n', ", ");
        self.problems.push(Problem::new(place, what, advice));
    }

    /// The line of a byte, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Parses one table; its error becomes a problem.
    pub(super) fn section<T: DeserializeOwned>(&mut self, item: &Item, name: &str) -> Option<T> {
        let value = item.clone().into_value();
        let result = match value {
            Ok(value) => T::deserialize(value.into_deserializer()),
            Err(_) => return None,
        };
        result
            .map_err(|error| {
                let before = error.span().and_then(|span| self.text.get(..span.start));
                let words = wrong_type(error.message(), before.unwrap_or_default());
                let what = words.unwrap_or_else(|| error.message().to_owned());
                self.add(
                    error.span().or(item.span()),
                    format!("{name}: {what}"),
                    "correct the line",
                );
            })
            .ok()
    }

    /// Adds problems for missing and unknown sections.
    pub(super) fn check_sections(&mut self, document: &Document<&str>) {
        if document.get("server").is_none() {
            self.add(
                None,
                "there is no [server]",
                "add [server] with address = \"…\", the address for the clients",
            );
        }
        for (key, item) in document.iter() {
            let span = document.key(key).and_then(Key::span).or(item.span());
            match key {
                "hosts" if item.is_table_like() => {}
                "hosts" => self.add(
                    span,
                    "hosts isn't a table",
                    "write [hosts.<name>] for each machine",
                ),
                "server" | "publish" | "notify" | "defaults" => {}
                _ => {
                    let what = format!("unknown key {key:?}");
                    self.add(
                        span,
                        what,
                        "remove it; there are server, publish, notify, defaults and hosts.<name>",
                    );
                }
            }
        }
    }
}
