//! The world outside of a host.

use super::host::Host;
use super::until::until;

/// The outside world, in a network namespace beyond the host's eth0: it knows no way to the VMs.
const OUTSIDE: &str = "set -e
ip netns add outside
ip link add eth0 type veth peer name out0
ip link set out0 netns outside
ip addr add 203.0.113.5/24 dev eth0
ip addr add 2001:db8::5/64 dev eth0 nodad
ip link set eth0 up
ip netns exec outside ip addr add 203.0.113.1/24 dev out0
ip netns exec outside ip addr add 2001:db8::1/64 dev out0 nodad
ip netns exec outside ip link set out0 up
ip netns exec outside ip link set lo up
ip route add default via 203.0.113.1
ip route add default via 2001:db8::1
";

/// Tells each caller who it seems to be.
const WHO: &str = "
import socketserver
class Who(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write((self.client_address[0] + '\\n').encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('203.0.113.1', 7777), Who).serve_forever()
";

/// Makes it, with a server on it.
pub(crate) fn outside(host: &Host) {
    host.machine.ok(&["bash", "-c", OUTSIDE]);
    host.machine.ok(&[
        "systemd-run",
        "-q",
        "--unit=who",
        "ip",
        "netns",
        "exec",
        "outside",
        "python3",
        "-c",
        WHO,
    ]);
    until("the server outside listens", || {
        let argv = ["ip", "netns", "exec", "outside", "ss", "-Hltn"];
        let listening = host.machine.ok(&argv);
        if listening.contains(":7777") {
            Ok(())
        } else {
            Err(listening)
        }
    });
}
