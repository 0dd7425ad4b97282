# A NixOS host with one VM. Put the host's own hardware-configuration.nix beside it.
{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    # Where nkudo is: a checkout, or the URL of a repository.
    nkudo.url = "git+file:///srv/nkudo";
    nkudo.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs = { nixpkgs, nkudo, ... }: {
    nixosConfigurations.host = nixpkgs.lib.nixosSystem {
      modules = [
        nkudo.nixosModules.default
        ./hardware-configuration.nix
        ./configuration.nix
      ];
    };
  };
}
