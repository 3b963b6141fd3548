# nixpkgs' `types`: each has a description, checks one definition, and merges several.
lib:
let
  inherit (builtins) all concatMap head isAttrs isBool isFunction isInt isList isPath isString map match;

  simple = description: check: { inherit description check; merge = lib.mergeEqual; };
  isAbsolute = value:
    isPath value || (isString value || lib.isDerivation value) && lib.hasPrefix "/" "${value}";
in
rec {
  anything = unspecified // { description = "anything"; };
  unspecified = simple "unspecified value" (_: true) // { merge = lib.mergeFreeform; };
  attrs = simple "attribute set" isAttrs // { merge = lib.mergeFreeform; };

  bool = simple "boolean" isBool;
  int = simple "signed integer" isInt;
  ints.between = lowest: highest: simple "integer between ${toString lowest} and ${toString highest} (both inclusive)" (
    value: isInt value && value >= lowest && value <= highest
  );
  port = simple "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (
    value: isInt value && value >= 0 && value <= 65535
  );
  str = simple "string" isString;
  nonEmptyStr = simple "non-empty string" (value: isString value && match "[ \t\r\n]*" value == null);
  strMatching = pattern: simple "string matching the pattern ${pattern}" (
    value: isString value && match pattern value != null
  );
  lines = simple "strings concatenated with \"\\n\"" isString // {
    merge = _: lib.concatMapStringsSep "\n" (one: one.value);
  };
  enum = allowed: simple "one of ${builtins.toJSON allowed}" (value: builtins.elem value allowed);
  path = simple "absolute path" isAbsolute;
  # nixpkgs wants a derivation or a store path; here a program may lie anywhere.
  package = simple "package" isAbsolute;

  nullOr = type: {
    description = "null or ${type.description}";
    check = value: value == null || type.check value;
    merge = location: definitions:
      if all (one: one.value == null) definitions then null else type.merge location definitions;
  };
  either = left: right: {
    description = "${left.description} or ${right.description}";
    check = value: left.check value || right.check value;
    merge = location: definitions:
      (if left.check (head definitions).value then left else right).merge location definitions;
  };
  coercedTo = from: coerce: to: to // {
    check = value: from.check value || to.check value;
    merge = location: definitions: to.merge location (
      map (one: one // { value = if from.check one.value then coerce one.value else one.value; }) definitions
    );
  };

  listOf = type: {
    description = "list of ${type.description}";
    check = isList;
    merge = location: concatMap (one: builtins.concatLists (lib.imap0 (index: value:
      let held = lib.discharge [ { inherit (one) file; inherit value; } ]; in
      lib.optional (held != [ ]) (
        lib.mergeWith (location ++ [ "[entry ${toString (index + 1)}]" ]) type held
      )
    ) one.value));
  };
  nonEmptyListOf = type: listOf type // {
    description = "non-empty ${(listOf type).description}";
    check = value: isList value && value != [ ];
  };
  attrsOf = type: {
    description = "attribute set of ${type.description}";
    check = isAttrs;
    merge = location: definitions:
      let
        sets = lib.setsOf location definitions;
        held = lib.genAttrs (lib.namesOf sets) (name: lib.discharge (lib.under name sets));
      in
      builtins.mapAttrs (name: lib.mergeWith (location ++ [ name ]) type) (
        lib.filterAttrs (_: one: one != [ ]) held
      );
  };
  submodule = module: {
    description = "submodule";
    check = value: isAttrs value || isFunction value || isPath value;
    merge = location: definitions: (lib.evalModules {
      modules = [ module ] ++ map (one:
        if isAttrs one.value then { _file = one.file; config = one.value; } else one.value
      ) definitions;
      specialArgs.name = lib.last location;
      prefix = location;
    }).config;
  };
}
