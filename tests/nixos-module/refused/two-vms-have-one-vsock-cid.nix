{
  virtualisation.nkudo = {
    enable = true;
    vms = {
      one = { kernel = "/srv/vmlinux"; vsock-cid = 3; };
      two = { kernel = "/srv/vmlinux"; vsock-cid = 3; };
      three = { kernel = "/srv/vmlinux"; vsock-cid = 4; };
    };
  };
}
