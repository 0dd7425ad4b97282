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
    a_larger_size_grows_disks_and_a_smaller_one_is_refused,
    a_disk_that_a_process_holds_is_said_by_its_name,
    what_left_the_file_is_kept_and_used_again,
    a_full_filesystem_leaves_no_partial_disk_and_the_vm_running,
    a_copy_killed_at_any_moment_is_finished_by_the_next_switch,
    an_image_that_refers_to_another_file_is_refused,
    purge_removes_what_nobody_declares_and_nothing_else,
    recreate_makes_disks_anew_and_keeps_the_old_ones,
    recreate_puts_the_old_disk_back_when_the_vm_does_not_start,
];

/// An image of 64 MiB with 5 MiB of data in it, which nothing compresses, and a hole around them.
const IMAGE: &str = "/srv/image.raw";

fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let script = format!(
        "truncate -s 64M {IMAGE} && dd if=/dev/urandom of={IMAGE} bs=1M seek=3 count=5 conv=notrunc status=none"
    );
    host.machine.ok(&["sh", "-c", &script]);
    host
}

/// A configuration with its state directory and a VM with these disks.
fn with_disks(state_dir: &str, disks: &str) -> String {
    format!(
        "[host]\nstate-dir = \"{state_dir}\"\n[image.base]\nsource = \"{IMAGE}\"\n{}{disks}",
        vm_alone("web", "")
    )
}

const ROOT: &str = "[[vm.web.disk]]\nname = \"root\"\nimage = \"base\"\n";

impl Host {
    /// Mounts a filesystem of its own at /srv/state.
    fn state_on(&self, filesystem: &str) {
        let script = format!(
            "set -e; truncate -s 1G /srv/state.img; mkfs.{filesystem} -q /srv/state.img; mkdir -p /srv/state"
        );
        self.machine.ok(&["sh", "-c", &script]);
        self.machine.mount_loop("/srv/state.img", "/srv/state");
    }

    fn sum(&self, path: &str) -> String {
        let printed = self.machine.ok(&["sha256sum", path]);
        printed.split_whitespace().next().unwrap().to_owned()
    }

    /// The bytes that a file takes.
    fn allocated(&self, path: &str) -> u64 {
        let printed = self.machine.ok(&["stat", "-c", "%b", path]);
        printed.trim().parse::<u64>().unwrap() * 512
    }

    fn size(&self, path: &str) -> u64 {
        self.machine
            .ok(&["stat", "-c", "%s", path])
            .trim()
            .parse()
            .unwrap()
    }

