# A VM that cannot start.
{ programs }:

{
  name = "nkudo-failure";

  nodes.machine = { pkgs, ... }: {
    imports = [ (import ./host.nix { inherit programs; networkd = true; }) ];

    specialisation.one-is-broken.configuration.virtualisation.nkudo.vms = {
      broken = {
        kernel = pkgs.writeText "no-kernel" "This is no kernel.";
        memory = "64M";
        restart = "no";
      };
      late = {
        kernel = "${programs}/guests/waits-for-its-power-button";
        memory = "64M";
      };
    };
  };

  testScript = ''
    ${builtins.readFile ./words.py}

    is_up()
    before = pids("db", "web")

    with subtest("It fails the switch, is named, and holds up no other"):
        status, said = machine.execute(f"{system('one-is-broken')}/bin/switch-to-configuration test 2>&1")
        # "The switch was done, and units failed."
        assert status == 4, (status, said)
        assert "nkudo-switch.service" in said, said
        machine.succeed("journalctl -u nkudo-switch.service | grep -F 'VM broken'")
        runs("late")
        assert pids("db", "web") == before

    with subtest("The configuration before is still the way back"):
        switch()
        is_gone("broken")
        is_gone("late")
        assert pids("db", "web") == before
        machine.succeed("systemctl is-active nkudo-switch.service")
  '';
}
