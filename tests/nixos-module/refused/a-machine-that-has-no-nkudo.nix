{ lib, ... }:

{
  virtualisation.nkudo.enable = true;
  _module.args.pkgs = lib.mkForce (import ../pkgs.nix { inherit lib; } // {
    stdenv = rec {
      hostPlatform = lib.systems.elaborate "riscv64-linux";
      buildPlatform = hostPlatform;
    };
  });
}
