//! The unit that hands out addresses on a network where systemd-networkd does not.

use std::time::Duration;

use camino::Utf8Path;
use sha2::{Digest as _, Sha256};

use crate::host::{Host, NetworkName};
use crate::network;

use super::Unit;
use super::builder::{Builder, text, words};
use super::sandbox::HARDENED;
use super::setting::{Exec, Privilege, Setting};
use super::vm::slice_name;

pub fn dhcp_unit_name(network: &NetworkName) -> String {
    format!("nkudo-dhcp@{network}.service")
}

/// Where systemd keeps what the unit writes: its leases.
fn state(network: &NetworkName) -> String {
    format!("/var/lib/nkudo-dhcp/{network}")
}

/// The file of leases of a network, in dnsmasq's own form.
pub fn leases_file(network: &NetworkName) -> String {
    format!("{}/leases", state(network))
}

/// Identifies what a network hands out; nothing where it hands out nothing.
pub fn dhcp_digest(host: &Host, network: &NetworkName) -> Option<String> {
    let arguments = network::dnsmasq(host, network, &state(network))?;
    let digest = Sha256::digest(arguments.join("\0"));
    Some(hex::encode(&digest[..16]))
}

/// The unit that runs dnsmasq for a network; nothing where it hands out nothing.
///
/// It is a dynamic user with three capabilities: to answer on port 67, to answer guests that have no
/// address yet, and to send from the bridge. It sees nothing of the host's files but /usr.
pub fn dhcp_unit(host: &Host, network: &NetworkName, dnsmasq: &Utf8Path) -> Option<Unit> {
    let mut argv = vec![dnsmasq.to_string()];
    argv.extend(network::dnsmasq(host, network, &state(network))?);
    let mut unit = Builder::default();
    unit.unit(
        "Description",
        text(format!("Addresses for network {network}")),
    );
    unit.unit("After", words(["network.target"]));
    unit.unit(
        "StartLimitIntervalSec",
        Setting::Span(Duration::from_secs(60)),
    );
    unit.unit("StartLimitBurst", Setting::Count(10));
    unit.service("Type", text("exec"));
    unit.service(
        "ExecStart",
        Setting::Exec(Exec {
            argv,
            privilege: Privilege::Sandboxed,
        }),
    );
    unit.service("Restart", text("on-failure"));
    unit.service("RestartSec", Setting::Span(Duration::from_secs(1)));
    unit.service("Slice", text(slice_name()));
    unit.service("StateDirectory", words([format!("nkudo-dhcp/{network}")]));
    unit.service("StateDirectoryMode", Setting::Mode(0o700));
    for (name, value) in [
        ("NKUDO_NETWORK", network.to_string()),
        ("NKUDO_DIGEST", dhcp_digest(host, network)?),
    ] {
        unit.journal_field(name, value);
    }
    unit.service("DynamicUser", Setting::Flag(true));
    unit.service("AmbientCapabilities", Setting::NetworkServerCapabilities);
    unit.service("CapabilityBoundingSet", Setting::NetworkServerCapabilities);
    for key in HARDENED
        .into_iter()
        .chain(["PrivateDevices", "RestrictSUIDSGID"])
    {
        unit.service(key, Setting::Flag(true));
    }
    // Not ProtectKernelTunables=: dnsmasq reads the bridge's MTU below /proc/sys, and may not write it
    // as what it is.
    unit.service("ProtectSystem", text("strict"));
    unit.service("ProtectHome", text("yes"));
    unit.service("ProtectProc", text("invisible"));
    unit.service("UMask", Setting::Mode(0o077));
    unit.service("DevicePolicy", text("closed"));
    unit.service("RestrictNamespaces", Setting::IpcNamespacesOnly);
    unit.service(
        "RestrictAddressFamilies",
        Setting::Allow(vec![
            "AF_UNIX",
            "AF_INET",
            "AF_INET6",
            "AF_NETLINK",
            "AF_PACKET",
        ]),
    );
    unit.service("SystemCallArchitectures", words(["native"]));
    unit.service("SystemCallFilter", Setting::Allow(vec!["@system-service"]));
    unit.service(
        "InaccessiblePaths",
        words(["-/etc/nkudo", "-/run/nkudo", "-/var/lib/nkudo"]),
    );
    Some(unit.build(dhcp_unit_name(network)))
}
