//! Bridges and TAPs: made, moved, removed, and nobody else's touched.

use super::Case;
use super::guest::Then;
use super::machine::{Machine, Networkd};

pub(super) const CASES: &[Case] = &[
    (
        "a_link_that_is_not_nkudos_is_an_error_and_nothing_changes",
        a_link_that_is_not_nkudos_is_an_error_and_nothing_changes,
    ),
    (
        "foreign_links_survive_everything",
        foreign_links_survive_everything,
    ),
    (
        "a_network_is_put_right_after_an_administrators_hand",
        a_network_is_put_right_after_an_administrators_hand,
    ),
    (
        "another_network_moves_the_tap_and_the_vm_runs_on",
        another_network_moves_the_tap_and_the_vm_runs_on,
    ),
];

const TWO: &str = r#"
[network.lan]
address = ["192.168.100.1/24", "fd00:100::1/64"]
[network.dmz]
address = ["10.9.0.1/24"]
[vm.hello]
memory = "64M"
kernel = "/srv/hello"
stop-timeout = "100ms"
[[vm.hello.nic]]
network = "lan"
"#;

const BACKENDS: [Networkd; 2] = [Networkd::On, Networkd::Off];

fn a_link_that_is_not_nkudos_is_an_error_and_nothing_changes() {
    for networkd in BACKENDS {
        let machine = Machine::boot(networkd);
        machine.guest("hello", Then::Halt);
        machine.ok(&["ip", "link", "add", "nk-lan", "type", "bridge"]);
        machine.ok(&["ip", "tuntap", "add", "nkt-hello-0", "mode", "tap"]);
        let before = machine.ok(&["ip", "-d", "link"]);
        let said = machine.switch(TWO).exits(1);
        for text in [
            "the link nk-lan is there already",
            "the link nkt-hello-0 is there already",
        ] {
            assert!(said.contains(text), "{text} is not in\n{said}");
        }
        assert_eq!(machine.ok(&["ip", "-d", "link"]), before);
        assert_eq!(machine.vm_units(), "");
        assert!(!machine.exists("/run/systemd/network/05-nkudo.network"));
        assert!(!machine.exists("/var/lib/nkudo/current"));
    }
}

fn foreign_links_survive_everything() {
    for networkd in BACKENDS {
        let machine = Machine::boot(networkd);
        machine.guest("hello", Then::Halt);
        machine.ok(&["ip", "link", "add", "nk-other", "type", "bridge"]);
        machine.ok(&["ip", "link", "add", "br0", "type", "bridge"]);
        machine.ok(&["ip", "tuntap", "add", "nkt-other-0", "mode", "tap"]);
        machine.ok(&["ip", "address", "add", "10.1.2.3/24", "dev", "br0"]);
        machine.ok(&["ip", "link", "set", "br0", "up"]);
        machine.switch(TWO).exits(0);
        machine.switch("").exits(0);
        assert_eq!(machine.links(), ["br0", "lo", "nk-other", "nkt-other-0"]);
        let address = machine.ok(&["ip", "-br", "address", "show", "br0"]);
        assert!(address.contains("10.1.2.3/24"), "{address}");
        for path in [
            "/run/systemd/network/05-nkudo.network",
            "/run/nkudo/booted/hello.json",
        ] {
            assert!(!machine.exists(path), "{path} is left behind");
        }
    }
}

fn a_network_is_put_right_after_an_administrators_hand() {
    for networkd in BACKENDS {
        let machine = Machine::boot(networkd);
        machine.guest("hello", Then::Halt);
        machine.switch(TWO).exits(0);
        let pid = machine.main_pid("hello");
        let addresses = || machine.ok(&["ip", "-br", "address", "show", "nk-lan"]);

        machine.ok(&["ip", "address", "del", "192.168.100.1/24", "dev", "nk-lan"]);
        let said = machine.nkudo(&["switch"]).exits(0);
        assert!(said.contains("add 192.168.100.1/24"), "{said}");
        assert!(addresses().contains("192.168.100.1/24"), "{}", addresses());

        machine.ok(&["ip", "link", "set", "nkt-hello-0", "nomaster"]);
        machine.nkudo(&["switch"]).exits(0);
        assert_eq!(machine.master("nkt-hello-0"), "nk-lan");

        machine.ok(&["ip", "link", "delete", "nk-lan"]);
        machine.nkudo(&["switch"]).exits(0);
        assert_eq!(machine.master("nkt-hello-0"), "nk-lan");
        assert!(addresses().contains("fd00:100::1/64"), "{}", addresses());

        let said = machine.nkudo(&["switch"]).exits(0);
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(machine.main_pid("hello"), pid);
    }
}

fn another_network_moves_the_tap_and_the_vm_runs_on() {
    for networkd in BACKENDS {
        let machine = Machine::boot(networkd);
        machine.guest("hello", Then::Halt);
        machine.switch(TWO).exits(0);
        let pid = machine.main_pid("hello");
        let moved = TWO.replace("network = \"lan\"", "network = \"dmz\"");
        let said = machine.switch(&moved).exits(0);
        assert!(said.contains("nic[0].network: lan → dmz"), "{said}");
        assert_eq!(machine.master("nkt-hello-0"), "nk-dmz");
        // The addresses of a bridge change under it, and its name too.
        let renamed = moved.replace("[network.dmz]\n", "[network.dmz]\nbridge = \"br9\"\n");
        machine
            .switch(&renamed.replace("10.9.0.1", "10.9.0.254"))
            .exits(0);
        assert_eq!(machine.master("nkt-hello-0"), "br9");
        assert_eq!(machine.links(), ["br9", "lo", "nk-lan", "nkt-hello-0"]);
        let said = machine.nkudo(&["switch"]).exits(0);
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(machine.main_pid("hello"), pid);
    }
}
