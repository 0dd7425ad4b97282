//! A NetworkManager on the machine's bus, as far as nkudo calls it: the test binary itself, under another name. And what
//! it is told.

#![expect(
    clippy::disallowed_types,
    reason = "what `zbus::interface` makes has a HashMap"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use zbus::fdo;

use super::host::{Host, LAN};
use super::machine::Networkd;

cases![network_manager_is_called_before_links_come_and_after_they_go];

/// The name under which the test binary is NetworkManager.
pub(crate) const NAME: &str = "network-manager";
/// A line for each call: the flags, whether nkudo's file was there, and whether the bridge was.
const CALLS: &str = "/run/network-manager-calls";
/// What it does, where that is not to obey: `refuse`, `hang`.
const TEMPER: &str = "/run/network-manager-temper";
const FILE: &str = "/run/NetworkManager/conf.d/nkudo.conf";

struct Manager;

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl Manager {
    async fn reload(&self, flags: u32) -> fdo::Result<()> {
        let is = |path: &str| {
            if Path::new(path).exists() {
                "there"
            } else {
                "absent"
            }
        };
        let call = format!(
            "{flags} file {} bridge {}\n",
            is(FILE),
            is("/sys/class/net/nk-lan")
        );
        let mut calls = fs::File::options().append(true).create(true).open(CALLS);
        let calls = calls.as_mut().map(|calls| calls.write_all(call.as_bytes()));
        calls.unwrap().unwrap();
        match fs::read_to_string(TEMPER).unwrap_or_default().as_str() {
            "refuse" => Err(fdo::Error::AccessDenied(
                "not while it is asleep".to_owned(),
            )),
            "hang" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Serves until it is killed.
pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let name = "org.freedesktop.NetworkManager";
        let _connection = zbus::connection::Builder::system()
            .serve_at("/org/freedesktop/NetworkManager", Manager)
            .name(name)
            .build()
            .await
            .unwrap();
        std::future::pending().await
    })
}

fn network_manager_is_called_before_links_come_and_after_they_go() {
    let host = Host::boot(Networkd::Off);
    let policy = "<busconfig><policy user=\"root\"><allow own=\"org.freedesktop.NetworkManager\"/>\
                  <allow send_destination=\"org.freedesktop.NetworkManager\"/></policy></busconfig>";
    host.machine
        .write("/etc/dbus-1/system.d/network-manager.conf", policy, 0o644);
    let bus = [
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
    ];
    host.machine
        .ok(&[&["busctl", "call"], bus.as_slice(), &["ReloadConfig"]].concat());
    host.machine.ok(&["mkdir", "/run/NetworkManager"]);
    let start = || {
        host.machine.ok(&[
            "systemd-run",
            "-q",
            "--unit=network-manager",
            "-p",
            "Type=dbus",
            "-p",
            "BusName=org.freedesktop.NetworkManager",
            NAME,
        ]);
    };
    let calls = || {
        let calls = host.machine.ok(&[
            "sh",
            "-c",
            &format!("cat {CALLS} 2>/dev/null; rm -f {CALLS}"),
        ]);
        calls.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    start();
    // Only its configuration: neither DNS nor the firewall.
    host.switch_to(LAN)
        .done()
        .does_not_say("NetworkManager does not");
    assert_eq!(calls(), ["1 file there bridge absent"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert!(calls().is_empty());
    host.switch_to("").done();
    assert_eq!(calls(), ["1 file absent bridge absent"]);
    // One that refuses is said, with its reason, and stops nothing.
    for (temper, why) in [
        ("refuse", "not while it is asleep"),
        ("hang", "it did not answer within 5 s"),
    ] {
        host.machine.write(TEMPER, temper, 0o644);
        host.switch_to(LAN)
            .done()
            .says("NetworkManager does not reload its configuration")
            .says("`systemctl reload NetworkManager`")
            .says(why);
        assert_eq!(calls(), ["1 file there bridge absent"], "{temper}");
        assert!(host.link("nk-lan").is_some());
        host.switch_to("").done().says(why);
        assert_eq!(calls().len(), 1);
    }
    // One that does not run is not started for it.
    host.machine.ok(&["systemctl", "stop", "network-manager"]);
    host.switch_to(LAN).done().does_not_say("does not reload");
    assert!(calls().is_empty());
}
