//! The host comes up, and some of its networks cannot be made.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, vm, vm_alone};
use super::machine::Networkd;

cases![
    networks_that_cannot_be_made_keep_no_other_from_booting_with_networkd,
    networks_that_cannot_be_made_keep_no_other_from_booting_without_networkd,
    a_bridge_that_networkd_does_not_make_is_left_out_at_boot,
    a_networkd_that_hangs_leaves_out_the_bridges_that_it_makes,
    a_dhcp_server_that_does_not_start_leaves_out_its_network_at_boot,
    at_boot_rules_that_are_refused_leave_out_what_needs_them,
    rules_that_are_refused_after_stops_leave_out_what_needs_them,
];

/// The VM on a network.
fn on(network: &str, id: &str) -> String {
    vm(id, "").replace("network = \"lan\"", &format!("network = \"{network}\""))
}

/// A host that has switched to the first and boots with the second, which `nkudo switch` would refuse.
fn booted(networkd: Networkd, ids: &[&str], first: &str, second: &str) -> Host {
    let host = Host::boot(networkd);
    for id in ids {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    host.machine.ok(&["systemctl", "enable", "nkudo-boot"]);
    host.switch_to(first).done();
    host.configure(second);
    host.nkudo(&["render"]).done();
    let argv = ["ln", "-sfn", "generations/2", "/var/lib/nkudo/current"];
    host.machine.ok(&argv);
    host
}

#[track_caller]
fn runs(host: &Host, ids: &[&str]) {
    for id in ids {
        let journal = host
            .machine
            .ok(&["journalctl", "-b", "-o", "cat", "-u", "nkudo-boot"]);
        assert_eq!(
            host.property(id, "ActiveState"),
            "active",
            "{id}: {journal}"
        );
    }
}

/// Checks that a VM was left out for its network, and that everybody is told so.
#[track_caller]
fn is_left_out(host: &Host, id: &str, why: &str) {
    host.is_gone(id);
    let journal = host
        .machine
        .ok(&["journalctl", "-b", "-o", "cat", "-u", "nkudo-boot"]);
    let line = journal
        .lines()
        .find(|line| line.contains(&format!("VM {id}: its network ")));
    assert!(
        line.is_some_and(|line| line.contains(why)),
        "{id}: {journal}"
    );
    let status = host.status(&[id]);
    assert_eq!(status["state"], "failed", "{status}");
    let obstacle = status["obstacle"].as_str().unwrap_or_default();
    assert!(obstacle.contains(why), "{status}");
    let boot = host.machine.run(&["systemctl", "is-failed", "nkudo-boot"]);
    assert_eq!(String::from_utf8_lossy(&boot.stdout), "failed\n");
}

/// The network as `nkudo status --network` has it.
#[track_caller]
fn network(host: &Host, name: &str) -> Value {
    let status = host.nkudo(&["status", "--network", "--json"]).done();
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["rules"], "as-declared", "{status}");
    let mut networks = status["networks"].as_array().unwrap().iter();
    networks.find(|one| one["name"] == name).unwrap().clone()
}

/// Somebody's own bridge, which is there before nkudo is.
const SOMEBODY: &str = "[Unit]\nBefore=nkudo-boot.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=ip link add br0 type bridge\n[Install]\nWantedBy=multi-user.target\n";

fn networks_that_cannot_be_made_keep_no_other_from_booting_with_networkd() {
    some_cannot_be_made(Networkd::On);
}

fn networks_that_cannot_be_made_keep_no_other_from_booting_without_networkd() {
    some_cannot_be_made(Networkd::Off);
}

