# `virtualisation.nkudo`: virtual machines as NixOS options. See docs/nixos.md.
#
# The module writes /etc/nkudo/nkudo.toml, checks it with `nkudo check` while it is built, and lets
# nkudo-switch.service make the host be it. It never has a unit of a VM's own: those are transient,
# /run is where they are, and NixOS stops and restarts only what is in /etc/systemd/system.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkDefault mkEnableOption mkIf mkMerge mkOption types;

  cfg = config.virtualisation.nkudo;

  fromSchema = import ./from-schema.nix { inherit lib; };
  links = import ./links.nix { inherit lib; };

  toml = pkgs.formats.toml { };

  nkudo = lib.getExe cfg.package;

  # What the typed options and `settings` come to together.
  settings = fromSchema.written cfg.settings;

  # A file that was built here has been checked; one that is elsewhere is read when it is switched to.
  isBuilt = cfg.configFile == null || lib.isPath cfg.configFile || builtins.hasContext "${cfg.configFile}";

  source =
    if cfg.configFile == null then toml.generate "nkudo-unchecked.toml" settings
    else if isBuilt then "${cfg.configFile}"
    else cfg.configFile;

  # `check` knows the file alone, and needs neither systemd nor a hypervisor nor the network.
  checked = pkgs.runCommand "nkudo.toml" { inherit source; nkudo = cfg.package; } ''
    ln -s "$source" nkudo.toml
    "$nkudo"/bin/nkudo check --elsewhere nkudo.toml
    cp --dereference nkudo.toml "$out"
  '';

  # Of a file that is read elsewhere and later, nothing is known here.
  known =
    if cfg.configFile == null then settings
    else if lib.isPath cfg.configFile then lib.importTOML cfg.configFile
    else { };

  stateDir = known.host.state-dir or fromSchema.stateDir;

  file =
    if isBuilt && pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then checked
    else source;

  fetches = lib.any (image: lib.hasInfix "://" (image.source or "")) (lib.attrValues (known.image or { }));

  # The bridges of networks that have one of these keys.
  bridgesWith = keys: links.bridges {
    network = lib.filterAttrs
      (_: network: lib.any (key: network.${key} or false != false) keys)
      (known.network or { });
  };

  accept = direction: bridges: lib.optionalString (bridges != [ ]) ''
    ${direction} { ${lib.concatMapStringsSep ", " (name: ''"${name}"'') bridges} } accept
  '';

  guests = import ./guests.nix {
    inherit lib pkgs;
    inherit (config.system) stateVersion;
    networks = fromSchema.written cfg.networks;
  };

  # `[vm.<id>]` and its like, with options that are no keys.
  section = name: more: mkOption {
    type = types.attrsOf (types.submodule (
      [{ options = fromSchema.options (fromSchema.table name); }] ++ more
    ));
    default = { };
    inherit (fromSchema.schema.properties.${name}) description;
  };
