//! What stands in the way is said before the first effect, and then nothing has changed.

use super::guest::Then;
use super::host::{Host, LAN, Ran, same, vm, vm_alone};
use super::machine::Networkd;

cases![
    a_bad_configuration_changes_nothing,
    an_old_hypervisor_is_refused_before_any_effect,
    a_hypervisor_that_is_gone_is_refused_before_any_effect,
    without_nft_nothing_is_changed,
    a_foreign_link_of_the_bridges_name_is_named,
    a_foreign_bridge_of_the_bridges_name_is_named,
    a_foreign_tap_is_named,
    a_unit_file_of_the_vms_name_is_named,
    networkd_is_not_started_where_it_is_asked_for_and_off,
    without_root_nothing_happens,
];

/// Runs a command that is to change nothing.
#[track_caller]
fn unchanged(host: &Host, command: &[&str]) -> Ran {
    let before = host.snapshot();
    let ran = host.nkudo(command);
    let after = host.snapshot();
    same(&before, &after, &ran);
    ran
}

/// A host with a VM that runs, in a generation that has been switched to.
fn with_one_vm(networkd: Networkd) -> Host {
    let host = Host::boot(networkd);
    host.guest("old", Then::PowerOffWhenAsked);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&vm_alone("old", "")).done();
    host
}

/// That VM, and one with a network.
fn with_web() -> String {
    [LAN, &vm_alone("old", ""), &vm("web", "")].concat()
}

fn a_bad_configuration_changes_nothing() {
    let host = with_one_vm(Networkd::On);
    host.configure(&[LAN, &vm("web", "vcpus = 0\nmemroy = \"64M\"")].concat());
    for command in ["check", "render", "diff"] {
        unchanged(&host, &[command])
            .ended(3)
            .says("memroy")
            .says("memory")
            .says("vcpus")
            .says("/etc/nkudo/nkudo.toml");
    }
    unchanged(&host, &["switch"]).ended(1).says("nkudo render");
    unchanged(&host, &["switch", "nonsense"]).ended(2);
    unchanged(&host, &["nonsense"]).ended(2);
}

const OLD: &str = "#!/bin/sh\necho cloud-hypervisor v45.0\n";

fn an_old_hypervisor_is_refused_before_any_effect() {
    let host = with_one_vm(Networkd::On);
    host.configure(&with_web());
    host.nkudo(&["render"]).done();
    let real = "/usr/local/bin/cloud-hypervisor";
    host.machine.ok(&["mv", real, "/root/kept"]);
    host.machine.write(real, OLD, 0o755);
    for command in ["check", "render", "diff", "switch"] {
        unchanged(&host, &[command])
            .ended(1)
            .says("cloud-hypervisor is version 45.0, and nkudo needs 46.0 or newer");
    }
    // What runs is left alone, and can be stopped.
    host.nkudo(&["stop", "old"]).done();
    host.is_gone("old");
}

fn a_hypervisor_that_is_gone_is_refused_before_any_effect() {
    let host = with_one_vm(Networkd::On);
    host.configure(&with_web());
    host.nkudo(&["render"]).done();
    host.machine.ok(&["rm", "/usr/local/bin/cloud-hypervisor"]);
    for command in ["render", "switch"] {
        unchanged(&host, &[command])
            .ended(1)
            .says("cloud-hypervisor");
    }
}

#[track_caller]
fn without_nft_nothing_is_changed() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    let nft = host.machine.ok(&["sh", "-c", "command -v nft"]);
    host.machine.ok(&["mv", nft.trim(), "/root/nft"]);
    unchanged(&host, &["switch"])
        .says("cannot be loaded")
        .says("install nftables");
    host.machine.ok(&["mv", "/root/nft", nft.trim()]);
    host.nkudo(&["switch"]).done();
}

fn refuses(host: &Host, name: &str) {
    host.configure(&with_web());
    host.nkudo(&["render"]).done();
    for command in ["diff", "switch"] {
        unchanged(host, &[command])
            .ended(1)
            .says(name)
            .says("nothing was changed");
    }
}

fn a_foreign_link_of_the_bridges_name_is_named() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = with_one_vm(networkd);
        host.machine
            .ok(&["ip", "tuntap", "add", "nk-lan", "mode", "tap"]);
        refuses(&host, "the link nk-lan is there already and is not nkudo's");
    }
}

fn a_foreign_bridge_of_the_bridges_name_is_named() {
    let host = with_one_vm(Networkd::Off);
    host.machine
        .ok(&["ip", "link", "add", "nk-lan", "type", "bridge"]);
    // Everything that stands in the way is said at once.
    host.machine
        .ok(&["ip", "tuntap", "add", "nkt-web-0", "mode", "tap"]);
    refuses(&host, "the link nk-lan is there already and is not nkudo's");
    refuses(
        &host,
        "the link nkt-web-0 is there already and is not nkudo's",
    );
    host.machine.ok(&["ip", "link", "delete", "nkt-web-0"]);
    host.machine.ok(&["ip", "link", "delete", "nk-lan"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
}

fn a_foreign_tap_is_named() {
    let host = with_one_vm(Networkd::On);
    host.machine
        .ok(&["ip", "tuntap", "add", "nkt-web-0", "mode", "tap"]);
    refuses(
        &host,
        "the link nkt-web-0 is there already and is not nkudo's",
    );
    host.machine.ok(&["ip", "link", "delete", "nkt-web-0"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
}

fn a_unit_file_of_the_vms_name_is_named() {
    let host = with_one_vm(Networkd::On);
    for name in ["nkudo-vm@.service", "nkudo-vm@web.service"] {
        let file = format!("/etc/systemd/system/{name}");
        host.machine
            .write(&file, "[Service]\nExecStart=/bin/true\n", 0o644);
        host.machine.ok(&["systemctl", "daemon-reload"]);
        refuses(&host, name);
        host.machine.ok(&["rm", &file]);
        host.machine.ok(&["systemctl", "daemon-reload"]);
    }
    host.machine
        .ok(&["systemctl", "mask", "nkudo-vm@web.service"]);
    refuses(&host, "systemctl unmask");
    host.machine
        .ok(&["systemctl", "unmask", "nkudo-vm@web.service"]);
    host.nkudo(&["switch"]).done();
    host.tap_is_in("web", "nk-lan");
}

fn networkd_is_not_started_where_it_is_asked_for_and_off() {
    let host = with_one_vm(Networkd::Off);
    host.configure(&format!(
        "[host]\nnetwork-backend = \"networkd\"\n{}",
        with_web()
    ));
    host.nkudo(&["render"]).done();
    unchanged(&host, &["switch"])
        .ended(1)
        .says("systemd-networkd does not run");
}

fn without_root_nothing_happens() {
    let host = with_one_vm(Networkd::On);
    let before = host.snapshot();
    for command in [
        "switch", "stop", "render", "status", "doctor", "diff", "pause",
    ] {
        let mut argv = vec![
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "nkudo",
            command,
        ];
        if ["stop", "pause"].contains(&command) {
            argv.push("old");
        }
        Ran::of(&host.machine.run(&argv))
            .ended(1)
            .says("error: ")
            .says("sudo nkudo");
    }
    same(&before, &host.snapshot(), &"without root");
}
