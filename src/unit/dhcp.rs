//! The unit that hands out addresses on a network where systemd-networkd does not.

use camino::Utf8Path;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::time::Duration;

use crate::host::{Host, NetworkName};
use crate::network;

use super::Unit;
use super::sandbox::HARDENED;
use super::setting::{Exec, Privilege, Section, Setting};
use super::vm::{slice_name, text, words};

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
    Some(digest[..16].iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    }))
}

/// The unit that runs dnsmasq for a network; nothing where it hands out nothing.
///
/// It is a dynamic user with three capabilities: to answer on port 67, to answer guests that have no
/// address yet, and to send from the bridge. It sees nothing of the host's files but /usr.
pub fn dhcp_unit(host: &Host, network: &NetworkName, dnsmasq: &Utf8Path) -> Option<Unit> {
    let mut argv = vec![dnsmasq.to_string()];
    argv.extend(network::dnsmasq(host, network, &state(network))?);
    let mut settings: Vec<(Section, &'static str, Setting)> = Vec::new();
    let mut unit = |key, setting| settings.push((Section::Unit, key, setting));
    unit(
        "Description",
        text(format!("Addresses for network {network}")),
    );
    unit("After", words(["network.target"]));
    unit(
        "StartLimitIntervalSec",
        Setting::Span(Duration::from_secs(60)),
    );
    unit("StartLimitBurst", Setting::Count(10));
    let mut service = |key, setting| settings.push((Section::Service, key, setting));
    service("Type", text("exec"));
    service(
        "ExecStart",
        Setting::Exec(Exec {
            argv,
            privilege: Privilege::Sandboxed,
        }),
    );
    service("Restart", text("on-failure"));
    service("RestartSec", Setting::Span(Duration::from_secs(1)));
    service("Slice", text(slice_name()));
    service("StateDirectory", words([format!("nkudo-dhcp/{network}")]));
    service("StateDirectoryMode", Setting::Mode(0o700));
    for (name, value) in [
        ("NKUDO_NETWORK", network.to_string()),
        ("NKUDO_DIGEST", dhcp_digest(host, network)?),
    ] {
        service("LogExtraFields", Setting::JournalField { name, value });
    }
    service("DynamicUser", Setting::Flag(true));
    service("AmbientCapabilities", Setting::NetworkServerCapabilities);
    service("CapabilityBoundingSet", Setting::NetworkServerCapabilities);
    for key in HARDENED
        .into_iter()
        .chain(["PrivateDevices", "RestrictSUIDSGID"])
    {
        service(key, Setting::Flag(true));
    }
    // Not ProtectKernelTunables=: dnsmasq reads the bridge's MTU below /proc/sys, and may not write it
    // as what it is.
    service("ProtectSystem", text("strict"));
    service("ProtectHome", text("yes"));
    service("ProtectProc", text("invisible"));
    service("UMask", Setting::Mode(0o077));
    service("DevicePolicy", text("closed"));
    service("RestrictNamespaces", Setting::IpcNamespacesOnly);
    service(
        "RestrictAddressFamilies",
        Setting::Allow(vec![
            "AF_UNIX",
            "AF_INET",
            "AF_INET6",
            "AF_NETLINK",
            "AF_PACKET",
        ]),
    );
    service("SystemCallArchitectures", words(["native"]));
    service("SystemCallFilter", Setting::Allow(vec!["@system-service"]));
    service(
        "InaccessiblePaths",
        words(["-/etc/nkudo", "-/run/nkudo", "-/var/lib/nkudo"]),
    );
    Some(Unit {
        name: dhcp_unit_name(network),
        settings,
    })
}
