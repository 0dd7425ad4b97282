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

  # The module's evaluation, with the library of this nixpkgs, is one of them. Those that need root and a
  # machine of their own say that they are ignored.
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
