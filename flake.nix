{
  description = "Declarative virtual machines for Linux hosts that run systemd";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAllSystems = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forAllSystems (pkgs: rec {
        nkudo = pkgs.callPackage ./nixos-module/package.nix { };
        default = nkudo;
      });

      overlays.default = final: _previous: {
        nkudo = final.callPackage ./nixos-module/package.nix { };
      };

      nixosModules.default = ./nixos-module;

      checks = forAllSystems (pkgs: import ./tests/nixos/checks.nix { inherit pkgs self; });

      # No check: it needs a builder with nested KVM, which Nix cannot ask for.
      legacyPackages = forAllSystems (pkgs: {
        nixosTests.real-guest = pkgs.testers.runNixOSTest ./tests/nixos/real-guest.nix;
      });

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            cargo
            clippy
            deadnix
            gnumake
            nix
            nixpkgs-fmt
            rustc
            rustfmt
            statix
            # The host tests, and images of all tests.
            cloud-hypervisor
            e2fsprogs
            iproute2
            mmdebstrap
            systemd
            util-linux
          ];
          # The evaluation test's library.
          NIXPKGS_LIB = "${nixpkgs}/lib";
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixpkgs-fmt);

      templates.default = {
        path = ./examples/nixos;
        description = "A host with one VM";
      };
    };
}
