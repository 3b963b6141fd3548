use super::*;

fn found(text: &str) -> Vec<String> {
    let show = |reference: Reference| {
        let open = if reference.whole { "" } else { "…" };
        format!("{}:{}{open}", reference.line, reference.path)
    };
    let references = NixFile::read(text).references.into_iter();
    references.map(show).collect()
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
            "18:././../no",
            "19:../modules/…",
            "20:../modules/x-…",
            "21:../…",
            "23:../end",
        ]
    );
}

// Issue 10, line 2.
#[test]
fn paths_are_found_in_sums_and_strings_and_examples_are_optional() {
    let text = r#"
        [ (../a + ".nix") (./. + "/b/${x}/c") (./d + x) "${./e}/f" "${./g}/h${x}" "a ${./i}/j" ./k/${"l"}
          "${self}/m/n.nix" (self + "/o") (inputs.self + "/p/${x}") "${inputs.self}/q" "${other}/r" "${self}/s t"
          (if builtins.pathExists ./u then ./u else ./v) (lib.optional (lib.pathExists (./w + "/x")) (./w + "/x"))
          (let y = ./y; in if pathExists y then y else 1) { example = { z = ./z; }; } ]"#;
    let show = |reference: &Reference| {
        let base = if reference.from_top { "top " } else { "" };
        let open = if reference.whole { "" } else { "…" };
        let optional = if reference.is_optional { "?" } else { "" };
        format!("{base}{}{open}{optional}", reference.path)
    };
    let found = NixFile::read(text);
    assert_eq!(found.fault, None);
    let found: Vec<_> = found.references.iter().map(show).collect();
    let expected = [
        "../a.nix",
        "././b/…",
        "./d…",
        "./e/f",
        "./e",
        "./g/h…",
        "./g",
        "./i",
        "./k/…",
        "top m/n.nix",
        "top o",
        "top p/…",
        "top q",
        "./u?",
        "./u?",
        "./v",
        "./w/x?",
        "./w/x?",
        "./y?",
        "./z?",
    ];
    assert_eq!(found, expected);
}

// Issue 10, line 8.
#[test]
fn a_revision_without_a_default_is_needed() {
    for (text, needed) in [
        ("self.rev", true),
        ("inputs.self.shortRev", true),
        ("{ inherit (self) rev lastModified; }", true),
        ("if self ? rev then self.rev else throw \"dirty\"", true),
        ("assert self ? rev; 1", true),
        ("self.rev or null", false),
        ("self.shortRev or self.dirtyShortRev or \"dirty\"", false),
        ("if self ? rev then self.rev else null", false),
        ("{ enable = self ? rev; }", false),
        ("{ inherit (self) lastModified; }", false),
        ("other.rev", false),
    ] {
        assert_eq!(!NixFile::read(text).revisions.is_empty(), needed, "{text}");
    }
}

// Issue 10, line 8.
#[test]
fn only_fetched_addresses_of_ssh_are_found() {
    for (text, is_fetched) in [
        ("{ inputs.x.url = \"git+ssh://git@example.org/x\"; }", true),
        (
            "{ inputs = { x.url = \"git+ssh://git@example.org/x\"; }; }",
            true,
        ),
        (
            "builtins.fetchGit { url = \"git@example.org:x.git\"; }",
            true,
        ),
        ("fetchGit \"ssh://git@example.org/x\"", true),
        ("{ inputs.x.url = \"git+https://example.org/x\"; }", false),
        (
            "{ programs.git.url.\"ssh://git@example.org\".insteadOf = 1; }",
            false,
        ),
        ("{ remote.url = \"git@example.org:x.git\"; }", false),
    ] {
        assert_eq!(
            !NixFile::read(text).over_ssh.is_empty(),
            is_fetched,
            "{text}"
        );
    }
}

#[test]
fn any_file_is_parsed_to_its_end() {
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
    assert_eq!(found("{ x = [ ../x ; ]; y = ../y; }"), ["1:../x", "1:../y"]);
}
