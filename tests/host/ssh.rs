//! `nkudo ssh`: which way it takes to a VM, and what ssh is given.

use super::guest::Then;
use super::host::{Host, LAN, Ran, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    ssh_goes_by_what_is_declared_else_by_dhcp_else_by_what_the_host_has_seen,
    ssh_goes_over_vsock_where_no_address_is_known,
    what_is_in_the_place_of_a_vsock_is_not_trusted,
];

/// A client that prints what it is given.
fn print_arguments(host: &Host) {
    let ssh = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n";
    host.machine.write("/usr/local/bin/ssh", ssh, 0o755);
}

/// Runs `nkudo ssh`, which goes to that address.
#[track_caller]
fn goes_to(host: &Host, address: &str) -> Ran {
    let ran = host.nkudo(&["ssh", "web", "-l", "admin", "--", "uptime", "-p"]);
    let expected = format!("-o\nHostKeyAlias=nkudo-web\n-l\nadmin\n--\n{address}\nuptime\n-p\n");
    assert_eq!(ran.stdout, expected, "{ran}");
    ran.ended(7)
}

fn ssh_goes_by_what_is_declared_else_by_dhcp_else_by_what_the_host_has_seen() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let lan = [LAN, "dhcp = true\n"].concat();
    host.switch_to(&[&lan, &vm("web", "")[..]].concat()).done();
    print_arguments(&host);
    host.nkudo(&["ssh", "web"])
        .ended(1)
        .says("the host knows no address of web");
    host.has_heard("web", "fe80::1");
    goes_to(&host, "fe80::1%nk-lan");
    host.has_heard("web", "192.168.100.10");
    goes_to(&host, "192.168.100.10").says("by which the host has reached it");
    // As if the guest had asked dnsmasq.
    let mac = host.status(&[])["nics"][0]["mac"]
        .as_str()
        .unwrap()
        .to_owned();
    let lease = format!("4000000000 {mac} 192.168.100.120 web *");
    let leases = "/var/lib/nkudo-dhcp/lan/leases";
    host.machine
        .ok(&["sh", "-c", &format!("echo '{lease}' >>{leases}")]);
    goes_to(&host, "192.168.100.120").says("which it has by DHCP");
    let declared = [
        &lan,
        &vm("web", "")[..],
        "address = [\"192.168.100.11/24\"]\n",
    ]
    .concat();
    host.switch_to(&declared).done();
    goes_to(&host, "192.168.100.11").says("its declared address");
    host.nkudo(&["ssh", "web", "--vsock"])
        .ended(1)
        .says("VM web has no vsock");
    host.nkudo(&["pause", "web"]).done();
    host.nkudo(&["ssh", "web"]).ended(1).says("web is paused");
    host.nkudo(&["resume", "web"]).done();
    host.nkudo(&["stop", "web"]).done();
    // An address needs no journal, even where that cannot be read.
    let broken = "#!/bin/sh\necho 'no journal here' >&2\nexit 1\n";
    host.machine
        .write("/usr/local/bin/journalctl", broken, 0o755);
    host.nkudo(&["ssh", "web"])
        .ended(1)
        .says("web is stopped")
        .does_not_say("no journal here");
}

const SOCKET: &str = "/run/nkudo/vms/web/vsock.sock";

fn with_vsock() -> Host {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&vm_alone("web", "vsock-cid = 3")).done();
    host
}

/// Puts a socket of the VM's user's in the place of the VMM's: what it answers, after `CONNECT 22`, is this expression of Python's.
fn answers(host: &Host, name: &str, answer: &str) {
    let script = format!(
        "import os, socket\n\
         own = os.stat('/run/nkudo/vms/web')\n\
         if os.path.lexists('{SOCKET}'): os.unlink('{SOCKET}')\n\
         server = socket.socket(socket.AF_UNIX)\n\
         server.bind('{SOCKET}')\n\
         os.chown('{SOCKET}', own.st_uid, own.st_gid)\n\
         server.listen(4)\n\
         open('/root/{name}.listens', 'w').close()\n\
         while True:\n\
         \x20   client, _ = server.accept()\n\
         \x20   heard = client.recv(11)\n\
         \x20   try:\n\
         \x20       client.sendall({answer})\n\
         \x20       heard += client.recv(255)\n\
         \x20       client.sendall(b'SSH-2.0-guest\\r\\n')\n\
         \x20   except OSError: pass\n\
         \x20   open('/root/{name}.heard', 'ab').write(heard)\n\
         \x20   client.close()\n"
    );
    host.machine
        .write(&format!("/root/{name}.py"), script, 0o644);
    host.machine.ok(&[
        "systemd-run",
        "-q",
        &format!("--unit={name}"),
        "python3",
        &format!("/root/{name}.py"),
    ]);
    until("it listens", || {
        if host.exists(&format!("/root/{name}.listens")) {
            Ok(())
        } else {
            Err(String::new())
        }
    });
}

fn ssh_goes_over_vsock_where_no_address_is_known() {
    let host = with_vsock();
    // The client of the machine, which is handed the connection and speaks first.
    answers(&host, "guest", "b'OK 1073741824\\n'");
    host.nkudo(&["ssh", "web", "--", "true"])
        .ended(255)
        .says("ssh to web over its vsock");
    until("the guest has heard it", || {
        let heard = host.machine.run(&["cat", "/root/guest.heard"]);
        let heard = String::from_utf8_lossy(&heard.stdout).into_owned();
        if heard.starts_with("CONNECT 22\nSSH-2.0-OpenSSH") {
            Ok(())
        } else {
            Err(heard)
        }
    });
    host.machine.ok(&["systemctl", "stop", "guest.service"]);
    answers(&host, "deaf", "exit()");
    host.nkudo(&["ssh", "web"])
        .ended(255)
        .says("nothing in the guest listens on port 22 of its vsock");
    // It is nothing for people.
    host.nkudo(&["vsock", "web", "22"]).ended(1);
}

fn what_is_in_the_place_of_a_vsock_is_not_trusted() {
    let host = with_vsock();
    host.machine.run(&["rm", "-f", SOCKET]);
    host.nkudo(&["ssh", "web"])
        .ended(255)
        .says("the VM has no vsock since its last start");
    host.machine
        .ok(&["ln", "-s", "/run/dbus/system_bus_socket", SOCKET]);
    host.nkudo(&["ssh", "web"])
        .ended(255)
        .says("is not the socket that the VMM made");
    answers(&host, "liar", "b'OK \\x1b[2J' * 1000");
    let ran = host
        .nkudo(&["ssh", "web"])
        .ended(255)
        .says("the VMM does not speak as it should");
    assert!(!ran.stderr.contains('\x1b'), "{ran}");
}
