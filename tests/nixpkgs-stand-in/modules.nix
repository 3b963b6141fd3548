# A small module system with the outward behaviour of nixpkgs' `lib/modules.nix`.
lib:
let
  inherit (builtins)
    all any attrNames attrValues concatMap filter foldl' head isAttrs isFunction isList length map
    mapAttrs tail toString typeOf;
  inherit (lib) optional unique;

  isType = type: value: isAttrs value && value._type or null == type;
  showOption = builtins.concatStringsSep ".";
  showValue = value:
    if isAttrs value || isList value || isFunction value then "a ${typeOf value}" else builtins.toJSON value;
  showDefinitions = lib.concatMapStrings (one: "\n- In `${one.file}': ${showValue one.value}");

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };

  # Moves mkIf, mkMerge and mkForce from around a set into each of its attributes, so that the
  # names in a set never depend on a condition: a condition may read the very set that it is in.
  pushDown = location: value:
    let inner = pushDown location; in
    if isType "merge" value then concatMap inner value.contents
    else if isType "if" value then map (mapAttrs (_: mkIf value.condition)) (inner value.content)
    else if isType "override" value then map (mapAttrs (_: mkOverride value.priority)) (inner value.content)
    else if isAttrs value then [ value ]
    else throw "The option `${showOption location}' is a set of options, but ${showValue value} is assigned to it.";

  # The value under its properties, without asking whether its conditions hold.
  strip = value:
    if isType "if" value || isType "override" value then strip value.content
    else if isType "merge" value then strip (head (value.contents ++ [ { } ]))
    else value;

  # Definitions whose conditions hold, and of these the ones with the strongest priority. What is
  # outranked isn't evaluated: a default may be something that can't be had here.
  discharge = definitions:
    let
      holding = { file, value }:
        let of = content: holding { inherit file; value = content; }; in
        if isType "merge" value then concatMap of value.contents
        else if isType "if" value then lib.optionals value.condition (of value.content)
        else [ { inherit file value; } ];
      priority = one: if isType "override" one.value then one.value.priority else 100;
      held = concatMap holding definitions;
      strongest = foldl' (best: one: if priority one < best then priority one else best) 9999 held;
      bare = one:
        if isType "override" one.value then discharge [ { inherit (one) file; value = one.value.content; } ]
        else [ one ];
    in
    concatMap bare (filter (one: priority one == strongest) held);

  # What a type makes of discharged definitions.
  mergeWith = location: type: definitions:
    let wrong = filter (one: !type.check one.value) definitions; in
    if definitions == [ ] then
      throw "The option `${showOption location}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw "A definition for option `${showOption location}' is not of type `${type.description}'. Definition values:${showDefinitions wrong}"
    else
      type.merge location definitions;

  mergeEqual = location: definitions:
    let first = (head definitions).value; in
    if all (one: one.value == first) (tail definitions) then first
    else throw "The option `${showOption location}' has conflicting definition values:${showDefinitions definitions}";

  # What no module declares: sets merge deeply, lists are joined, anything else must agree.
  mergeFreeform = location: definitions:
    let
      isSet = value: isAttrs value && !lib.isDerivation value;
      held = discharge definitions;
    in
    if all (one: isSet (strip one.value)) definitions then evaluate location { } definitions
    else if held == [ ] then null
    else if all (one: isList one.value) held then concatMap (one: one.value) held
    else mergeEqual location held;

  setsOf = location:
    concatMap (one: map (value: { inherit (one) file; inherit value; }) (pushDown location one.value));
  namesOf = sets: unique (concatMap (one: attrNames one.value) sets);
  under = name:
    concatMap (one: optional (one.value ? ${name}) { inherit (one) file; value = one.value.${name}; });

  # NixOS' own sections (`services`, `networking`, …) are open: most of their options aren't
  # declared here. Below them, a set in which a module declares options is closed, as in NixOS.
  evaluate = location: declared: definitions:
    let
      sets = setsOf location definitions;
      isOpen = length location < 2 || !any (isType "option") (attrValues declared);
      unknown = filter (name: !declared ? ${name}) (namesOf sets);
      fallback = option: optional (option ? default) {
        file = "the option's default";
        value = mkOverride 1500 option.default;
      };
      value = name:
        let
          here = location ++ [ name ];
          given = under name sets;
          option = declared.${name};
        in
        if !declared ? ${name} then mergeFreeform here given
        else if isType "option" option then mergeWith here option.type (discharge (given ++ fallback option))
        else evaluate here option given;
    in
    if isOpen || unknown == [ ] then
      lib.genAttrs (unique (attrNames declared ++ namesOf sets)) value
    else
      throw "The option `${showOption (location ++ [ (head unknown) ])}' does not exist. Definition values:${showDefinitions (under (head unknown) sets)}";

  mergeDeclarations = left: right:
    left // mapAttrs (name: value:
      if !left ? ${name} then value
      else if isType "option" value || isType "option" left.${name} then
        throw "The option `${name}' is declared more than once."
      else mergeDeclarations left.${name} value
    ) right;

  # A module in its long form: `imports`, `options` and `config` apart.
  unify = file: module:
    let
      config = removeAttrs module [ "_file" "imports" ];
      extra = attrNames (removeAttrs config [ "options" "config" ]);
    in
    if !isAttrs module then
      throw "The module `${file}' is ${showValue module}, and not a set or a function that gives one."
    else if !(module ? options || module ? config) then
      { imports = module.imports or [ ]; options = { }; inherit config; }
    else if extra != [ ] then
      throw "Module `${file}' has an unsupported attribute `${head extra}'. This is caused by introducing a top-level `config' or `options' attribute. Add configuration attributes immediately on the top level instead, or move all of them into the explicit `config' attribute."
    else
      { imports = [ ]; options = { }; config = { }; } // module;

  evalModules = { modules, specialArgs ? { }, prefix ? [ ] }:
    let
      arguments = specialArgs // { inherit config lib; options = declared; };
      argument = name: _:
        arguments.${name} or config._module.args.${name} or (throw "No module argument is called `${name}'.");
      apply = module:
        if isFunction module then
          module (arguments // mapAttrs argument (builtins.functionArgs module))
        else module;
      # A file that is imported twice counts once; so the key of a file is its path.
      load = parent: index: module:
        let
          isFile = builtins.isPath module || builtins.isString module;
          content = apply (if isFile then import module else module);
          file = if isFile then toString module else content._file or parent.file;
        in
        {
          key = if isFile then file else "${parent.key}:${toString index}";
          inherit file;
          module = unify file content;
        };
      loaded = builtins.genericClosure {
        startSet = lib.imap0 (load { key = "configuration"; file = "<unknown-file>"; }) modules;
        operator = parent: lib.imap0 (load parent) parent.module.imports;
      };
      declared = foldl' mergeDeclarations { } (map (one: one.module.options) loaded);
      config = evaluate prefix declared (map (one: { inherit (one) file; value = one.module.config; }) loaded);
    in
    { inherit config; options = declared; };
in
{
  inherit discharge evalModules mergeEqual mergeFreeform mergeWith mkIf mkOverride namesOf setsOf under;
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOption = option: { type = lib.types.unspecified; } // option // { _type = "option"; };
  mkEnableOption = what: lib.mkOption { type = lib.types.bool; default = false; description = "Whether to enable ${what}."; };
  literalExpression = text: { _type = "literalExpression"; inherit text; };
}
