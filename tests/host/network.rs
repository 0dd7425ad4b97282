//! Bridges, their addresses, and the TAPs in them.

use serde_json::{Value, json};

use super::guest::Then;
use super::host::{Host, LAN, vm, vm_alone};
use super::machine::Networkd;
use super::peer::Peer;
use super::until::until;

cases![
    another_address_reaches_the_bridge_and_restarts_nothing,
    both_families_are_passed_on_at_once,
    another_network_moves_the_tap_while_the_vm_runs,
    what_was_done_by_hand_is_mended,
    several_nics_have_a_tap_each_in_their_bridges,
    a_catch_all_of_the_administrators_does_not_get_the_taps,
    what_the_host_sends_reaches_every_tap,
    network_manager_is_told_while_there_are_networks,
    a_status_says_how_networks_are,
    what_somebody_undoes_during_a_switch_is_said,
    a_link_that_networkd_leaves_without_its_address_is_said,
    rules_that_nobody_changed_are_not_listed_again,
];

fn addresses(host: &Host, name: &str) -> Vec<String> {
    let link = host
        .link(name)
        .unwrap_or_else(|| panic!("there is no {name}"));
    let addresses = link["addr_info"].as_array().unwrap().iter();
    addresses
        .filter(|one| one["scope"] == "global")
        .map(|one| format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"]))
        .collect()
}

#[track_caller]
fn has_addresses(host: &Host, name: &str, wanted: &[&str]) {
    until(&format!("{name} has {wanted:?}"), || {
        let addresses = addresses(host, name);
        if addresses == wanted {
            Ok(())
        } else {
            Err(format!("{addresses:?}"))
        }
    });
}

fn another_address_reaches_the_bridge_and_restarts_nothing() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        let web = vm("web", "");
        host.switch_to(&[LAN, &web].concat()).done();
        let pid = host.main_pid("web");
        let other = "[network.lan]\naddress = [\"10.1.2.1/24\", \"fd00:100::1/64\"]\n";
        host.switch_to(&[other, &web].concat()).done();
        has_addresses(&host, "nk-lan", &["10.1.2.1/24", "fd00:100::1/64"]);
        assert_eq!(host.main_pid("web"), pid);
        host.nkudo(&["switch"]).done().says("nothing to do");
    }
}

/// On a host with no other link, too: what a kernel of 6.17 or newer can do is not seen by a link there.
fn both_families_are_passed_on_at_once() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        let nat =
            "[network.lan]\naddress = [\"192.168.100.1/24\", \"fd00:100::1/64\"]\nnat = true\n";
        host.switch_to(nat).done();
        host.nkudo(&["switch"]).done().says("nothing to do");
    }
}

fn another_network_moves_the_tap_while_the_vm_runs() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        let both = [LAN, "[network.dmz]\n"].concat();
        host.switch_to(&[&both, vm("web", "").as_str()].concat())
            .done();
        host.tap_is_in("web", "nk-lan");
        let pid = host.main_pid("web");
        let moved = vm("web", "").replace("network = \"lan\"", "network = \"dmz\"");
        host.switch_to(&[&both, moved.as_str()].concat()).done();
        host.tap_is_in("web", "nk-dmz");
        assert_eq!(host.main_pid("web"), pid);
        // The bridge's name and its address change below the VM too.
        let renamed = both.replace("[network.dmz]\n", "[network.dmz]\nbridge = \"br9\"\n");
        host.switch_to(&[&renamed, moved.as_str()].concat()).done();
        host.tap_is_in("web", "br9");
        assert!(host.link("nk-dmz").is_none());
        assert_eq!(host.main_pid("web"), pid);
        host.switch_to(&[&both, moved.as_str()].concat()).done();
        // After a crash restart the TAP is where it was, for PID 1 kept it.
        host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
        host.active_again("web", pid);
        host.tap_is_in("web", "nk-dmz");
        host.nkudo(&["switch"]).done().says("nothing to do");
    }
}

