{
  virtualisation.nkudo = {
    enable = true;
    networks.Lan = { };
    vms = {
      web_1.kernel = "/srv/vmlinux";
      "-web".kernel = "/srv/vmlinux";
      "a23456789-123456789-123456789-123456789-123456789-123456789-1234".kernel = "/srv/vmlinux";
    };
  };
}
