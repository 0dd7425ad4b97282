//! Disks that are there: they grow, stay when they leave the file, are removed and made anew.

use super::disks::{IMAGE, ROOT, host, with_disks};
use super::guest::Then;
use super::host::vm_alone;
use super::until::until;

cases![
    a_larger_size_grows_disks_and_a_smaller_one_is_refused,
    a_disk_that_a_process_holds_is_said_by_its_name,
    what_left_the_file_is_kept_and_used_again,
    purge_removes_what_nobody_declares_and_nothing_else,
    recreate_makes_disks_anew_and_keeps_the_old_ones,
    recreate_puts_the_old_disk_back_when_the_vm_does_not_start,
    a_disk_that_is_kept_as_it_was_made_is_nothing_to_wait_for,
];

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
    until("the disk is locked", || {
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

fn a_disk_that_is_kept_as_it_was_made_is_nothing_to_wait_for() {
    let host = host();
    let config = with_disks("/var/lib/nkudo", ROOT);
    host.switch_to(&config).done();
    let pid = host.main_pid("web");
    host.machine.ok(&[
        "qemu-img",
        "convert",
        "-O",
        "qcow2",
        IMAGE,
        "/srv/image.qcow2",
    ]);
    // A disk made of it now would be another file.
    host.switch_to(&config.replace(IMAGE, "/srv/image.qcow2"))
        .done()
        .says("disk root of web: keep it");
    assert_eq!(host.main_pid("web"), pid);
    let status = host.nkudo(&["status"]).done();
    assert!(!status.stdout.contains("pending"), "{status}");
    let doctor = host.nkudo(&["doctor", "web"]);
    assert!(doctor.stdout.contains("ok   vm web: running"), "{doctor}");
    assert!(!doctor.stdout.contains("is not there"), "{doctor}");
}
