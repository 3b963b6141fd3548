# The part of nixpkgs' `lib` that small configurations and bento's own modules use.
let
  inherit (builtins)
    attrNames concatStringsSep elemAt filter foldl' genList isAttrs isList length listToAttrs map mapAttrs
    match replaceStrings stringLength substring toJSON toString;

  lib = builtins // import ./modules.nix lib // {
    types = import ./types.nix lib;

    id = value: value;
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    boolToString = value: if value then "true" else "false";

    last = list: elemAt list (length list - 1);
    unique = foldl' (seen: value: if builtins.elem value seen then seen else seen ++ [ value ]) [ ];
    imap0 = f: list: genList (index: f index (elemAt list index)) (length list);

    isDerivation = value: value.type or null == "derivation";
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: listToAttrs (map (name: lib.nameValuePair name (f name)) names);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);

    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    concatMapStrings = lib.concatMapStringsSep "";
    concatStrings = concatStringsSep "";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    toLower =
      let
        letters = text: genList (index: substring index 1 text) 26;
      in
      replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");
    escapeShellArg = value: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString value)}'";
    makeBinPath = lib.concatMapStringsSep ":" (package: "${package}/bin");

    # nixpkgs has a program write TOML. Inline tables are TOML as well and need none: strings,
    # numbers and booleans are written alike in JSON.
    toTOML =
      let
        key = name: if match "[A-Za-z0-9_-]+" name == null then toJSON name else name;
        pair = name: value: "${key name} = ${inline value}";
        inline = value:
          if isAttrs value then "{ ${concatStringsSep ", " (lib.mapAttrsToList pair value)} }"
          else if isList value then "[${concatStringsSep ", " (map inline value)}]"
          else toJSON value;
      in
      set: lib.concatStrings (lib.mapAttrsToList (name: value: pair name value + "\n") set);
  };
in
lib
