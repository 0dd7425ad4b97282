//! VMs on a network outside of the host: by an uplink, or by a bridge that is there.

use super::guest::Then;
use super::host::{Host, vm};
use super::machine::Networkd;
use super::outside::outside;
use super::peer::Peer;
use super::until::until;

cases![
    vms_are_on_the_uplinks_network_with_networkd,
    vms_are_on_the_uplinks_network_without_networkd,
    an_existing_bridge_is_joined_and_kept,
];

fn vms_are_on_the_uplinks_network_with_networkd() {
    on_the_uplink(Networkd::On);
}

fn vms_are_on_the_uplinks_network_without_networkd() {
    on_the_uplink(Networkd::Off);
}

fn on_the_uplink(networkd: Networkd) {
    let host = Host::boot(networkd);
    outside(&host);
    host.guest("web", Then::PowerOffWhenAsked);
    let web = [&vm("web", ""), "address = \"203.0.113.77/24\"\n"].concat();
    let uplink = ["[network.lan]\nuplink = \"eth0\"\n", &web].concat();
    // It is the host's own way out.
    host.configure(&uplink);
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch"]).ended(1).says("203.0.113.5/24");
    host.machine.ok(&["ip", "addr", "flush", "dev", "eth0"]);
    host.nkudo(&["switch"]).done();
    until("eth0 is in the bridge", || {
        let eth0 = host.link("eth0").unwrap();
        if eth0["master"] == "nk-lan" {
            Ok(())
        } else {
            Err(eth0.to_string())
        }
    });
    let mut peer = Peer::of(&host, "web").with(&["203.0.113.77/24"], &[]);
    assert!(peer.reaches("203.0.113.1"));
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.machine.ok(&["ip", "link", "set", "eth0", "nomaster"]);
    host.nkudo(&["switch"]).done();
    assert!(peer.reaches("203.0.113.1"));
    drop(peer);
    // The link is the host's: it is let go, and stays.
    host.switch_to("").done();
    host.has_nothing();
    let eth0 = host.link("eth0").unwrap();
    assert!(eth0["master"].is_null(), "{eth0}");
}

fn an_existing_bridge_is_joined_and_kept() {
    let host = Host::boot(Networkd::Off);
    outside(&host);
    host.guest("web", Then::PowerOffWhenAsked);
    let script = "ip link add br0 type bridge forward_delay 0 && ip link set br0 up && \
                  ip addr flush dev eth0 && ip link set eth0 master br0";
    host.machine.ok(&["bash", "-c", script]);
    let before = host.link("br0").unwrap();
    let lan = "[network.lan]\nexisting-bridge = \"br0\"\n";
    let web = [&vm("web", ""), "address = \"203.0.113.77/24\"\n"].concat();
    host.switch_to(&[lan, &web].concat()).done();
    host.tap_is_in("web", "br0");
    let mut peer = Peer::of(&host, "web").with(&["203.0.113.77/24"], &[]);
    assert!(peer.reaches("203.0.113.1"));
    drop(peer);
    host.switch_to("").done();
    host.has_nothing();
    let after = host.link("br0").unwrap();
    assert_eq!(
        [&before["address"], &before["ifindex"]],
        [&after["address"], &after["ifindex"]]
    );
}
