//! Disks that nkudo makes: copies of images, overlays, empty volumes, on real filesystems.

use std::time::Instant;

use super::guest::Then;
use super::host::{Host, vm_alone};
use super::machine::Networkd;

cases![
    a_vm_gets_a_copy_of_its_image_and_empty_disks,
    on_xfs_and_btrfs_a_copy_is_a_reflink_and_on_ext4_it_stays_sparse,
    every_filesystem_is_made_and_whole,
    an_overlay_holds_only_what_differs_and_boots,
    a_full_filesystem_leaves_no_partial_disk_and_the_vm_running,
    a_copy_killed_at_any_moment_is_finished_by_the_next_switch,
    an_image_that_refers_to_another_file_is_refused,
];

/// An image of 64 MiB with 5 MiB of data in it, which nothing compresses, and a hole around them.
pub(super) const IMAGE: &str = "/srv/image.raw";

pub(super) fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let script = format!(
        "truncate -s 64M {IMAGE} && dd if=/dev/urandom of={IMAGE} bs=1M seek=3 count=5 conv=notrunc status=none"
    );
    host.machine.ok(&["sh", "-c", &script]);
    host
}

/// A configuration with its state directory and a VM with these disks.
pub(super) fn with_disks(state_dir: &str, disks: &str) -> String {
    format!(
        "[host]\nstate-dir = \"{state_dir}\"\n[image.base]\nsource = \"{IMAGE}\"\n{}{disks}",
        vm_alone("web", "")
    )
}

pub(super) const ROOT: &str = "[[vm.web.disk]]\nname = \"root\"\nimage = \"base\"\n";

impl Host {
    /// Mounts a filesystem of its own at /srv/state.
    fn state_on(&self, filesystem: &str) {
        let script = format!(
            "set -e; truncate -s 1G /srv/state.img; mkfs.{filesystem} -q /srv/state.img; mkdir -p /srv/state"
        );
        self.machine.ok(&["sh", "-c", &script]);
        self.machine.mount_loop("/srv/state.img", "/srv/state");
    }

    pub(super) fn sum(&self, path: &str) -> String {
        let printed = self.machine.ok(&["sha256sum", path]);
        printed.split_whitespace().next().unwrap().to_owned()
    }

    /// The bytes that a file takes.
    fn allocated(&self, path: &str) -> u64 {
        let printed = self.machine.ok(&["stat", "-c", "%b", path]);
        printed.trim().parse::<u64>().unwrap() * 512
    }

    pub(super) fn size(&self, path: &str) -> u64 {
        self.machine
            .ok(&["stat", "-c", "%s", path])
            .trim()
            .parse()
            .unwrap()
    }

    /// What is in a directory, hidden files as well.
    pub(super) fn listed(&self, directory: &str) -> String {
        self.machine.ok(&["ls", "-A", directory])
    }
}

fn a_vm_gets_a_copy_of_its_image_and_empty_disks() {
    let host = host();
    let volumes = "[[vm.web.disk]]\nname = \"data\"\nsize = \"64M\"\nfilesystem = \"ext4\"\nlabel = \"data\"\n\
         [[vm.web.disk]]\nname = \"plain\"\nsize = \"1G\"\n\
         [[vm.web.disk]]\nname = \"same\"\nimage = \"base\"\nread-only = true\n";
    let config = with_disks("/var/lib/nkudo", &format!("{ROOT}{volumes}"));
    host.switch_to(&config)
        .done()
        .says("disk root of web: make a copy of image base")
        .says("made disk root of web");
    assert_eq!(host.property("web", "ActiveState"), "active");
    let disks = "/var/lib/nkudo/vms/web";
    assert_eq!(
        host.listed(disks),
        "data.json\ndata.raw\nplain.json\nplain.raw\nroot.json\nroot.raw\n"
    );
    assert_eq!(host.sum(&format!("{disks}/root.raw")), host.sum(IMAGE));
    assert!(host.allocated(&format!("{disks}/root.raw")) < 8 << 20);
    assert_eq!(host.size(&format!("{disks}/plain.raw")), 1 << 30);
    assert_eq!(host.allocated(&format!("{disks}/plain.raw")), 0);
    let blkid = host
        .machine
        .ok(&["blkid", "-p", &format!("{disks}/data.raw")]);
    assert!(
        blkid.contains("LABEL=\"data\"") && blkid.contains("TYPE=\"ext4\""),
        "{blkid}"
    );
    let modes = host
        .machine
        .ok(&["stat", "-c", "%U %a", disks, &format!("{disks}/root.json")]);
    assert_eq!(modes, "root 700\nroot 600\n");
    host.nkudo(&["switch"]).done().says("nothing to do");

    // A guest's writes are its own, and stay.
    let before = host.sum(IMAGE);
    host.machine
        .ok(&["sh", "-c", &format!("echo written >> {disks}/root.raw")]);
    let written = host.sum(&format!("{disks}/root.raw"));
    host.nkudo(&["restart", "web"]).done();
    assert_eq!(host.sum(&format!("{disks}/root.raw")), written);
    assert_eq!(host.sum(IMAGE), before);
}