fn some_cannot_be_made(networkd: Networkd) {
    let good = [LAN, &vm("web", ""), &vm_alone("alone", "")].concat();
    let both = vm("both", "") + "[[vm.both.nic]]\nnetwork = \"office\"\n";
    let all = [
        &good,
        "[network.office]\nuplink = \"office0\"\n",
        "[network.taken]\nbridge = \"br0\"\naddress = [\"10.9.0.1/24\"]\nnat = true\n",
        &on("office", "mail"),
        &on("taken", "files"),
        &both,
    ]
    .concat();
    let ids = ["web", "alone", "mail", "files", "both"];
    let mut host = booted(networkd, &ids, &good, &all);
    host.machine
        .write("/etc/systemd/system/somebody.service", SOMEBODY, 0o644);
    host.machine.ok(&["systemctl", "enable", "somebody"]);
    host.nkudo(&["switch"])
        .ended(1)
        .says("network office: the uplink office0 is not there")
        .says("nothing was changed");
    host.machine.reboot();

    runs(&host, &["web", "alone"]);
    host.tap_is_in("web", "nk-lan");
    let missing = "the uplink office0 is not there";
    is_left_out(&host, "mail", missing);
    is_left_out(&host, "both", missing);
    let foreign = "the link br0 is there already and is not nkudo's";
    is_left_out(&host, "files", foreign);
    // Nothing of these networks is there, and nothing was done to what is somebody's.
    assert!(host.link("nk-office").is_none());
    let bridge = host.link("br0").unwrap();
    assert_eq!(bridge["addr_info"], Value::Array(Vec::new()), "{bridge}");
    let rules = host.machine.ok(&["nft", "list", "ruleset"]);
    assert!(rules.contains("nk-lan"), "{rules}");
    assert!(rules.contains("nkt-web-0"), "{rules}");
    for name in ["br0", "10.9.0.0", "nk-office", "nkt-mail-0"] {
        assert!(!rules.contains(name), "{name}: {rules}");
    }
    let files = host
        .machine
        .ok(&["sh", "-c", "cat /run/systemd/network/05-nkudo*"]);
    assert!(!files.contains("br0"), "{files}");
    assert!(!files.contains("office0"), "{files}");
    let office = network(&host, "office");
    assert_eq!(office["state"], "missing", "{office}");
    let why = office["obstacle"].as_str().unwrap();
    assert!(why.contains(missing), "{why}");
    assert_eq!(network(&host, "taken")["state"], "foreign");
    assert_eq!(network(&host, "lan")["obstacle"], Value::Null);
    let text = host.nkudo(&["status", "--network"]).done().stdout;
    assert!(
        text.contains(&format!("network office: {missing}")),
        "{text}"
    );

    // What is on a good network is nobody else's matter.
    let pid = host.main_pid("web");
    host.nkudo(&["restart", "web"])
        .done()
        .says("network office is left out");
    assert_ne!(host.main_pid("web"), pid);
    host.nkudo(&["start", "mail"])
        .ended(1)
        .says("network office: the uplink office0 is not there")
        .says("nothing was changed");
    // Once more, as by hand: what runs is left alone.
    let pid = host.main_pid("web");
    host.nkudo(&["switch", "--boot"]).ended(4);
    assert_eq!(host.main_pid("web"), pid);

    // They are mended.
    host.machine.ok(&[
        "ip", "link", "add", "office0", "type", "veth", "peer", "name", "office1",
    ]);
    host.machine.ok(&["ip", "link", "delete", "br0"]);
    host.nkudo(&["switch"]).done();
    runs(&host, &ids);
    assert_eq!(host.main_pid("web"), pid);
    host.tap_is_in("mail", "nk-office");
    host.tap_is_in("files", "br0");
    assert_eq!(host.link("office0").unwrap()["master"], "nk-office");
    assert!(!host.exists("/run/nkudo/obstacles/mail"));
    assert_eq!(network(&host, "office")["obstacle"], Value::Null);
    host.nkudo(&["switch"]).done().says("nothing to do");

    // The uplink goes again, and a VM that runs on its network runs on.
    let pid = host.main_pid("mail");
    host.machine.ok(&["ip", "link", "delete", "office0"]);
    host.nkudo(&["switch", "--boot"])
        .ended(5)
        .says("network office is left out: the uplink office0 is not there");
    assert_eq!(host.main_pid("mail"), pid);
    host.tap_is_in("mail", "nk-office");
    let rules = host.machine.ok(&["nft", "list", "ruleset"]);
    assert!(rules.contains("nkt-mail-0"), "{rules}");
    host.switch_to("").done();
    host.has_nothing();
}

/// Two networks, and a VM without.
fn two() -> String {
    [
        LAN,
        "[network.dmz]\naddress = [\"10.9.0.1/24\"]\n",
        &vm("web", ""),
        &on("dmz", "db"),
        &vm_alone("alone", ""),
    ]
    .concat()
}

