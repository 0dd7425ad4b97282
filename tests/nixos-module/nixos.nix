# The options of NixOS that the module reads and sets, by their real names and with types that are
# as strict, so that an option that does not exist is an error here too.
{ lib, ... }:

let
  inherit (lib) mkOption types;

  list = type: mkOption { type = types.listOf type; default = [ ]; };
  text = mkOption { type = types.lines; default = ""; };
  flag = default: mkOption { type = types.bool; inherit default; };
  value = with types; oneOf [ bool int str path ];

  # nixos/lib/systemd-unit-options.nix
  service = {
    options = {
      description = mkOption { type = types.singleLineStr; default = ""; };
      overrideStrategy = mkOption { type = types.enum [ "asDropinIfExists" "asDropin" ]; default = "asDropinIfExists"; };
      wantedBy = list types.str;
      wants = list types.str;
      after = list types.str;
      before = list types.str;
      requires = list types.str;
      path = list types.package;
      preStop = text;
      restartTriggers = list types.unspecified;
      restartIfChanged = flag true;
      stopIfChanged = flag true;
      unitConfig = mkOption { type = types.attrsOf (types.either value (types.listOf value)); default = { }; };
      serviceConfig = mkOption { type = types.attrsOf (types.either value (types.listOf value)); default = { }; };
    };
  };

  ports = {
    options = {
      allowedTCPPorts = list types.port;
      allowedUDPPorts = list types.port;
    };
  };
in
{
  options = {
    assertions = list types.unspecified;
    boot.kernelModules = list types.str;
    environment.etc = mkOption {
      type = types.attrsOf (types.submodule { options.source = mkOption { type = types.path; }; });
      default = { };
    };
    environment.systemPackages = list types.package;
    networking = {
      hostName = mkOption { type = types.str; default = ""; };
      dhcpcd.denyInterfaces = list types.str;
      networkmanager.unmanaged = list types.str;
      firewall = {
        filterForward = flag false;
        extraForwardRules = text;
        interfaces = mkOption { type = types.attrsOf (types.submodule ports); default = { }; };
      };
    };
    system.stateVersion = mkOption { type = types.str; default = "26.05"; };
    systemd = {
      package = mkOption {
        type = types.package;
        default = {
          type = "derivation";
          name = "systemd-258";
          version = "258";
          outPath = "/nix/store/00000000000000000000000000000000-systemd-258";
        };
      };
      packages = list types.package;
      services = mkOption { type = types.attrsOf (types.submodule service); default = { }; };
      tmpfiles.settings = mkOption {
        type = types.attrsOf (types.attrsOf (types.attrsOf (types.submodule {
          options = lib.genAttrs [ "mode" "user" "group" "age" "argument" ] (_: mkOption { type = types.str; default = "-"; });
        })));
        default = { };
      };
    };
  };
}
