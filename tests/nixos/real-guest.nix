# A NixOS guest on cloud-hypervisor: needs a builder with nested KVM, so it is no check of the flake but
# `nix build .#nixosTests.real-guest`.
{
  name = "nkudo-real-guest";

  nodes.machine = { lib, pkgs, ... }: {
    imports = [ ../../nixos-module ];

    virtualisation = {
      cores = 2;
      memorySize = 3072;
      diskSize = 4096;
      qemu.options = [ "-cpu host" ];

      nkudo = {
        enable = true;
        networks.lan.address = [ "192.168.100.1/24" ];
        vms.web = {
          memory = "1G";
          nic = [{ network = "lan"; address = "192.168.100.10"; }];
          state.size = "1G";
          nixos = {
            services.nginx = {
              enable = true;
              virtualHosts.default.root = pkgs.writeTextDir "index.html" "the first page";
            };
            networking.firewall.allowedTCPPorts = [ 80 ];
            # What must be there again after a restart.
            systemd.services.count-boots = {
              wantedBy = [ "nginx.service" ];
              script = "echo boot >>/var/lib/boots";
              serviceConfig.Type = "oneshot";
            };
          };
        };
      };
    };

    specialisation.another-page.configuration.virtualisation.nkudo.vms.web.nixos = {
      services.nginx.virtualHosts.default.root = lib.mkForce (
        pkgs.runCommand "second-page" { } ''
          mkdir $out
          echo "the second page" >$out/index.html
          ln -s /var/lib/boots $out/boots
        ''
      );
    };

    system.switch.enable = true;
    environment.systemPackages = [ pkgs.curl ];
  };

  testScript = ''
    ${builtins.readFile ./words.py}

    machine.wait_for_unit("nkudo-switch.service", timeout=600)
    runs("web")
    machine.wait_until_succeeds("curl --fail http://192.168.100.10 | grep 'the first page'", timeout=600)

    with subtest("A change of the guest restarts it, and its state is there"):
        before = pid("web")
        switch("another-page")
        assert pid("web") != before
        machine.wait_until_succeeds("curl --fail http://192.168.100.10 | grep 'the second page'", timeout=600)
        assert machine.succeed("curl --fail http://192.168.100.10/boots") == "boot\nboot\n"

    with subtest("The guest is shut down by its power button"):
        machine.succeed("nkudo stop web")
        machine.succeed("journalctl -u nkudo-vm@web.service | grep -F 'the guest powered off'")
  '';
}