fn a_bridge_that_networkd_does_not_make_is_left_out_at_boot() {
    let alone = vm_alone("alone", "");
    let mut host = booted(Networkd::On, &["web", "db", "alone"], &alone, &two());
    // A file of the administrator's goes before nkudo's for the same link.
    host.machine.write(
        "/etc/systemd/network/05-all.network",
        "[Match]\nName=nk-lan\n[Network]\nLinkLocalAddressing=no\n",
        0o644,
    );
    host.machine.reboot();
    runs(&host, &["db", "alone"]);
    host.tap_is_in("db", "nk-dmz");
    is_left_out(
        &host,
        "web",
        "its network lan is left out: systemd-networkd did not do it",
    );
    // The bridge is there, so its rules are.
    let rules = host.machine.ok(&["nft", "list", "ruleset"]);
    assert!(rules.contains("nk-lan"), "{rules}");
    host.machine
        .ok(&["rm", "/etc/systemd/network/05-all.network"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

/// Stops networkd where it is, once there is a bridge of somebody's own.
const HANGS: &str = "[Unit]\nBefore=nkudo-boot.service\nAfter=systemd-networkd.service\n[Service]\nType=oneshot\n\
    RemainAfterExit=yes\nExecStart=ip link add br0 type bridge\n\
    ExecStart=systemctl kill --signal=STOP systemd-networkd\n[Install]\nWantedBy=multi-user.target\n";

fn a_networkd_that_hangs_leaves_out_the_bridges_that_it_makes() {
    let alone = vm_alone("alone", "");
    let two = two().replace(
        "[network.dmz]\naddress = [\"10.9.0.1/24\"]\n",
        "[network.dmz]\nexisting-bridge = \"br0\"\n",
    );
    let mut host = booted(Networkd::On, &["web", "db", "alone"], &alone, &two);
    host.machine
        .write("/etc/systemd/system/hangs.service", HANGS, 0o644);
    host.machine.ok(&["systemctl", "enable", "hangs"]);
    host.machine.reboot();
    runs(&host, &["db", "alone"]);
    host.tap_is_in("db", "br0");
    is_left_out(&host, "web", "it did not answer within 20 s");
    host.machine
        .ok(&["systemctl", "kill", "--signal=CONT", "systemd-networkd"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_dhcp_server_that_does_not_start_leaves_out_its_network_at_boot() {
    let alone = vm_alone("alone", "");
    let two = two().replace(LAN, &(LAN.to_owned() + "dhcp = true\n"));
    let mut host = booted(Networkd::Off, &["web", "db", "alone"], &alone, &two);
    host.machine
        .write("/usr/local/sbin/dnsmasq", "#!/nonexistent\n", 0o755);
    host.machine.reboot();
    runs(&host, &["db", "alone"]);
    is_left_out(
        &host,
        "web",
        "the DHCP server of network lan: its start ended with `failed`",
    );
    host.machine.ok(&["rm", "/usr/local/sbin/dnsmasq"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
    host.machine
        .ok(&["systemctl", "is-active", "nkudo-dhcp@lan.service"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
}

/// Refuses rules that have this in them, as a kernel without it would.
fn refuses(host: &Host, what: &str) {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*'-f -')\n  cat > /run/rules.$$\n  if grep -q -e '{what}' /run/rules.$$; then\n    \
         echo 'Error: Could not process rule: Operation not supported' >&2\n    exit 1\n  fi\n  \
         exec /usr/sbin/nft \"$@\" < /run/rules.$$ ;;\nesac\nexec /usr/sbin/nft \"$@\"\n"
    );
    host.machine.write("/usr/local/sbin/nft", script, 0o755);
}

fn at_boot_rules_that_are_refused_leave_out_what_needs_them() {
    let alone = vm_alone("alone", "");
    let two = two().replace(LAN, &(LAN.to_owned() + "nat = true\n"));
    let mut host = booted(Networkd::On, &["web", "db", "alone"], &alone, &two);
    // One network needs what the kernel has not.
    refuses(&host, "masquerade");
    host.machine.reboot();
    runs(&host, &["db", "alone"]);
    is_left_out(
        &host,
        "web",
        "Could not process rule: Operation not supported",
    );
    let rules = host.machine.ok(&["nft", "list", "ruleset"]);
    assert!(rules.contains("nkt-db-0"), "{rules}");
    assert!(host.link("nk-lan").is_none());
    // No rules are taken at all.
    refuses(&host, "table");
    host.machine.reboot();
    runs(&host, &["alone"]);
    for id in ["web", "db"] {
        is_left_out(
            &host,
            id,
            "nft does not take nkudo's rules: Error: Could not process rule",
        );
    }
    // What needs none is started by hand too.
    host.nkudo(&["stop", "alone"]).done();
    host.nkudo(&["start", "alone"]).done();
    host.nkudo(&["start", "db"])
        .ended(1)
        .says("nft does not take nkudo's rules");
    host.nkudo(&["switch"])
        .ended(1)
        .says("nft does not take nkudo's rules");
    host.machine.ok(&["rm", "/usr/local/sbin/nft"]);
    host.nkudo(&["switch"]).done();
    runs(&host, &["web", "db", "alone"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
}

/// Takes rules when they are checked, and refuses to load them.
const CHECKS_ALONE: &str = "#!/bin/sh\nif [ \"$*\" = '-f -' ]; then\n  echo 'Error: out of memory' >&2\n  exit 1\nfi\n\
    exec /usr/sbin/nft \"$@\"\n";

fn rules_that_are_refused_after_stops_leave_out_what_needs_them() {
    let host = Host::boot(Networkd::Off);
    for id in ["web", "db", "alone"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    host.switch_to(&two()).done();
    let larger = two().replace("memory = \"64M\"", "memory = \"128M\"");
    let larger = larger.replace(LAN, &(LAN.to_owned() + "isolate = true\n"));
    host.machine
        .write("/usr/local/sbin/nft", CHECKS_ALONE, 0o755);
    host.switch_to(&larger)
        .ended(4)
        .says("VM web: its network lan is left out: nft does not take nkudo's rules: Error: out of memory")
        .says("Error: out of memory");
    assert_eq!(host.property("alone", "ActiveState"), "active");
    for id in ["web", "db"] {
        host.is_gone(id);
        assert_eq!(host.status(&[id])["state"], "failed");
    }
    host.machine.ok(&["rm", "/usr/local/sbin/nft"]);
    host.nkudo(&["switch"]).done();
    runs(&host, &["web", "db", "alone"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
}