fn what_was_done_by_hand_is_mended() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        host.switch_to(&[LAN, &vm("web", "")].concat()).done();
        let pid = host.main_pid("web");
        for damage in [
            "ip link set nkt-web-0 nomaster",
            "ip link set nk-lan down",
            "ip addr del 192.168.100.1/24 dev nk-lan",
            "ip addr add 10.66.66.1/24 dev nk-lan",
            "ip link delete nk-lan",
        ] {
            host.machine.ok(&damage.split(' ').collect::<Vec<_>>());
            host.nkudo(&["switch"]).done().does_not_say("nothing to do");
            host.tap_is_in("web", "nk-lan");
            has_addresses(&host, "nk-lan", &["192.168.100.1/24"]);
            host.nkudo(&["switch"]).done().says("nothing to do");
        }
        assert_eq!(host.main_pid("web"), pid);
    }
}

fn several_nics_have_a_tap_each_in_their_bridges() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    let nic = |network: &str| format!("[[vm.web.nic]]\nnetwork = \"{network}\"\n");
    let config = [
        LAN.to_owned(),
        "[network.dmz]\n".to_owned(),
        vm_alone("web", ""),
        nic("lan"),
        nic("dmz"),
        nic("lan"),
    ];
    host.switch_to(&config.concat()).done();
    for (tap, bridge) in [
        ("nkt-web-0", "nk-lan"),
        ("nkt-web-1", "nk-dmz"),
        ("nkt-web-2", "nk-lan"),
    ] {
        let link = host
            .link(tap)
            .unwrap_or_else(|| panic!("there is no {tap}"));
        assert_eq!(link["master"], bridge, "{link}");
    }
    host.switch_to("").done();
    host.has_nothing();
}

fn a_catch_all_of_the_administrators_does_not_get_the_taps() {
    let host = Host::boot(Networkd::On);
    let catch_all = "[Match]\nType=ether bridge\n[Network]\nDHCP=yes\n";
    host.machine
        .write("/etc/systemd/network/10-all.network", catch_all, 0o644);
    host.machine.ok(&["networkctl", "reload"]);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    host.tap_is_in("web", "nk-lan");
    let list = host
        .machine
        .ok(&["networkctl", "list", "--no-legend", "--no-pager"]);
    let tap = list.lines().find(|line| line.contains("nkt-web-0"));
    assert!(tap.is_some_and(|tap| tap.contains("unmanaged")), "{list}");
}

fn what_the_host_sends_reaches_every_tap() {
    let host = Host::boot(Networkd::Off);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    host.switch_to(&[LAN, &vm("web", ""), &vm("db", "")].concat())
        .done();
    for id in ["web", "db"] {
        host.tap_is_in(id, "nk-lan");
        until("the port forwards", || {
            let argv = [
                "bridge",
                "-j",
                "link",
                "show",
                "dev",
                &format!("nkt-{id}-0"),
            ];
            let port = host.machine.ok(&argv);
            if port.contains("\"state\":\"forwarding\"") {
                Ok(())
            } else {
                Err(port)
            }
        });
    }
    // What the host sends to everybody reaches both TAPs. Nobody reads there, since the guests have no
    // driver: what came is seen when their queues of 1000 frames are full and drop the next.
    for id in ["web", "db"] {
        assert_eq!(dropped(&host, id), 0, "{id}");
    }
    host.machine
        .ok(&["ip", "route", "add", "224.0.0.0/4", "dev", "nk-lan"]);
    let send = "exec 3>/dev/udp/224.0.0.1/9; for n in {1..2000}; do echo frame >&3; done";
    host.machine.ok(&["bash", "-c", send]);
    for id in ["web", "db"] {
        until(&format!("the queue of {id} is full"), || {
            match dropped(&host, id) {
                0 => Err("nothing was dropped".to_owned()),
                _ => Ok(()),
            }
        });
    }
}

fn dropped(host: &Host, id: &str) -> u64 {
    let path = format!("/sys/class/net/nkt-{id}-0/statistics/tx_dropped");
    host.machine.ok(&["cat", &path]).trim().parse().unwrap()
}

fn networks(host: &Host) -> Value {
    let status = host.nkudo(&["status", "--network", "--json"]).done();
    serde_json::from_str(&status.stdout).unwrap()
}

