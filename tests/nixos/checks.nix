# `nix flake check`: the package, clippy, the formatters, all tests that need no machine of their own, and the
# NixOS VM tests.
{ pkgs, self }:

let
  inherit (pkgs) lib;

  nkudo = pkgs.callPackage ../../nixos-module/package.nix { };

  programs = import ./programs.nix { inherit pkgs self nkudo; };

  # Cargo on the whole checkout, with the package's vendored crates.
  cargo = name: packages: script: nkudo.overrideAttrs (previous: {
    pname = "nkudo-${name}";
    src = self;
    nativeBuildInputs = previous.nativeBuildInputs ++ packages;
    buildPhase = ''
      runHook preBuild
      export HOME="$TMPDIR"
      ${script}
      runHook postBuild
    '';
    installPhase = "touch $out";
    postInstall = "";
    postFixup = "";
  });
in
{
  package = nkudo;

  clippy = cargo "clippy" [ pkgs.clippy ] "cargo clippy --all-targets --locked --offline -- -D warnings";

  fmt = cargo "fmt" [ pkgs.rustfmt ] "cargo fmt --check";

  # The example as a whole NixOS: its file, which `nkudo check` has found good, and in it the guest's image.
  module = (import (pkgs.path + "/nixos/lib/eval-config.nix") {
    system = null;
    modules = [
      ../../nixos-module
      ../../examples/nixos/configuration.nix
      {
        nixpkgs.pkgs = pkgs;
        boot.loader.grub.enable = false;
        fileSystems."/" = { device = "none"; fsType = "tmpfs"; };
      }
    ];
  }).config.environment.etc."nkudo/nkudo.toml".source;

  # The module's evaluation against stand-ins, with the library of this nixpkgs, is one of them. Those that need
  # root and a machine of their own say that they are ignored.
  tests = cargo "tests" (with pkgs; [ deadnix nix nixpkgs-fmt statix ]) ''
    export NIXPKGS_LIB=${lib.escapeShellArg "${pkgs.path}/lib"}
    export NIX_STATE_DIR="$TMPDIR/nix" NIX_LOG_DIR="$TMPDIR/nix"
    cargo test --locked --offline --no-fail-fast
  '';
} // lib.mapAttrs (_: pkgs.testers.runNixOSTest) {
  switching-networkd = import ./switching.nix { inherit programs; networkd = true; };
  switching-scripted = import ./switching.nix { inherit programs; networkd = false; };
  failure = import ./failure.nix { inherit programs; };
  garbage = import ./garbage.nix { inherit programs; };
}
