//! Finds the relative paths that a Nix file names: a scanner that knows comments, strings and what is in them, and
//! nothing else of the language.

/// A relative path in a Nix file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// Such as `../utils`; what begins with `${` isn't a part of it.
    pub(super) path: String,
    /// Whether that is all of it, without anything that is put in.
    pub(super) whole: bool,
}

/// Where the scanner is: in code, with so many braces open, or in one of the two kinds of strings.
enum Place {
    Code(usize),
    Text,
    Indented,
}

/// Every relative path that is written as one, in the order of the text.
pub(super) fn references(text: &str) -> Vec<Reference> {
    let mut scanner = Scanner {
        text: text.as_bytes(),
        at: 0,
        line: 1,
        places: vec![Place::Code(0)],
        found: Vec::new(),
    };
    while scanner.at < scanner.text.len() {
        match scanner.places.last() {
            Some(Place::Text) => scanner.in_text(),
            Some(Place::Indented) => scanner.in_indented(),
            _ => scanner.in_code(),
        }
    }
    scanner.found
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    places: Vec<Place>,
    found: Vec<Reference>,
}

impl Scanner<'_> {
    fn begins(&self, what: &str) -> bool {
        self.text[self.at..].starts_with(what.as_bytes())
    }

    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        let newlines = self.text[self.at..end]
            .iter()
            .filter(|byte| **byte == b'\n');
        self.line += newlines.count();
        self.at = end;
    }

    fn skip_behind(&mut self, what: &[u8]) {
        let rest = &self.text[self.at..];
        let found = rest.windows(what.len()).position(|window| window == what);
        self.skip(found.map_or(rest.len(), |position| position + what.len()));
    }

    fn enter(&mut self, place: Place, opening: usize) {
        self.skip(opening);
        self.places.push(place);
    }

    fn leave(&mut self, closing: usize) {
        self.skip(closing);
        if self.places.len() > 1 {
            self.places.pop();
        }
    }

    fn in_text(&mut self) {
        match self.text[self.at] {
            b'\\' => self.skip(2),
            b'"' => self.leave(1),
            _ if self.begins("$$") => self.skip(2),
            _ if self.begins("${") => self.enter(Place::Code(0), 2),
            _ => self.skip(1),
        }
    }

    fn in_indented(&mut self) {
        if self.begins("''\\") {
            self.skip(4);
        } else if self.begins("'''") || self.begins("''$") {
            self.skip(3);
        } else if self.begins("''") {
            self.leave(2);
        } else if self.begins("$$") {
            self.skip(2);
        } else if self.begins("${") {
            self.enter(Place::Code(0), 2);
        } else {
            self.skip(1);
        }
    }

    fn in_code(&mut self) {
        match self.text[self.at] {
            b'#' => self.skip_behind(b"\n"),
            b'/' if self.begins("/*") => {
                self.skip(2);
                self.skip_behind(b"*/");
            }
            b'"' => self.enter(Place::Text, 1),
            b'\'' if self.begins("''") => self.enter(Place::Indented, 2),
            b'{' => self.open(1),
            b'$' if self.begins("${") => self.open(2),
            b'}' => self.close(),
            b'<' => self.channel(),
            byte if is_path(byte) || byte == b'/' || byte == b'~' => self.word(),
            _ => self.skip(1),
        }
    }

    fn open(&mut self, count: usize) {
        if let Some(Place::Code(depth)) = self.places.last_mut() {
            *depth += 1;
        }
        self.skip(count);
    }

    fn close(&mut self) {
        match self.places.last_mut() {
            Some(Place::Code(0)) => self.leave(1),
            Some(Place::Code(depth)) => {
                *depth -= 1;
                self.skip(1);
            }
            _ => self.skip(1),
        }
    }

    /// Such as `<nixpkgs/nixos>`, unless it is an operator.
    fn channel(&mut self) {
        let rest = &self.text[self.at + 1..];
        let is_part = |byte: &&u8| is_path(**byte) || **byte == b'/';
        let name = rest.iter().take_while(is_part).count();
        let closed = name > 0 && rest.get(name) == Some(&b'>');
        self.skip(if closed { name + 2 } else { 1 });
    }

    /// A path, a URI, a name, a number or an operator.
    fn word(&mut self) {
        let rest = &self.text[self.at..];
        let run = |from: usize, is_part: fn(u8) -> bool| {
            rest[from..]
                .iter()
                .take_while(|byte| is_part(**byte))
                .count()
        };
        let byte = |at: usize| rest.get(at).copied().unwrap_or_default();
        let first = run(usize::from(byte(0) == b'~'), is_path) + usize::from(byte(0) == b'~');
        let is_scheme = byte(0).is_ascii_alphabetic() && !rest[..first].contains(&b'_');
        if is_scheme && byte(first) == b':' && is_uri(byte(first + 1)) {
            return self.skip(first + 1 + run(first + 1, is_uri));
        }
        let mut end = first;
        let mut whole = true;
        while byte(end) == b'/' {
            if is_path(byte(end + 1)) {
                end += 1 + run(end + 1, is_path);
            } else if rest[end + 1..].starts_with(b"${") {
                end += 1;
                whole = false;
            } else {
                break;
            }
        }
        if end == first {
            // A name may hold and end with what would begin a string elsewhere.
            return self.skip((first + run(first, |byte| byte == b'\'' || is_path(byte))).max(1));
        }
        whole &= !rest[end..].starts_with(b"${");
        let path = String::from_utf8_lossy(&rest[..end]).into_owned();
        if !matches!(byte(0), b'/' | b'~') {
            let line = self.line;
            self.found.push(Reference { line, path, whole });
        }
        self.skip(end);
    }
}

fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+".contains(&byte)
}

fn is_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%/?:@&=+$,-_.!~*'".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let show = |reference: Reference| {
            let open = if reference.whole { "" } else { "…" };
            format!("{}:{}{open}", reference.line, reference.path)
        };
        references(text).into_iter().map(show).collect()
    }

    #[test]
    fn paths_are_found_in_code_and_nowhere_else() {
        let text = r#"
            # ../comment/line
            /* ../comment
               ../block */
            { pkgs, ... }@args: {
              imports = [ ./a.nix ../b/c.nix ../../d ];
              text = "../string \" ../still ${toString ../in/text} ../out";
              indented = ''
                ../no ''${../no} ''' ../no ${builtins.readFile ../in/indented} $${../no}
              '';
              a' = x'' ../after/name;
              update = a // b//c;
              set.${"../no"}.x = { y = ../nested/z; };
              uri = github:a/b/../c;
              channel = <nixpkgs/../x>;
              root = /etc/nixos/../x;
              home = ~/x;
              joined = ./. + "/../no";
              open = ../modules/${name}/default.nix;
              begun = ../modules/x-${name}.nix;
              bare = ../${name};
            }
            ../end"#;
        assert_eq!(
            found(text),
            [
                "6:./a.nix",
                "6:../b/c.nix",
                "6:../../d",
                "7:../in/text",
                "9:../in/indented",
                "11:../after/name",
                "13:../nested/z",
                "18:./.",
                "19:../modules/…",
                "20:../modules/x-…",
                "21:../…",
                "23:../end",
            ]
        );
    }

    #[test]
    fn whatever_a_file_holds_the_end_is_reached() {
        for text in [
            "",
            "\"",
            "''",
            "/*",
            "${",
            "}}}}",
            "a:",
            "~",
            "\\",
            "\"\\",
            "''\\",
            "é/ü ../x",
            "<",
            "/",
        ] {
            found(text);
        }
        assert_eq!(found("é ../x"), ["1:../x"]);
        assert_eq!(found("} } \"${ {} }\" ../x"), ["1:../x"]);
    }
}
