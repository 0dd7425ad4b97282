# NixOS options out of the JSON Schema of nkudo.toml (docs/nkudo.schema.json, which `nkudo schema`
# prints): every key has a typed option with nkudo's own description, default and example, and no
# option can be missing or be one too many.
#
# An option that is not set is `null` and is not written, so that nkudo's own default holds.
{ lib }:

let
  schema = lib.importJSON ../docs/nkudo.schema.json;

  inherit (lib) types;

  # A reference, and what is said beside it: an outer description and default go first.
  resolve = node:
    if node ? "$ref" then
      resolve (schema.definitions.${lib.removePrefix "#/definitions/" node."$ref"})
      // removeAttrs node [ "$ref" ]
    else if node ? allOf && lib.length node.allOf == 1 then
      resolve (lib.head node.allOf) // removeAttrs node [ "allOf" ]
    else
      node;

  typeOf = node':
    let node = resolve node'; in
    if node ? oneOf && lib.all (one: one ? const) node.oneOf then
      types.enum (map (one: one.const) node.oneOf)
    else if node ? enum then
      types.enum node.enum
    else if node ? const then
      types.enum [ node.const ]
    else if node ? oneOf || node ? anyOf then
      types.oneOf (map typeOf (node.oneOf or node.anyOf))
    else
      {
        object =
          if node ? properties then submodule node
          else types.attrsOf (typeOf node.additionalProperties);
        array = types.listOf (typeOf node.items);
        string = string node;
        integer = integer node;
        number = types.number;
        boolean = types.bool;
      }.${node.type};

  submodule = node: types.submodule { options = options node; };

  string = node:
    # A path may also be a package, a path of Nix's or a file beside the configuration.
    if node.title or null == "path" then types.path
    else if lib.hasInfix "path" (node.title or "") then types.either types.path types.str
    # POSIX expressions have no `\s`; what Nix cannot say, `nkudo check` says at build time.
    else if node ? pattern && !lib.hasInfix "\\" node.pattern then
      types.strMatching node.pattern
    else types.str;

  integer = node:
    let
      lowest = node.minimum or (-9223372036854775807);
      highest = node.maximum or 9223372036854775807;
    in
    if node ? minimum || node ? maximum then types.ints.between lowest highest else types.int;

  # The description as Markdown. Default and example are options' own.
  description = node:
    let
      lines = lib.splitString "\n" (node.description or "");
      kept = lib.filter (line: !lib.hasPrefix "Example: " line) lines;
      # Each of the last lines is a paragraph of its own.
      paragraph = line:
        if lib.any (word: lib.hasPrefix word line) [ "Default: " "Becomes: " ] then "\n${line}" else line;
    in
    lib.concatMapStringsSep "\n" paragraph kept;

  option = required: node':
    let
      node = resolve node';
      shown = value: lib.literalExpression (lib.generators.toPretty { } value);
    in
    lib.mkOption ({
      description = description node;
      type = if required then typeOf node else types.nullOr (typeOf node);
    } // lib.optionalAttrs (!required) {
      default = null;
    } // lib.optionalAttrs (!required && node ? default) {
      defaultText = shown node.default;
    } // lib.optionalAttrs (node ? examples) {
      example = lib.head node.examples;
    });

  # The options of a table.
  options = node':
    let node = resolve node'; in
    lib.mapAttrs (name: option (lib.elem name (node.required or [ ]))) node.properties;

  # The table that `[section.<name>]` is.
  table = section: resolve schema.properties.${section}.additionalProperties;

  # The regular expression of the names in a section.
  names = section: (resolve schema.properties.${section}.propertyNames).pattern;
in
{
  inherit schema options table names;

  stateDir = (resolve schema.properties.host).properties.state-dir.default;

  # What is set, as TOML has it: no `null`, and paths and packages as text.
  written =
    let
      written = value:
        if lib.isDerivation value || lib.isPath value then "${value}"
        else if lib.isAttrs value then
          lib.mapAttrs (_: written) (lib.filterAttrs (_: one: one != null) value)
        else if lib.isList value then map written value
        else value;
    in
    written;
}
