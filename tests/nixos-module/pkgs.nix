# Packages that are names: nothing can be built of them, and everything can be said about them.
{ lib }:

let
  package = name: extra: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/${lib.substring 0 32 (builtins.hashString "sha256" name)}-${name}";
    meta.mainProgram = name;
  } // extra;

  named = lib.genAttrs [
    "cloud-hypervisor"
    "coreutils"
    "erofs-utils"
    "gnutar"
  ]
    (name: package name { });
in
named // {
  # Stands in for nixpkgs' own tree, with an eval-config.nix that knows what a guest needs.
  path = ./nixpkgs;

  stdenv = rec {
    hostPlatform = lib.systems.elaborate "x86_64-linux";
    buildPlatform = hostPlatform;
  };

  callPackage = _path: _arguments: package "nkudo" { };
  formats.toml = {}: {
    type = lib.types.toml;
    generate = name: value: package name { inherit value; };
  };
  closureInfo = { rootPaths }: package "closure-info" { inherit rootPaths; };
  runCommand = name: attributes: _script: package name { inherit attributes; };
}