fn on_xfs_and_btrfs_a_copy_is_a_reflink_and_on_ext4_it_stays_sparse() {
    for (filesystem, is_reflink) in [("xfs", true), ("btrfs", true), ("ext4", false)] {
        let host = host();
        host.state_on(filesystem);
        // The image as well: blocks are shared within a filesystem only.
        host.machine
            .ok(&["cp", "--sparse=always", IMAGE, "/srv/state/image.raw"]);
        let config = with_disks("/srv/state", ROOT).replace(IMAGE, "/srv/state/image.raw");
        let switched = host.switch_to(&config).done();
        let how = if is_reflink {
            "a reflink of"
        } else {
            "a copy of"
        };
        switched.says(how);
        let root = "/srv/state/vms/web/root.raw";
        assert_eq!(host.sum(root), host.sum(IMAGE), "{filesystem}");
        assert_eq!(host.size(root), 64 << 20, "{filesystem}");
        assert!(host.allocated(root) < 8 << 20, "{filesystem}");
        let extents = host.machine.ok(&["filefrag", "-v", root]);
        assert_eq!(
            extents.contains("shared"),
            is_reflink,
            "{filesystem}: {extents}"
        );
        assert_eq!(
            host.property("web", "ActiveState"),
            "active",
            "{filesystem}"
        );
    }
}

fn every_filesystem_is_made_and_whole() {
    let host = host();
    let volume = |name: &str, size: &str| {
        format!(
            "[[vm.web.disk]]\nname = \"{name}\"\nsize = \"{size}\"\nfilesystem = \"{name}\"\nlabel = \"L-{name}\"\n"
        )
    };
    let volumes = [
        ("ext4", "64M"),
        ("xfs", "300M"),
        ("btrfs", "128M"),
        ("vfat", "32M"),
    ];
    let disks: String = volumes
        .iter()
        .map(|(name, size)| volume(name, size))
        .collect();
    host.switch_to(&with_disks("/var/lib/nkudo", &disks)).done();
    // While nobody uses them.
    host.nkudo(&["stop", "web"]).done();
    for (name, check) in [
        ("ext4", ["e2fsck", "-f", "-n"].as_slice()),
        ("xfs", ["xfs_repair", "-n", "-f"].as_slice()),
        ("btrfs", ["btrfs", "check", "--readonly"].as_slice()),
        ("vfat", ["fsck.vfat", "-n"].as_slice()),
    ] {
        let path = format!("/var/lib/nkudo/vms/web/{name}.raw");
        let mut argv = check.to_vec();
        argv.push(&path);
        host.machine.ok(&argv);
        let blkid = host
            .machine
            .ok(&["blkid", "-p", "-o", "value", "-s", "LABEL", &path]);
        assert_eq!(blkid.trim(), format!("L-{name}"));
    }
}

fn an_overlay_holds_only_what_differs_and_boots() {
    let host = host();
    host.machine.ok(&[
        "qemu-img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        IMAGE,
        "/srv/image.qcow2",
    ]);
    for (image, format) in [(IMAGE, "raw"), ("/srv/image.qcow2", "qcow2")] {
        let name = format!("over-{format}");
        let disk = format!(
            "[[vm.web.disk]]\nname = \"{name}\"\nimage = \"base\"\noverlay = true\nsize = \"1G\"\n"
        );
        let config = with_disks("/var/lib/nkudo", &disk).replace(IMAGE, image);
        host.switch_to(&config).done();
        assert_eq!(host.property("web", "ActiveState"), "active");
        let path = format!("/var/lib/nkudo/vms/web/{name}.qcow2");
        assert!(host.allocated(&path) < 1 << 20);
        assert_eq!(host.status(&["web"])["disks"][0]["size"], 1 << 30);
        host.nkudo(&["switch"]).done().says("nothing to do");
        host.nkudo(&["stop", "web"]).done();
        host.machine.ok(&["qemu-img", "check", "-q", &path]);
        let info = host
            .machine
            .ok(&["qemu-img", "info", "--output=json", &path]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], 1 << 30);
        assert_eq!(info["full-backing-filename"], image);
        assert_eq!(info["backing-filename-format"], format);
        host.nkudo(&["start", "web"]).done();
    }
}

