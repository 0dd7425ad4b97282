# nkudo, with its units, and the programs that it runs on its PATH.
{ lib
, stdenv
, rustPlatform
, makeBinaryWrapper
, btrfs-progs
, dnsmasq
, dosfstools
, e2fsprogs
, nftables
, openssh
, qemu
, swtpm
, systemd
, virtiofsd
, xfsprogs
}:

let
  cargo = lib.importTOML ../Cargo.toml;
  root = toString ../.;

  # What nkudo runs, if a configuration asks for it: file systems, images, rules, addresses, shares, TPMs, and
  # systemd's own.
  programs = [
    btrfs-progs
    dnsmasq
    dosfstools
    e2fsprogs
    nftables
    openssh
    # qemu-img
    (qemu.override { toolsOnly = true; })
    swtpm
    systemd
    virtiofsd
    xfsprogs
  ];
in
rustPlatform.buildRustPackage {
  pname = "nkudo";
  inherit (cargo.package) version;

  # Only what the package is made of: an edit of a document or of this module builds nothing anew.
  src = lib.cleanSourceWith {
    name = "nkudo-source";
    src = ../.;
    filter = path: _type:
      let
        relative = lib.removePrefix "${root}/" (toString path);
        # The tree, what is in it, and what it is in.
        inTree = tree: relative == tree || lib.hasPrefix "${tree}/" relative || lib.hasPrefix "${relative}/" tree;
      in
      lib.any inTree [
        "Cargo.lock"
        "Cargo.toml"
        "Makefile"
        "completions"
        "docs/nkudo.schema.json"
        # The reference has one of them in it.
        "examples"
        "man"
        "src"
        "units"
      ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ makeBinaryWrapper ];

  # The tests are for a checkout: `checks.<system>` of the flake, `make check`.
  doCheck = false;

  # The binary, units that name it by its path, manual pages, completions and the schema.
  installPhase = ''
    runHook preInstall
    make install PREFIX=$out BINARY=target/${stdenv.hostPlatform.rust.cargoShortTarget}/release/nkudo
    runHook postInstall
  '';

  # After what a host has already, so that an administrator's own programs go before.
  postFixup = ''
    wrapProgram $out/bin/nkudo --suffix PATH : ${lib.makeBinPath programs}
  '';

  meta = {
    inherit (cargo.package) description;
    license = with lib.licenses; [ asl20 mit ];
    mainProgram = "nkudo";
    platforms = [ "x86_64-linux" "aarch64-linux" ];
  };
}
