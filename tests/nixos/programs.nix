# What the VM tests run where there is no nested KVM: the stand-in VMM of tests/host, which is the test binary
# under the name `cloud-hypervisor`, and a guest for it.
{ pkgs, self, nkudo }:

nkudo.overrideAttrs (previous: {
  pname = "nkudo-test-programs";
  src = self;
  nativeBuildInputs = previous.nativeBuildInputs ++ [ pkgs.jq ];
  buildPhase = ''
    runHook preBuild
    cargo test --locked --offline --test host --no-run --message-format=json >messages.json
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    built=$(jq -r 'select(.reason == "compiler-artifact" and .target.name == "host") | .executable' messages.json)
    install -D "$built" $out/bin/cloud-hypervisor
    ln -s cloud-hypervisor $out/bin/test-guest
    mkdir $out/guests
    $out/bin/test-guest >$out/guests/waits-for-its-power-button
    runHook postInstall
  '';
  postFixup = "";
})