fn a_full_filesystem_leaves_no_partial_disk_and_the_vm_running() {
    let host = host();
    host.machine.ok(&["mkdir", "/srv/small"]);
    host.machine.ok(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=4M",
        "tmpfs",
        "/srv/small",
    ]);
    let config = |disks: &str| with_disks("/srv/small", disks);
    host.switch_to(&config("")).done();
    let pid = host.main_pid("web");
    let ran = host.switch_to(&config(ROOT));
    ran.ended(4)
        .says("VM web: cannot make its disk root")
        .says("No space left on device");
    assert_eq!(
        host.main_pid("web"),
        pid,
        "it was stopped though it cannot start again"
    );
    assert_eq!(host.listed("/srv/small/vms/web"), "");
    host.machine
        .ok(&["mount", "-o", "remount,size=64M", "/srv/small"]);
    host.nkudo(&["switch"]).done();
    assert_eq!(host.sum("/srv/small/vms/web/root.raw"), host.sum(IMAGE));
}

fn a_copy_killed_at_any_moment_is_finished_by_the_next_switch() {
    let host = host();
    // Long enough to be met in the middle.
    let script = format!("dd if=/dev/urandom of={IMAGE} bs=1M count=60 conv=notrunc status=none");
    host.machine.ok(&["sh", "-c", &script]);
    let sum = host.sum(IMAGE);
    let disks = format!(
        "{ROOT}[[vm.web.disk]]\nname = \"data\"\nsize = \"64M\"\nfilesystem = \"ext4\"\n\
         [[vm.web.disk]]\nname = \"over\"\nimage = \"base\"\noverlay = true\n"
    );
    host.configure(&with_disks("/var/lib/nkudo", &disks));
    host.nkudo(&["render"]).done();
    let remove = || {
        host.nkudo(&["stop", "web"]).done();
        host.machine
            .ok(&["rm", "-r", "/var/lib/nkudo/vms/web", "/run/nkudo/held/web"]);
    };
    // How long a whole one takes here, so that kills fall into it on any machine.
    let began = Instant::now();
    host.nkudo(&["switch"]).done();
    let whole = began.elapsed();
    remove();
    let mut interrupted = 0;
    let mut left = 0;
    for sixteenths in 1..=16 {
        let delay = (whole * sixteenths / 16).as_millis();
        let after = format!("{}.{:03}", delay / 1000, delay % 1000);
        let killed = host
            .machine
            .run(&["timeout", "-s", "KILL", &after, "nkudo", "switch"]);
        if killed.status.success() {
            remove();
            continue;
        }
        interrupted += 1;
        left += usize::from(
            host.machine
                .run(&["sh", "-c", "ls -A /var/lib/nkudo/vms/web | grep -q ^.nkudo"])
                .status
                .success(),
        );
        host.nkudo(&["switch"]).done();
        let told = format!("killed after {delay} ms");
        assert_eq!(host.sum("/var/lib/nkudo/vms/web/root.raw"), sum, "{told}");
        assert_eq!(
            host.listed("/var/lib/nkudo/vms/web"),
            "data.json\ndata.raw\nover.json\nover.qcow2\nroot.json\nroot.raw\n",
            "{told}"
        );
        host.nkudo(&["stop", "web"]).done();
        host.machine
            .ok(&["e2fsck", "-f", "-n", "/var/lib/nkudo/vms/web/data.raw"]);
        remove();
    }
    assert!(interrupted >= 5, "only {interrupted} switches were killed");
    assert!(left >= 1, "none was met in the middle of a copy");
}

fn an_image_that_refers_to_another_file_is_refused() {
    let host = host();
    host.machine.ok(&["sh", "-c", "echo secret > /srv/secret"]);
    host.machine.ok(&[
        "qemu-img",
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/srv/secret",
        "/srv/evil.qcow2",
        "1M",
    ]);
    for more in ["", "overlay = true\n"] {
        let config = with_disks("/var/lib/nkudo", &format!("{ROOT}{more}"));
        host.switch_to(&config.replace(IMAGE, "/srv/evil.qcow2"))
            .ended(4)
            .says("it refers to another file (a backing file)");
    }
    let config = with_disks("/var/lib/nkudo", ROOT).replace(
        &format!("source = \"{IMAGE}\""),
        "source = \"/srv/evil.qcow2\"\nformat = \"raw\"",
    );
    host.switch_to(&config).ended(4).says("it is a qcow2 file");
    assert_eq!(host.listed("/var/lib/nkudo/vms/web"), "");
}
