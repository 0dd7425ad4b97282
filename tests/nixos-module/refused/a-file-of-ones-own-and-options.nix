{
  virtualisation.nkudo = {
    enable = true;
    configFile = ../cases/a-file-of-ones-own/own.toml;
    vms.web.kernel = "/srv/vmlinux";
  };
}