fn a_status_says_how_networks_are() {
    const SERVED: &str = "[network.lan]\naddress = [\"192.168.100.1/24\"]\nnat = true\ndhcp = true\n\
        forward = [{ port = 8080, to = \"web:80\" }]\n[network.lan2]\n";
    for (networkd, backend) in [(Networkd::On, "networkd"), (Networkd::Off, "netlink")] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        let web = format!("{}address = \"192.168.100.10\"\n", vm("web", ""));
        host.switch_to(&[SERVED, &web].concat()).done();
        let status = networks(&host);
        assert_eq!(status["backend"], backend);
        assert_eq!(status["rules"], "as-declared");
        let lan = &status["networks"][0];
        assert_eq!([&lan["link"], &lan["state"]], ["nk-lan", "up"]);
        assert_eq!(lan["addresses"][0], "192.168.100.1/24");
        assert_eq!(lan["leases"], json!([]));
        assert_eq!(lan["ports"][0]["state"], "attached");
        assert_eq!(status["networks"][1]["leases"], Value::Null);

        let nic = || host.status(&["web"])["nics"][0].clone();
        assert_eq!(nic()["declared"], json!(["192.168.100.10"]));
        assert_eq!(nic()["addresses"], json!([]));
        Peer::of(&host, "web").dhcp().expect("web gets an address");
        let connect = "timeout 0.2 bash -c ': </dev/tcp/192.168.100.1/8080' || true";
        host.machine.ok(&["sh", "-c", connect]);
        until("the lease is listed", || {
            let status = networks(&host);
            let lan = &status["networks"][0];
            let lease = &lan["leases"][0];
            if lease["address"] != "192.168.100.10" || lease["vm"] != "web" {
                return Err(lan.to_string());
            }
            assert_eq!(lease["mac"], lan["ports"][0]["mac"]);
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
            let left = u128::from(lease["expires"].as_u64().unwrap()).saturating_sub(now);
            assert!((1..=86_400_000_000).contains(&left), "{lease}");
            assert_eq!(lan["forwards"][0]["connections"], 1);
            assert!(lan["received-bytes"].as_u64() > Some(0), "{lan}");
            Ok(())
        });
        assert_eq!(nic()["addresses"][0], "192.168.100.10");
        let text = host.nkudo(&["status", "--network"]).done().stdout;
        for said in [
            "firewall rules: as declared",
            "nkt-web-0",
            "tcp 8080",
            "192.168.100.10",
        ] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );

        for (damage, path, word) in [
            (
                "ip link set nkt-web-0 nomaster",
                "/networks/0/ports/0/state",
                "elsewhere",
            ),
            ("ip link set nk-lan down", "/networks/0/state", "present"),
            ("ip link delete nk-lan", "/networks/0/state", "missing"),
            (
                "ip link add nk-lan type bridge",
                "/networks/0/state",
                "foreign",
            ),
            (
                "nft add table inet nkudo { chain more { }; }",
                "/rules",
                "changed",
            ),
            ("nft flush ruleset", "/rules", "missing"),
        ] {
            host.machine.ok(&damage.split(' ').collect::<Vec<_>>());
            assert_eq!(networks(&host).pointer(path).unwrap(), word, "{damage}");
        }
    }
}

/// Where its directory is, NetworkManager runs: nothing else of it is needed for the file.
fn network_manager_is_told_while_there_are_networks() {
    let host = Host::boot(Networkd::Off);
    let there = |path: &str| host.machine.run(&["test", "-e", path]).status.success();
    let file = "/run/NetworkManager/conf.d/nkudo.conf";
    host.switch_to(LAN).done();
    assert!(!there("/run/NetworkManager"));
    host.machine.ok(&["mkdir", "/run/NetworkManager"]);
    host.nkudo(&["switch"])
        .done()
        .says("NetworkManager file nkudo.conf: write");
    assert_eq!(
        host.machine.ok(&["cat", file]),
        "[keyfile]\nunmanaged-devices+=interface-name:nkt-*;interface-name:nk-lan\n"
    );
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.switch_to("").done();
    assert!(!there(file));
    host.nkudo(&["switch"]).done().says("nothing to do");
}

