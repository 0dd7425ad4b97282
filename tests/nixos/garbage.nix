# Nix's garbage collector, and what VMs need.
{ programs }:

{ lib, ... }:

{
  name = "nkudo-garbage";

  nodes.machine = { pkgs, ... }: {
    imports = [ (import ./host.nix { inherit programs; networkd = true; }) ];

    virtualisation = {
      writableStore = true;
      nkudo.vms.kept = {
        # A link to what the machine itself has put into the store, so that no system refers to it.
        kernel = "/run/kept-kernel";
        memory = "64M";
        autostart = false;
      };
    };

    systemd.services.kept-kernel = {
      wantedBy = [ "nkudo-switch.service" ];
      before = [ "nkudo-switch.service" ];
      path = [ pkgs.nix ];
      serviceConfig.Type = "oneshot";
      script = ''
        ln -sfn "$(nix-store --add ${programs}/guests/waits-for-its-power-button)" /run/kept-kernel
      '';
    };

    specialisation.without.configuration.virtualisation.nkudo.vms = lib.mkForce { };
  };

  # `nix-store --delete` takes what nix-collect-garbage would, and refuses what is alive.
  testScript = ''
    ${builtins.readFile ./words.py}

    is_up()
    kernel = machine.succeed("readlink /run/kept-kernel").strip()

    with subtest("What a generation names is kept"):
        machine.fail(f"nix-store --delete {kernel}")
        machine.succeed("nkudo start kept")
        runs("kept", "db", "web")

    with subtest("What a VM runs from is kept, though its generation is gone"):
        before = pid("kept")
        machine.succeed("rm -r /var/lib/nkudo/generations /var/lib/nkudo/current /var/lib/nkudo/gcroots")
        machine.fail(f"nix-store --delete {kernel}")
        machine.succeed(f"kill -KILL {before}")
        restarted("kept", before)

    with subtest("What nothing needs any more is collected"):
        switch("without")
        machine.succeed("nkudo gc --keep 1")
        machine.succeed(f"nix-store --delete {kernel}")
  '';
}
