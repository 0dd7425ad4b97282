# `nixos-rebuild switch` from one configuration to the next, and back.
{ programs, networkd }:

{ lib, ... }:

{
  name = "nkudo-switching-${if networkd then "networkd" else "scripted"}";

  nodes.machine = { pkgs, ... }: {
    imports = [ (import ./host.nix { inherit programs networkd; }) ];

    specialisation = {
      more-memory.configuration.virtualisation.nkudo.vms.web.memory = lib.mkForce "128M";

      # Something else of the host's, and another nkudo: its units and its path are new.
      another-nkudo.configuration = {
        environment.etc."another".text = "configuration";
        virtualisation.nkudo.package = lib.mkForce (
          (pkgs.callPackage ../../nixos-module/package.nix { }).overrideAttrs { pname = "another-nkudo"; }
        );
      };

      one-vm.configuration.virtualisation.nkudo.vms = lib.mkForce {
        db = {
          kernel = "${programs}/guests/waits-for-its-power-button";
          memory = "64M";
          nic = [{ network = "lan"; }];
        };
      };

      nothing.configuration.virtualisation.nkudo = {
        vms = lib.mkForce { };
        networks = lib.mkForce { };
      };

      without-nkudo.configuration.virtualisation.nkudo.enable = lib.mkForce false;
    };
  };

  testScript = ''
    ${builtins.readFile ./words.py}

    is_up()

    with subtest("What is declared runs after the boot"):
        runs("db", "web")
        is_in_bridge("web")
        machine.succeed("ip -o addr show nk-lan | grep -F 192.168.100.1/24")
        machine.succeed("nkudo status web")

    with subtest("Nothing changes, and nothing is touched"):
        before = pids("db", "web")
        switch()
        assert pids("db", "web") == before

    with subtest("A change restarts only what changed"):
        before = pids("db", "web")
        switch("more-memory")
        runs("db", "web")
        assert pid("db") == before["db"]
        assert pid("web") != before["web"]
        machine.succeed(f"tr '\\0' ' ' </proc/{pid('web')}/cmdline | grep -F size=128M")

    with subtest("A rollback of NixOS is one of the VMs"):
        before = pids("db", "web")
        switch()
        assert pid("db") == before["db"]
        assert pid("web") != before["web"]
        machine.succeed(f"tr '\\0' ' ' </proc/{pid('web')}/cmdline | grep -F size=64M")

    with subtest("Another nkudo and another host restart no VM"):
        before = pids("db", "web")
        switch("another-nkudo")
        machine.succeed("test -e /etc/another")
        assert pids("db", "web") == before
        switch()
        assert pids("db", "web") == before

    with subtest("A crash of a VMM is systemd's to mend, with all of it as it was"):
        before = pid("web")
        machine.succeed(f"kill -KILL {before}")
        restarted("web", before)
        is_in_bridge("web")

    with subtest("A VM that is not declared any more is gone, and the other runs on"):
        before = pid("db")
        switch("one-vm")
        is_gone("web")
        assert pid("db") == before

    with subtest("After a reboot the configuration that was booted runs"):
        # What was switched to last has one VM, what is booted has two.
        machine.shutdown()
        machine.start()
        is_up()
        runs("db", "web")
        is_in_bridge("web")

    with subtest("An empty configuration leaves nothing"):
        switch("nothing")
        nothing_is_left()
        switch()
        runs("db", "web")

    with subtest("A system without nkudo has nothing of nkudo's"):
        switch("without-nkudo")
        nothing_is_left()
        # What is worth keeping is there, and back with it.
        machine.succeed("test -e /var/lib/nkudo/current")
        switch()
        runs("db", "web")
  '';
}
