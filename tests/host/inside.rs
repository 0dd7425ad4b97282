//! VMs that boot the kernel in their image's own filesystem.

use super::guest::Then;
use super::host::{Host, Ran, vm_alone};
use super::machine::Networkd;

cases![
    a_vm_boots_the_kernel_inside_its_image_and_keeps_it,
    an_overlay_over_a_qcow2_boots_the_kernel_inside_it,
    an_image_whose_kernel_cannot_be_had_fails_its_vm_alone,
    a_kernel_that_was_taken_out_goes_with_its_image,
    a_kernel_whose_taking_was_killed_is_taken_by_the_next,
];

const IMAGES: &str = "/var/lib/nkudo/images";

fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("second", Then::PowerOffWhenAsked);
    host.image("6.12.1-amd64");
    host
}

impl Host {
    /// Makes /srv/image.raw: an ext4 with the guest of `web` as its kernel.
    fn image(&self, version: &str) {
        let script = format!(
            "set -e; rm -rf /srv/tree; mkdir -p /srv/tree/boot /srv/tree/etc /srv/tree/usr; cd /srv/tree/boot; \
             cp /srv/guests/web vmlinuz-{version}; printf '#%s' {version} >> vmlinuz-{version}; \
             echo initrd of {version} > initrd.img-{version}; \
             ln -s vmlinuz-{version} vmlinuz; ln -s initrd.img-{version} initrd.img; \
             rm -f /srv/image.raw; truncate -s 16M /srv/image.raw; \
             mkfs.ext4 -q -F -U 6b1f7a3e-8a2c-4a6d-9d53-3f1a2b4c5d6e -d /srv/tree /srv/image.raw"
        );
        self.machine.ok(&["sh", "-c", &script]);
    }

    fn sum_of(&self, file: &str) -> String {
        let printed = self.machine.ok(&["sha256sum", file]);
        printed.split_whitespace().next().unwrap().to_owned()
    }

    /// A VM whose first disk is of the image, with its own words on the command line.
    fn inside(&self, file: &str, disk: &str) -> String {
        let sum = self.sum_of(file);
        let vm =
            vm_alone("web", "cmdline = \"mine\"").replace("kernel = \"/srv/guests/web\"\n", "");
        format!(
            "[image.base]\nsource = \"{file}\"\nsha256 = \"{sum}\"\nkernel = \"inside\"\n{vm}\
             [[vm.web.disk]]\nname = \"root\"\nimage = \"base\"\n{disk}"
        )
    }

    /// Checks what the VM was started with.
    #[track_caller]
    fn boots(&self, version: &str) -> String {
        let argv = self.property("web", "ExecStart");
        let kernel = self.sum_of(&format!("/srv/tree/boot/vmlinuz-{version}"));
        let initrd = self.sum_of(&format!("/srv/tree/boot/initrd.img-{version}"));
        for part in [
            format!("--kernel {IMAGES}/{kernel}.boot"),
            format!("--initramfs {IMAGES}/{initrd}.boot"),
            "root=UUID=6b1f7a3e-8a2c-4a6d-9d53-3f1a2b4c5d6e ro console=ttyS0 mine".to_owned(),
        ] {
            assert!(argv.contains(&part), "{part}\n{argv}");
        }
        kernel
    }

    /// What is hidden in the image store: nothing, between two switches.
    fn left_behind(&self) -> String {
        self.machine.ok(&["find", IMAGES, "-name", ".*"])
    }
}

