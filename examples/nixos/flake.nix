# A NixOS host with one VM. Put the host's own hardware-configuration.nix beside it.
{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nkudo.url = "github:nkudo/nkudo";
    nkudo.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs = { nixpkgs, nkudo, ... }: {
    nixosConfigurations.host = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [
        nkudo.nixosModules.default
        ./configuration.nix
      ];
    };
  };
}
