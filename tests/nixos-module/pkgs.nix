# Packages that are names: nothing can be built of them, and everything can be said about them.
{ lib }:

let
  # Its path is another for another name or other attributes, as a derivation's is.
  package = name: attributes: {
    type = "derivation";
    inherit attributes name;
    outPath =
      let hash = builtins.hashString "sha256" (builtins.toJSON [ name attributes ]); in
      "/nix/store/${lib.substring 0 32 hash}-${name}";
    meta.mainProgram = name;
    overrideAttrs = more: package name (attributes // more);
    override = _: package name attributes;
  };

  named = lib.genAttrs [
    "cloud-hypervisor"
    "coreutils"
    "curl"
    "erofs-utils"
    "gnutar"
    "nix"
  ]
    (name: package name { });
in
named // {
  inherit lib package;

  testers.runNixOSTest = lib.id;
  mkShell = package "shell";
  buildPackages = named;

  # Stands in for nixpkgs' own tree, with an eval-config.nix that knows what a guest needs.
  path = ./nixpkgs;

  stdenv = rec {
    hostPlatform = lib.systems.elaborate "x86_64-linux";
    buildPlatform = hostPlatform;
  };

  callPackage = _path: _arguments: package "nkudo" { };
  formats.toml = {}: {
    type = lib.types.toml or (lib.types.attrsOf lib.types.anything);
    generate = package;
  };
  closureInfo = { rootPaths }: package "closure-info" rootPaths;
  writeText = package;
  writeTextDir = package;
  runCommand = name: attributes: script: package name (attributes // { inherit script; });
}
