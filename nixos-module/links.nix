# The names of nkudo's links, as src/host/link_name.rs makes them.
{ lib }:

{
  # As shell patterns: all TAPs, the bridges that nkudo names, and those that the configuration does.
  patterns = settings: [ "nkt-*" "nk-*" ] ++ lib.unique (lib.concatMap
    (network: lib.optional (network ? bridge) network.bridge)
    (lib.attrValues (settings.network or { })));

  # The bridges of a configuration's networks.
  bridges = settings:
    let
      # A name that does not fit into the 15 bytes of a link's name is replaced by a hash.
      bridge = name:
        if lib.stringLength name <= 12 then "nk-${name}"
        else "nk-_${lib.substring 0 11 (builtins.hashString "sha256" name)}";
    in
    lib.mapAttrsToList (name: network: network.bridge or (bridge name)) (settings.network or { });
}
