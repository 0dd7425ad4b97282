# nkudo, with its units, and the programs that it runs on its PATH.
{ lib
, rustPlatform
, installShellFiles
, makeBinaryWrapper
, systemd
}:

let
  cargo = lib.importTOML ../Cargo.toml;
  root = toString ../.;
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
        inTree = tree: relative == tree || lib.hasPrefix "${tree}/" relative;
      in
      lib.any inTree [
        "Cargo.lock"
        "Cargo.toml"
        "clippy.toml"
        "examples"
        "rustfmt.toml"
        "src"
        "units"
      ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles makeBinaryWrapper ];

  # The tests are for a checkout: `checks.<system>` of the flake, `make check`.
  doCheck = false;

  postInstall = ''
    for unit in units/*; do
      install -Dm644 -t $out/lib/systemd/system "$unit"
    done
    # systemd looks for a program without a path in directories that NixOS does not have.
    substituteInPlace $out/lib/systemd/system/nkudo-boot.service \
      --replace-fail "ExecStart=nkudo " "ExecStart=$out/bin/nkudo "
  '';

  # After what a host has already, so that an administrator's own programs go before.
  postFixup = ''
    wrapProgram $out/bin/nkudo --suffix PATH : ${lib.makeBinPath [ systemd ]}
  '';

  meta = {
    inherit (cargo.package) description;
    license = with lib.licenses; [ asl20 mit ];
    mainProgram = "nkudo";
    platforms = [ "x86_64-linux" "aarch64-linux" ];
  };
}