fn a_vm_boots_the_kernel_inside_its_image_and_keeps_it() {
    let host = host();
    let config = host.inside("/srv/image.raw", "");
    host.configure(&config);
    host.nkudo(&["check"]).done();
    host.nkudo(&["render"]).done();
    let planned = host.nkudo(&["switch", "--dry-run"]).done();
    assert!(
        planned
            .stdout
            .contains("image base: take its kernel out, for web")
    );
    host.nkudo(&["switch"])
        .done()
        .says("image base: take its kernel out, for web")
        .says("took kernel 6.12.1-amd64 out of image base");
    host.printed("web", 1);
    let first = host.boots("6.12.1-amd64");
    assert_eq!(host.left_behind(), "");
    host.nkudo(&["switch"]).done().says("nothing to do");
    let shown = host.nkudo(&["status"]).done();
    assert!(!shown.stdout.contains("pending"), "{shown}");
    let listed = host.nkudo(&["image", "list"]).done();
    assert!(listed.stdout.contains("6.12.1-amd64"), "{listed}");

    // A newer image has a newer kernel; the disk that is there keeps its own.
    host.image("6.12.10-amd64");
    let pid = host.main_pid("web");
    host.switch_to(&host.inside("/srv/image.raw", ""))
        .done()
        .says("disk root of web: keep it");
    assert_eq!(host.main_pid("web"), pid);
    let shown = host.nkudo(&["status"]).done();
    assert!(!shown.stdout.contains("pending"), "{shown}");
    host.nkudo(&["image", "pull"])
        .done()
        .does_not_say("took kernel");
    // Also when the newer kernel is there.
    host.nkudo(&["image", "pull", "--all"])
        .done()
        .says("took kernel 6.12.10-amd64 out of image base");
    host.nkudo(&["restart", "web"]).done();
    assert!(host.property("web", "ExecStart").contains(&first));
    host.nkudo(&["recreate", "web", "--yes"]).done();
    host.printed("web", 3);
    host.boots("6.12.10-amd64");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn an_overlay_over_a_qcow2_boots_the_kernel_inside_it() {
    let host = host();
    host.machine.ok(&[
        "qemu-img",
        "convert",
        "-O",
        "qcow2",
        "/srv/image.raw",
        "/srv/image.qcow2",
    ]);
    // Not readable for everybody, as images by path need not be; the VM gets it by `grant`.
    host.machine.ok(&["chmod", "600", "/srv/image.qcow2"]);
    host.switch_to(&host.inside("/srv/image.qcow2", "overlay = true\n"))
        .done();
    host.printed("web", 1);
    host.boots("6.12.1-amd64");
    assert_eq!(host.left_behind(), "");
}

fn an_image_whose_kernel_cannot_be_had_fails_its_vm_alone() {
    let host = host();
    let second = vm_alone("second", "");
    let text = "set -e; cd /srv/tree/boot; rm *; echo text > vmlinuz-1; rm /srv/image.raw; \
         truncate -s 16M /srv/image.raw; mkfs.ext4 -q -F -d /srv/tree /srv/image.raw";
    for (script, told) in [
        (
            "head -c 4M /dev/urandom > /srv/image.raw",
            "there is no kernel that nkudo finds",
        ),
        (text, "it is no kernel"),
        (
            "truncate -s 16M /srv/image.raw; mkfs.xfs -q -f /srv/image.raw || { truncate -s 512M \
             /srv/image.raw; mkfs.xfs -q -f /srv/image.raw; }",
            "xfs, which nkudo does not read",
        ),
    ] {
        host.machine.ok(&["sh", "-c", script]);
        host.switch_to(&(host.inside("/srv/image.raw", "") + &second))
            .ended(4)
            .says("VM web: cannot boot the kernel in image base")
            .says(told);
        assert_eq!(host.property("second", "ActiveState"), "active");
        host.is_gone("web");
        assert_eq!(host.left_behind(), "");
    }
    // systemd-run's, in which images are read.
    assert_eq!(
        host.units("run-*.service"),
        "",
        "what reads images was left behind"
    );
}

fn a_kernel_that_was_taken_out_goes_with_its_image() {
    let host = host();
    host.switch_to(&host.inside("/srv/image.raw", "")).done();
    let kept = host.machine.ok(&["ls", "-A", IMAGES]);
    assert_eq!(kept.lines().count(), 3, "{kept}");
    host.nkudo(&["image", "gc"]).done();
    assert_eq!(host.machine.ok(&["ls", "-A", IMAGES]), kept);
    host.switch_to("").done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    // The disk that nobody declares any more needs its kernel when it is declared again, and not the record.
    host.nkudo(&["image", "gc"]).done();
    let kept = host.machine.ok(&["ls", "-A", IMAGES]);
    let kernels = kept.matches(".boot\n").count();
    assert_eq!((kernels, kept.lines().count()), (2, 2), "{kept}");
    // Also when its image is another one by then.
    let first = host.sum_of("/srv/tree/boot/vmlinuz-6.12.1-amd64");
    host.image("6.13");
    host.switch_to(&host.inside("/srv/image.raw", "")).done();
    assert!(host.property("web", "ExecStart").contains(&first));
    host.switch_to("").done();
    host.nkudo(&["purge", "web", "--yes"]).done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    host.nkudo(&["image", "gc"]).done();
    assert_eq!(host.machine.ok(&["ls", "-A", IMAGES]), "");
}

fn a_kernel_whose_taking_was_killed_is_taken_by_the_next() {
    let host = host();
    host.configure(&host.inside("/srv/image.raw", ""));
    host.nkudo(&["image", "pull"]).done();
    let whole = host.machine.ok(&["ls", "-A", IMAGES]);
    assert_eq!(whole.lines().count(), 3, "{whole}");
    let mut kills = 0;
    for effect in 1.. {
        host.machine.ok(&["rm", "-r", IMAGES]);
        let kill = format!("NKUDO_KILL_AFTER={effect}");
        let killed = host.machine.run(&["env", &kill, "nkudo", "image", "pull"]);
        let killed = Ran::of(&killed);
        if killed.code == Some(0) {
            break;
        }
        kills += 1;
        host.nkudo(&["image", "pull"]).done();
        // An empty lock file may be left, which the next that needs it takes, or `image gc`.
        let now = host.machine.ok(&["ls", "-A", "--ignore=.*.lock", IMAGES]);
        assert_eq!(now, whole, "killed after effect {effect}\n{killed}");
    }
    assert!(kills >= 3, "{kills} were killed");
}
