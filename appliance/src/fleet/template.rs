//! The placeholder `{name}` in settings that machines share.

use bento_protocol::{HostName, text_type};

/// The placeholder for the machine's name.
const NAME: &str = "name";

/// A text of `fleet.toml` with `{name}` as a placeholder for the machine's name.
///
/// Other braces are literal, since gitignore patterns may have them. But another single word in braces is refused: it
/// was meant as a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

text_type!(Template(String));

impl Template {
    /// The text for one machine.
    pub fn of(&self, name: &HostName) -> String {
        self.0.replace(&format!("{{{NAME}}}"), name.as_str())
    }
}

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let braces = text.split('{').skip(1);
        let mut words = braces.filter_map(|rest| Some(rest.split_once('}')?.0));
        match words.find(|word| *word != NAME && is_word(word)) {
            None => Ok(Template(text.to_owned())),
            Some(word) => Err(format!(
                "{{{word}}} in {text:?} is no placeholder: the only one is {{{NAME}}}, for the machine's name"
            )),
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
    text.starts_with(|char: char| char.is_ascii_alphabetic()) && text.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_name_is_the_only_placeholder() {
        let of = |text: &str| {
            let template = text.parse::<Template>()?;
            Ok::<_, String>(template.of(&"moon".parse().unwrap()))
        };
        for (text, filled) in [
            ("/hosts/{name}/", "/hosts/moon/"),
            ("{name}/{name}.nix", "moon/moon.nix"),
            ("*.{nix,md}", "*.{nix,md}"),
            ("{{ name }}", "{{ name }}"),
            ("{}{", "{}{"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(filled));
        }
        for bad in ["hosts/{host}", "{Name}", "{{name}/{nmae}}"] {
            assert!(
                of(bad).unwrap_err().contains("the only one is {name}"),
                "{bad}"
            );
        }
    }
}