/// A unit of the administrator's that VMs wait for: by then networks are made, and their TAPs are in them.
fn what_somebody_undoes_during_a_switch_is_said() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        let hand = "#!/bin/sh\nip addr del 192.168.100.1/24 dev nk-lan\nip link set nkt-web-0 nomaster\n\
                    nft flush ruleset\nsysctl -w net.ipv4.conf.nk-lan.forwarding=0\n\
                    systemctl stop nkudo-dhcp@lan.service\nexit 0\n";
        host.machine.write("/srv/hand", hand, 0o755);
        host.machine.write(
            "/etc/systemd/system/hand.service",
            "[Service]\nType=oneshot\nExecStart=/srv/hand\n",
            0o644,
        );
        host.machine.write(
            "/etc/systemd/system/nkudo-vm@web.service.d/hand.conf",
            "[Unit]\nWants=hand.service\nAfter=hand.service\n",
            0o644,
        );
        let nat = LAN.to_owned() + "nat = true\ndhcp = true\n";
        let switch = host.switch_to(&[&nat, vm("web", "").as_str()].concat());
        let switch = switch
            .ended(5)
            .says("the bridge nk-lan lacks 192.168.100.1/24, and the switch had made it as declared: something else changes it")
            .says("the TAP nkt-web-0 is not in nk-lan as it should be")
            .says("the firewall rules are gone")
            .says("`nft monitor` shows who changes them")
            .says("net.ipv4.conf.nk-lan.forwarding is 0, and has to be 1")
            .says("switched to generation 1");
        match networkd {
            Networkd::On => switch.says("`networkctl status` names the .network file"),
            Networkd::Off => switch
                .says("the DHCP server of network lan does not run")
                .says("`ip monitor` shows who changes links"),
        };
        // The VM runs, so nobody's hand is in the next one.
        assert_eq!(host.property("web", "ActiveState"), "active");
        host.nkudo(&["switch"])
            .done()
            .says("loaded the firewall rules");
        host.tap_is_in("web", "nk-lan");
        has_addresses(&host, "nk-lan", &["192.168.100.1/24"]);
        host.nkudo(&["switch"]).done().says("nothing to do");
    }
}

/// A file of the administrator's goes before nkudo's for the same link.
fn a_link_that_networkd_leaves_without_its_address_is_said() {
    let host = Host::boot(Networkd::On);
    host.machine.write(
        "/etc/systemd/network/05-all.network",
        "[Match]\nName=nk-*\n[Network]\nLinkLocalAddressing=no\n",
        0o644,
    );
    host.machine.ok(&["networkctl", "reload"]);
    host.switch_to(LAN)
        .ended(1)
        .says("systemd-networkd did not do it")
        .says("nk-lan lacks 192.168.100.1/24");
    host.machine
        .ok(&["rm", "/etc/systemd/network/05-all.network"]);
    host.nkudo(&["switch"]).done();
    has_addresses(&host, "nk-lan", &["192.168.100.1/24"]);
}

/// Notes what it is asked for.
const NFT: &str = "#!/bin/sh\necho \"$*\" >> /run/asked-of-nft\nexec /usr/sbin/nft \"$@\"\n";

/// A listing takes its time with each VM.
fn rules_that_nobody_changed_are_not_listed_again() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    host.machine.write("/usr/local/sbin/nft", NFT, 0o755);
    let lists = || {
        host.machine.write("/run/asked-of-nft", "", 0o644);
        host.nkudo(&["switch"]).done().says("nothing to do");
        host.machine
            .ok(&["cat", "/run/asked-of-nft"])
            .contains("list table")
    };
    assert!(!lists());
    // Somebody's own table changes: ours are looked at once more.
    host.machine.ok(&["nft", "add", "table", "ip", "others"]);
    assert!(lists());
    assert!(!lists());
    // Ours too.
    host.machine.ok(&["nft", "flush", "ruleset"]);
    host.nkudo(&["switch"]).done().says("firewall rules: load");
    assert!(!lists());
    assert!(
        host.machine
            .ok(&["nft", "list", "tables"])
            .contains("bridge nkudo")
    );
}
