//! A host with a Nix store: what VMs need of it survives its garbage collector.
//!
//! There is no Nix on the machine, and its collector's rule is short (gc.cc, `findRoots`): directories below
//! /nix/var/nix/gcroots are entered; a link there to the store is a root; so is one to a link to the store.

use std::collections::BTreeSet;

use super::guest::{Guest, Then};
use super::host::{Host, LAN, vm};
use super::machine::Networkd;

cases![
    the_garbage_collector_leaves_what_generations_and_vms_need,
    the_image_below_an_overlay_outlives_its_generations,
    without_nix_no_roots_are_made,
    an_empty_configuration_on_standard_input_leaves_nothing,
];

const FIRST: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-linux-1";
const SECOND: &str = "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-linux-2";

fn the_garbage_collector_leaves_what_generations_and_vms_need() {
    let host = Host::boot(Networkd::Off);
    host.machine.ok(&["mkdir", "-p", "/nix/var/nix/gcroots"]);
    for kernel in [FIRST, SECOND] {
        let elf = Guest {
            line: "hello from web",
            then: Then::PowerOffWhenAsked,
        }
        .elf();
        host.machine.write(&format!("{kernel}/bzImage"), elf, 0o644);
    }
    let with = |kernel: &str| {
        let vm = vm("web", "on-change = \"defer\"");
        [
            LAN,
            &vm.replace("/srv/guests/web", &format!("{kernel}/bzImage")),
        ]
        .concat()
    };
    assert_eq!(roots(&host), NONE);

    // A generation that is only rendered is one that can be switched to.
    host.configure(&with(FIRST));
    host.nkudo(&["render"]).done();
    assert_eq!(roots(&host), [FIRST]);
    host.nkudo(&["switch"]).done();

    // The VM runs on with the first, and its generation goes.
    host.switch_to(&with(SECOND)).done();
    assert_eq!(roots(&host), [FIRST, SECOND]);
    host.machine
        .ok(&["rm", "-r", "/var/lib/nkudo/generations/1"]);
    host.nkudo(&["render"]).done();
    assert_eq!(roots(&host), [FIRST, SECOND]);

    host.nkudo(&["restart", "web"]).done();
    assert_eq!(roots(&host), [SECOND]);

    // What `gc` removes holds nothing back any more, nor does a VM that is gone.
    host.switch_to(LAN).done();
    assert_eq!(roots(&host), [SECOND]);
    host.nkudo(&["gc", "--keep", "1"]).done();
    assert_eq!(roots(&host), NONE);
    let left = host.machine.ok(&[
        "find",
        "/nix/var/nix/gcroots",
        "/run/nkudo/gcroots",
        "/var/lib/nkudo/gcroots",
        "-type",
        "l",
    ]);
    assert_eq!(left, "");
}

fn the_image_below_an_overlay_outlives_its_generations() {
    const IMAGE: &str = "/nix/store/2123456789abcdfghijklmnpqrsvwxyz-image";
    let host = Host::boot(Networkd::Off);
    host.machine.ok(&["mkdir", "-p", "/nix/var/nix/gcroots"]);
    host.guest("web", Then::PowerOffWhenAsked);
    let path = format!("{IMAGE}/image.raw");
    host.machine.write(&path, vec![1_u8; 1 << 20], 0o444);
    let with = |form: &str| {
        let image = format!("[image.base]\nsource = \"{path}\"\n");
        let disk = format!("[[vm.web.disk]]\nimage = \"base\"\nname = \"{form}\"\n");
        let overlay = format!("overlay = {}\n", form == "overlay");
        [LAN, &image, &vm("web", ""), &disk, &overlay].concat()
    };
    host.switch_to(&with("overlay")).done();
    host.switch_to(LAN).done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    // The VM is not declared any more, and its disk is there.
    assert!(host.exists("/var/lib/nkudo/vms/web/overlay.qcow2"));
    assert_eq!(roots(&host), [IMAGE]);

    host.machine.ok(&["rm", "-r", "/var/lib/nkudo/vms/web"]);
    host.nkudo(&["render"]).done();
    assert_eq!(roots(&host), NONE);

    // A copy needs its image no longer than the generation does.
    host.switch_to(&with("copy")).done();
    assert_eq!(roots(&host), [IMAGE]);
    host.switch_to(LAN).done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    assert!(host.exists("/var/lib/nkudo/vms/web/copy.raw"));
    assert_eq!(roots(&host), NONE);
}

fn without_nix_no_roots_are_made() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    for path in ["/nix", "/var/lib/nkudo/gcroots", "/run/nkudo/gcroots"] {
        assert!(!host.exists(path), "{path}");
    }
}

/// What nkudo-leave.service of the NixOS module does: its configuration is gone, and the hypervisor on PATH.
fn an_empty_configuration_on_standard_input_leaves_nothing() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    host.machine.ok(&["rm", "/etc/nkudo/nkudo.toml"]);
    let script = "set -e
        state_dir=$(cat /run/nkudo/state-dir)
        nkudo --state-dir \"$state_dir\" render --message 'nkudo left the system' - </dev/null
        nkudo --state-dir \"$state_dir\" switch";
    host.machine.ok(&["sh", "-c", script]);
    host.has_nothing();
}

const NONE: [&str; 0] = [];

/// The store paths that Nix's collector would find to be roots.
fn roots(host: &Host) -> Vec<String> {
    let script = "find /nix/var/nix/gcroots -type l | while read -r root; do
        target=$(readlink \"$root\")
        case $target in /nix/store/*) ;; *) target=$(readlink \"$target\") || continue ;; esac
        [ -e \"$target\" ] && echo \"$target\"
    done; true";
    let found = host.machine.ok(&["sh", "-c", script]);
    let found: BTreeSet<&str> = found.lines().collect();
    found.into_iter().map(str::to_owned).collect()
}