in
{
  imports = [ ./assertions.nix ];

  options.virtualisation.nkudo = {
    enable = mkEnableOption "nkudo, virtual machines as transient systemd units";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "nkudo of this checkout, built with the host's pkgs";
      description = "The nkudo that checks, renders and switches.";
    };

    vms = section "vm" [ guests.module ] // {
      example = { web = { firmware = "/srv/nkudo/CLOUDHV.fd"; memory = "1G"; nic = [{ network = "lan"; }]; }; };
    };

    networks = section "network" [ ] // {
      example = { lan.address = [ "192.168.100.1/24" ]; };
    };

    images = section "image" [ ] // {
      example = { debian.source = "/srv/images/debian-13.qcow2"; };
    };

    settings = mkOption {
      inherit (toml) type;
      default = { };
      example = { host.state-dir = "/srv/nkudo"; };
      description = ''
        nkudo.toml as it is, key for key: `[host]`, which has no option of its own, and whatever
        {option}`vms`, {option}`networks` and {option}`images` do not know. What these say is merged into it.
      '';
    };

    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./nkudo.toml";
      description = ''
        A nkudo.toml of one's own, in place of {option}`vms`, {option}`networks`, {option}`images` and
        {option}`settings`. A path of Nix's is copied to the store and checked while the system is
        built; a path in quotes (`"/srv/nkudo.toml"`) is read as it is when it is switched to, and a
        change of it is not seen by `nixos-rebuild`.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Let guests reach what nkudo itself offers on the bridges of networks with `dhcp`: DHCP (UDP 67, and
        UDP 547 for IPv6) and DNS (TCP and UDP 53). With {option}`networking.firewall.filterForward`, let guests of
        networks with `nat` or `route` out, and let others reach those of networks with `route`.
      '';
    };
  };

  config = mkIf cfg.enable {
    virtualisation.nkudo.settings = mkIf (cfg.configFile == null) (mkMerge [
      { host.hypervisor = mkDefault (lib.getExe pkgs.cloud-hypervisor); }
      (mkIf (cfg.vms != { }) { vm = fromSchema.written (lib.mapAttrs guests.table cfg.vms); })
      (mkIf (cfg.networks != { }) { network = fromSchema.written cfg.networks; })
      (mkIf (cfg.images != { }) { image = fromSchema.written cfg.images; })
    ]);

    environment = {
      # A file that does not name its hypervisor means the one on PATH.
      systemPackages = [ cfg.package pkgs.cloud-hypervisor ];
      etc."nkudo/nkudo.toml".source = file;
    };

    # kvm_intel and kvm_amd are loaded by udev for the CPU that is there.
    boot.kernelModules = [ "kvm" "tun" "bridge" "vhost_net" "vhost_vsock" ];

    systemd = {
      tmpfiles.settings."10-nkudo".${stateDir}.d = {
        mode = "0755";
        user = "root";
        group = "root";
      };

      # nkudo.slice and nkudo-boot.service.
      packages = [ cfg.package ];

      services = {
        nkudo-switch = {
          description = "Make the host be /etc/nkudo/nkudo.toml";
          wantedBy = [ "multi-user.target" ];
          wants = lib.optional fetches "network-online.target";
          after = [
            "network.target"
            "local-fs.target"
            "remote-fs.target"
            "dbus.socket"
            "nftables.service"
            "firewall.service"
          ] ++ lib.optional fetches "network-online.target";
          unitConfig.RequiresMountsFor = [ stateDir ];
          path = [ pkgs.cloud-hypervisor ];
          # In one step, in the new configuration: there is nothing to stop in the old one.
          stopIfChanged = false;
          restartTriggers = [ file ];
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = [
              "${nkudo} render --message NixOS"
              "${nkudo} switch"
            ];
            # Every VM has limits of its own.
            TimeoutStartSec = "infinity";
          };
        };

        # After a boot the configuration of the NixOS generation that was booted decides. Where that
        # cannot be switched to, what was switched to last is started.
        nkudo-boot = {
          wantedBy = [ "multi-user.target" ];
          after = [ "nkudo-switch.service" ];
          unitConfig.RequiresMountsFor = [ stateDir ];
          # It is about the boot, not about a new nkudo.
          restartIfChanged = false;
        };

        # When nkudo leaves the system's configuration, NixOS stops this, and with it all that nkudo
        # made. Disks and generations stay.
        nkudo-leave = {
          description = "Remove what nkudo made when it leaves the system";
          wantedBy = [ "multi-user.target" ];
          # Stopped before these are.
          after = [ "nkudo.slice" "network.target" "dbus.socket" ];
          unitConfig.RequiresMountsFor = [ stateDir ];
          restartIfChanged = false;
          # What an empty configuration asks for is found there.
          path = [ cfg.package pkgs.cloud-hypervisor ];
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = lib.getExe' pkgs.coreutils "true";
            TimeoutStopSec = "infinity";
          };
          # At a shutdown each VM's own unit stops it, and the next boot starts it again. Without the
          # note of the state directory, nothing was switched to since the boot.
          preStop = ''
            if [ "$(${lib.getExe' config.systemd.package "systemctl"} is-system-running)" = stopping ]; then
              exit 0
            fi
            [ -e /run/nkudo/state-dir ] || exit 0
            state_dir=$(cat /run/nkudo/state-dir)
            nkudo --state-dir "$state_dir" render --message 'nkudo left the system' - </dev/null
            nkudo --state-dir "$state_dir" switch
          '';
        };
      };
    };

    networking = {
      # nkudo's links are nobody else's.
      dhcpcd.denyInterfaces = links.patterns known;
      networkmanager.unmanaged = map (name: "interface-name:${name}") (links.patterns known);

      firewall = mkIf cfg.openFirewall {
        interfaces = lib.genAttrs (bridgesWith [ "dhcp" ]) (_: {
          allowedUDPPorts = [ 53 67 547 ];
          allowedTCPPorts = [ 53 ];
        });
        # What is answered, and what nkudo forwards to a guest, NixOS lets through by itself.
        extraForwardRules = mkIf config.networking.firewall.filterForward (
          accept "iifname" (bridgesWith [ "nat" "route" ]) + accept "oifname" (bridgesWith [ "route" ])
        );
      };
    };
  };
}
