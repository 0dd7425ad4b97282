# The names of nkudo's links, as src/host/link_name.rs makes them.
{ lib }:

{
  # As shell patterns: all TAPs, VLANs, the bridges that nkudo names, and those that the configuration does.
  patterns = settings: [ "nkt-*" "nkv-*" "nk-*" ] ++ lib.unique (lib.concatMap
    (network: lib.optional (network ? bridge) network.bridge)
    (lib.attrValues (settings.network or { })));

  # The bridges of a configuration's networks; with macvtap there is none.
  bridges = settings:
    let
      # A name that does not fit into the 15 bytes of a link's name is replaced by a hash.
      bridge = name:
        if lib.stringLength name <= 12 then "nk-${name}"
        else "nk-_${lib.substring 0 11 (builtins.hashString "sha256" name)}";
    in
    lib.mapAttrsToList
      (name: network: network.existing-bridge or network.bridge or (bridge name))
      (lib.filterAttrs (_: network: !(network.macvtap or false)) (settings.network or { }));
}