    /// What is in a directory, hidden files as well.
    fn listed(&self, directory: &str) -> String {
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

fn a_larger_size_grows_disks_and_a_smaller_one_is_refused() {
    let host = host();
    let config = |size: &str| {
        let disk = |name: &str, more: &str| {
            format!("[[vm.web.disk]]\nname = \"{name}\"\nsize = \"{size}\"\n{more}\n")
        };
        let disks = [
            disk("data", ""),
            disk("over", "image = \"base\"\noverlay = true"),
        ]
        .concat();
        with_disks("/var/lib/nkudo", &disks)
    };
    host.switch_to(&config("128M")).done();
    let pid = host.main_pid("web");
    let data = "/var/lib/nkudo/vms/web/data.raw";
    let over = "/var/lib/nkudo/vms/web/over.qcow2";
    host.switch_to(&config("256M"))
        .done()
        .says("disk data of web: grow from 128M to 256M while it runs")
        .says("disk over of web: grow from 128M to 256M when it is restarted");
    assert_eq!(host.main_pid("web"), pid, "it was restarted");
    assert_eq!(host.size(data), 256 << 20);
    let virtual_size = || {
        let info = host
            .machine
            .ok(&["qemu-img", "info", "-U", "--output=json", over]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info["virtual-size"].as_u64().unwrap()
    };
    assert_eq!(virtual_size(), 128 << 20);
    host.nkudo(&["switch"])
        .done()
        .says("when it is restarted")
        .says("nothing to do")
        .does_not_say("it changed");
    host.nkudo(&["restart", "web"]).done();
    assert_eq!(virtual_size(), 256 << 20);
    host.nkudo(&["switch"]).done().says("nothing to do");
    let pid = host.main_pid("web");
    host.switch_to(&config("64M"))
        .ended(1)
        .says("disk data of VM web is 256M large, and its `size` is 64M")
        .says("nothing was changed");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.size(data), 256 << 20);
}

fn a_disk_that_a_process_holds_is_said_by_its_name() {
    let host = host();
    host.machine.ok(&["truncate", "-s", "8M", "/srv/held.raw"]);
    // As QEMU and cloud-hypervisor lock a disk: F_OFD_SETLK of a write lock.
    let lock = "import fcntl, struct, time\n\
         f = open('/srv/held.raw', 'r+b')\n\
         fcntl.fcntl(f, 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0))\n\
         open('/srv/locked', 'w').close()\n\
         time.sleep(600)\n";
    let mut holder = host.machine.spawn(&["python3", "-c", lock]);
    super::until::until("the disk is locked", || {
        if host.exists("/srv/locked") {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    let config = with_disks(
        "/var/lib/nkudo",
        "[[vm.web.disk]]\npath = \"/srv/held.raw\"\n",
    );
    host.switch_to(&config)
        .ended(1)
        .says("VM web cannot start: its disk /srv/held.raw is in use by process")
        .says("(python3)")
        .says("nothing was changed");
    let held = host.machine.ok(&["pgrep", "-x", "python3"]);
    host.machine.ok(&["kill", held.trim()]);
    holder.wait().unwrap();
    host.nkudo(&["switch"]).done();
    // Its own VMM has it now, which is no obstacle to starting it anew.
    host.nkudo(&["restart", "web"]).done();
    // A second VM of the same disk, under another name of the file.
    host.guest("other", Then::PowerOffWhenAsked);
    host.machine
        .ok(&["ln", "-s", "/srv/held.raw", "/srv/link.raw"]);
    let other = format!(
        "{}[[vm.other.disk]]\npath = \"/srv/link.raw\"\n",
        vm_alone("other", "")
    );
    host.switch_to(&format!("{config}{other}"))
        .ended(1)
        .says("VM other cannot start: its disk /srv/link.raw is in use by VM web");
}

fn what_left_the_file_is_kept_and_used_again() {
    let host = host();
    let data = "[[vm.web.disk]]\nname = \"data\"\nsize = \"64M\"\n";
    let both = with_disks("/var/lib/nkudo", &format!("{ROOT}{data}"));
    host.switch_to(&both).done();
    let path = "/var/lib/nkudo/vms/web/data.raw";
    host.machine.ok(&[
        "sh",
        "-c",
        &format!("printf kept | dd of={path} conv=notrunc status=none"),
    ]);
    let sum = host.sum(path);
    // With a change that restarts it: the guest would take the unplugging for the power button.
    let without = with_disks("/var/lib/nkudo", ROOT).replace("64M", "96M");
    host.switch_to(&without)
        .done()
        .says("disk data of web: keep it, though nobody declares it any more");
    assert_eq!(host.sum(path), sum);
    host.switch_to("").done().says("disk root of web: keep it");
    host.is_gone("web");
    assert_eq!(host.sum(path), sum);
    host.switch_to(&both).done().does_not_say("made disk");
    assert_eq!(host.sum(path), sum);
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

fn purge_removes_what_nobody_declares_and_nothing_else() {
    let host = host();
    let data = "[[vm.web.disk]]\nname = \"data\"\nsize = \"64M\"\n";
    let both = with_disks("/var/lib/nkudo", &format!("{ROOT}{data}"));
    host.switch_to(&both).done();
    let refused = |argv: &[&str], told: &str| {
        host.nkudo(argv).ended(1).says(told);
        assert!(host.exists("/var/lib/nkudo/vms/web/data.raw"));
        assert!(host.exists("/var/lib/nkudo/vms/web/root.raw"));
    };
    refused(
        &["purge", "web", "--yes"],
        "VM web is declared in the current generation",
    );
    refused(
        &["purge", "web", "--disk", "data", "--yes"],
        "disk data of web is declared",
    );
    refused(
        &["purge", "web", "--disk", "nothing", "--yes"],
        "VM web has no disk nothing; there are data, root",
    );
    refused(&["purge", "other", "--yes"], "VM other has no disks");

    let without = with_disks("/var/lib/nkudo", ROOT).replace("64M", "96M");
    host.switch_to(&without).done();
    let listed = host.nkudo(&["disk", "list"]).done().stdout;
    let line = |disk: &str| {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let line = listed.lines().map(words).find(|line| line[1] == disk);
        line.unwrap_or_else(|| panic!("no {disk} in {listed}"))
    };
    assert_eq!(line("data").last().unwrap(), "unused");
    assert_eq!(line("root").last().unwrap(), "declared");
    // Nobody can be asked here.
    refused(
        &["purge", "web", "--disk", "data"],
        "there is no terminal to ask on",
    );
    host.nkudo(&["purge", "web", "--disk", "data", "--yes"])
        .done()
        .says("removed disk data of web");
    assert_eq!(
        host.listed("/var/lib/nkudo/vms/web"),
        "root.json\nroot.raw\n"
    );
    host.switch_to("").done();
    host.nkudo(&["purge", "web", "--yes"]).done();
    assert_eq!(host.listed("/var/lib/nkudo/vms"), "");
}

fn recreate_makes_disks_anew_and_keeps_the_old_ones() {
    let host = host();
    let data = "[[vm.web.disk]]\nname = \"data\"\nsize = \"64M\"\n";
    let config = with_disks("/var/lib/nkudo", &format!("{ROOT}{data}"));
    host.switch_to(&config).done();
    host.nkudo(&["recreate", "web", "--yes"])
        .ended(1)
        .says("every disk of web is as it is declared");
    let root = "/var/lib/nkudo/vms/web/root.raw";
    let data_sum = host.sum("/var/lib/nkudo/vms/web/data.raw");
    host.machine.ok(&[
        "sh",
        "-c",
        &format!("printf old | dd of={root} conv=notrunc status=none"),
    ]);
    let old = host.sum(root);
    host.machine.ok(&[
        "sh",
        "-c",
        &format!("printf new | cat - {IMAGE} > /srv/new.raw"),
    ]);
    let pid = host.main_pid("web");
    host.switch_to(&config.replace(IMAGE, "/srv/new.raw"))
        .done()
        .says("disk root of web: keep it: it was made as a copy of image base (/srv/image.raw)");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.sum(root), old);
    host.nkudo(&["recreate", "web"])
        .ended(1)
        .says("there is no terminal to ask on");
    assert_eq!(host.main_pid("web"), pid);
    host.nkudo(&["recreate", "web", "--yes"])
        .done()
        .says("the old disk is /var/lib/nkudo/vms/web/root.old-1.raw");
    assert_eq!(host.property("web", "ActiveState"), "active");
    assert_ne!(host.main_pid("web"), pid);
    assert_ne!(host.sum(root), old);
    assert_eq!(host.machine.ok(&["head", "-c", "3", root]), "new");
    assert_eq!(host.sum("/var/lib/nkudo/vms/web/root.old-1.raw"), old);
    assert_eq!(host.sum("/var/lib/nkudo/vms/web/data.raw"), data_sum);
    host.nkudo(&["switch"])
        .done()
        .says("nothing to do")
        .does_not_say("keep it");
    // Another one by its name, though it is as declared.
    host.nkudo(&["recreate", "web", "--disk", "data", "--yes"])
        .done();
    let listed = host.listed("/var/lib/nkudo/vms/web");
    assert!(listed.contains("data.old-1.raw"), "{listed}");
    host.nkudo(&[
        "purge",
        "web",
        "--disk",
        "root.old-1",
        "--disk",
        "data.old-1",
        "--yes",
    ])
    .done();
    assert_eq!(
        host.listed("/var/lib/nkudo/vms/web"),
        "data.json\ndata.raw\nroot.json\nroot.raw\n"
    );
}

fn recreate_puts_the_old_disk_back_when_the_vm_does_not_start() {
    let host = host();
    let config = with_disks("/var/lib/nkudo", ROOT);
    host.switch_to(&config).done();
    let root = "/var/lib/nkudo/vms/web/root.raw";
    host.machine.ok(&[
        "sh",
        "-c",
        &format!("printf old | dd of={root} conv=notrunc status=none"),
    ]);
    let old = host.sum(root);
    // An image that cannot be used is found before anything stops.
    let pid = host.main_pid("web");
    host.machine
        .ok(&["sh", "-c", "qemu-img create -q -f qcow2 /srv/new.raw 8M"]);
    host.switch_to(&config.replace(IMAGE, "/srv/new.raw"))
        .done();
    host.nkudo(&["recreate", "web", "--yes"])
        .ended(1)
        .says("it is a qcow2 file");
    assert_eq!((host.main_pid("web"), host.sum(root)), (pid, old.clone()));
    // One with which the VM does not start: here the kernel goes away.
    host.machine.ok(&["truncate", "-s", "8M", "/srv/other.raw"]);
    host.switch_to(&config.replace(IMAGE, "/srv/other.raw"))
        .done();
    host.machine
        .ok(&["mv", "/srv/guests/web", "/srv/guests/gone"]);
    host.nkudo(&["recreate", "web", "--yes"])
        .ended(4)
        .says("the old ones are put back");
    assert_eq!(host.sum(root), old);
    assert_eq!(
        host.listed("/var/lib/nkudo/vms/web"),
        "root.json\nroot.raw\n"
    );
    host.machine
        .ok(&["mv", "/srv/guests/gone", "/srv/guests/web"]);
    host.nkudo(&["start", "web"]).done();
    assert_eq!(host.sum(root), old);
}
