use std::fmt::Write;

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    /// Goes up and down.
    Gauge,
    /// Only grows, until the next start of the appliance.
    Counter,
}

/// A text in Prometheus' format, version 0.0.4. Each family is written in one piece, with its help and type.
#[derive(Debug, Default)]
pub(super) struct Text {
    written: String,
    family: String,
}

impl Text {
    /// Begins a family for the next samples.
    pub(super) fn family(&mut self, name: &str, kind: MetricType, help: &str) {
        let kind = match kind {
            MetricType::Gauge => "gauge",
            MetricType::Counter => "counter",
        };
        name.clone_into(&mut self.family);
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Writes a family with one gauge without labels.
    pub(super) fn one(&mut self, (name, help): (&str, &str), value: f64) {
        self.family(name, MetricType::Gauge, help);
        self.sample(&[], value);
    }

    /// Writes a sample of the current family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.written.push_str(&self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.written.push(if index == 0 { '{' } else { ',' });
            self.written.push_str(name);
            self.written.push_str("=\"");
            self.written.extend(value.chars().flat_map(escape));
            self.written.push('"');
        }
        if !labels.is_empty() {
            self.written.push('}');
        }
        // Whole numbers without a fraction, others with full precision, never with an exponent.
        self.line(format_args!(" {value}"));
    }

    pub(super) fn finish(self) -> String {
        self.written
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.written, "{line}");
    }
}

/// Escapes the characters that would end a label's value or the line.
fn escape(character: char) -> impl Iterator<Item = char> {
    let (backslash, character) = match character {
        '\\' | '"' => (Some('\\'), character),
        '\n' => (Some('\\'), 'n'),
        _ => (None, character),
    };
    backslash.into_iter().chain([character])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_anything() {
        let mut text = Text::default();
        text.family("a", MetricType::Gauge, "What it is.");
        text.sample(&[("x", "a\\b\"c\nd"), ("y", "grün")], 1.5);
        text.sample(&[], 1_767_225_600.0);
        assert_eq!(
            text.finish(),
            "# HELP a What it is.\n# TYPE a gauge\na{x=\"a\\\\b\\\"c\\nd\",y=\"grün\"} 1.5\na 1767225600\n"
        );
    }
}
