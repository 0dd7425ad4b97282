//! PCI devices of the host that VMs get.
//!
//! There is no IOMMU on most machines that run tests, so the part of sysfs that is about it is the cases' own, and a
//! shell script does what the kernel does: it binds and unbinds when it is told to. The VMM is always the stand-in,
//! which opens the files that the real one opens.

use std::process::Command;

use super::guest::Then;
use super::host::{Host, Ran, vm_alone};
use super::machine::Networkd;

cases![
    a_pci_device_is_the_vms_while_it_runs_and_the_hosts_before_and_after,
    what_keeps_a_pci_device_from_a_vm_is_said_and_nothing_is_touched,
    a_switch_killed_while_devices_change_hands_is_finished_by_the_next,
];

const DEVICE: &str = "0000:01:00.0";
const HYPERVISOR: &str = "[host]\nhypervisor = \"/usr/local/lib/stand-in/cloud-hypervisor\"\n";

/// Devices `0000:01:00.0` of group 12, which the driver nvme has, and `0000:02:00.0` of group 13, which igb has.
const SYSFS: &str = r"
set -e
mkdir -p /srv/pci/devices /srv/groups
for driver in nvme igb vfio-pci; do
    mkdir -p /srv/pci/drivers/$driver
    mkfifo /srv/pci/drivers/$driver/bind /srv/pci/drivers/$driver/unbind
done
device() {
    mkdir -p /srv/pci/devices/$1 /srv/groups/$2/devices/$1
    ln -s ../../drivers/$3 /srv/pci/devices/$1/driver
    ln -s ../../../../kernel/iommu_groups/$2 /srv/pci/devices/$1/iommu_group
    echo '(null)' >/srv/pci/devices/$1/driver_override
}
device 0000:01:00.0 12 nvme
device 0000:02:00.0 13 igb
: >/srv/told
mount --bind /srv/pci /sys/bus/pci
mount --bind /srv/groups /sys/kernel/iommu_groups
";

/// Each file has a reader of its own, which does one thing after the other.
const KERNEL: &str = r#"#!/bin/bash
bind() {
    override=$(cat /srv/pci/devices/$2/driver_override)
    [ -e /srv/pci/devices/$2/driver ] && return
    [ $1 = vfio-pci ] && [ "$override" != vfio-pci ] && return
    [ $1 != vfio-pci ] && [ "$override" = vfio-pci ] && return
    ln -s ../../drivers/$1 /srv/pci/devices/$2/driver
    if [ $1 = vfio-pci ]; then mv /dev/vfio/.12 /dev/vfio/12; fi
}
unbind() {
    [ "$(basename "$(readlink /srv/pci/devices/$2/driver)")" = $1 ] || return
    if [ $1 = vfio-pci ]; then mv /dev/vfio/12 /dev/vfio/.12; fi
    rm /srv/pci/devices/$2/driver
}
serve() {
    while :; do
        told=$(cat /srv/pci/drivers/$1/$2)
        case $told in
            sync) echo "$1 $2 sync" >>/srv/synced ;;
            *) echo "$1 $2 $told" >>/srv/told; $2 $1 $told ;;
        esac
    done
}
for driver in nvme igb vfio-pci; do
    serve $driver bind &
    serve $driver unbind &
done
wait
"#;

/// What the script was told before is done once this is.
const SYNC: &str = r"
: >/srv/synced
for driver in nvme igb vfio-pci; do
    for what in bind unbind; do echo sync >/srv/pci/drivers/$driver/$what; done
done
until [ $(wc -l </srv/synced) = 6 ]; do sleep 0.01; done
";

fn boot() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("gpu", Then::PowerOffWhenAsked);
    host.machine.ok(&["bash", "-c", SYSFS]);
    // Device nodes cannot be made in the machine. These are openable, and in no other unit's /dev.
    let vfio = host.machine.inside("/dev/vfio");
    std::fs::create_dir(&vfio).unwrap();
    for name in ["vfio", ".12", "13"] {
        let made = Command::new("mknod")
            .arg(vfio.join(name))
            .args(["c", "10", "200"])
            .status();
        assert!(made.unwrap().success());
    }
    host.machine.ok(&["chmod", "0666", "/dev/vfio/vfio"]);
    host.machine
        .ok(&["chmod", "0600", "/dev/vfio/.12", "/dev/vfio/13"]);
    host.machine.write("/srv/kernel", KERNEL, 0o755);
    host.machine
        .ok(&["systemd-run", "--unit=fake-kernel", "/srv/kernel"]);
    host
}

fn with_device() -> String {
    let device = format!("\n[[vm.gpu.pci]]\naddress = \"{DEVICE}\"\n");
    [HYPERVISOR, &vm_alone("gpu", ""), &device].concat()
}

impl Host {
    /// The driver that the device has.
    fn driver(&self) -> String {
        let link = format!("/sys/bus/pci/devices/{DEVICE}/driver");
        let target = self.machine.run(&["readlink", &link]).stdout;
        let target = String::from_utf8(target).unwrap();
        target.trim().rsplit('/').next().unwrap().to_owned()
    }

    fn driver_override(&self) -> String {
        let path = format!("/sys/bus/pci/devices/{DEVICE}/driver_override");
        self.machine.ok(&["cat", &path]).trim().to_owned()
    }

    /// What the kernel was told.
    fn told(&self) -> String {
        self.machine.ok(&["cat", "/srv/told"])
    }

    #[track_caller]
    fn is_the_vms(&self) {
        assert_eq!(self.driver(), "vfio-pci");
        let record = self
            .machine
            .ok(&["cat", &format!("/run/nkudo/pci/{DEVICE}")]);
        assert_eq!(record, "{\"vm\":\"gpu\",\"driver\":\"nvme\"}");
    }

    #[track_caller]
    fn is_the_hosts(&self) {
        assert_eq!(self.driver(), "nvme");
        let overridden = self.driver_override();
        assert!(
            overridden.is_empty() || overridden == "(null)",
            "{overridden}"
        );
        assert!(!self.exists(&format!("/run/nkudo/pci/{DEVICE}")));
    }
}

fn a_pci_device_is_the_vms_while_it_runs_and_the_hosts_before_and_after() {
    let host = boot();
    host.switch_to(&with_device())
        .done()
        .says("PCI device 0000:01:00.0: bind to vfio-pci, for gpu; it has the driver nvme now");
    host.printed("gpu", 1);
    host.is_the_vms();
    assert_eq!(
        host.told(),
        "nvme unbind 0000:01:00.0\nvfio-pci bind 0000:01:00.0\n"
    );

    // The VMM has the group's file, by an entry for its user, and sees no other's.
    let pid = host.main_pid("gpu");
    let fds = host.machine.ok(&["ls", "-l", &format!("/proc/{pid}/fd")]);
    assert!(fds.contains("/dev/vfio/12"), "{fds}");
    let seen = host
        .machine
        .ok(&["ls", &format!("/proc/{pid}/root/dev/vfio")]);
    assert_eq!(seen, "12\nvfio\n");
    let access = host.machine.ok(&["getfacl", "-cp", "/dev/vfio/12"]);
    assert!(
        access.contains(":rw-\n") && access.contains("user:nkudo-gpu"),
        "{access}"
    );
    let allowed = host.property("gpu", "DeviceAllow");
    for line in ["/dev/vfio/vfio rw", "/dev/vfio/12 rw"] {
        assert!(allowed.contains(line), "{allowed}");
    }
    // Not the process's own: the outer host may not let systemd raise it.
    let limit = ((64 << 20) + (1_u64 << 30)).to_string();
    for name in ["LimitMEMLOCK", "LimitMEMLOCKSoft"] {
        assert_eq!(host.property("gpu", name), limit);
    }
    assert_eq!(host.property("gpu", "LimitNOFILE"), "65536");
    let doctor = host.nkudo(&["doctor"]).stdout;
    let line = "vm gpu: its PCI device 0000:01:00.0 is in IOMMU group 12 and has vfio-pci";
    assert!(doctor.contains(line), "{doctor}");

    // A crash is no reason to give it back; access is given anew.
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    host.active_again("gpu", pid);
    host.printed("gpu", 2);
    host.nkudo(&["switch"]).done().says("nothing to do");
    assert_eq!(host.told().lines().count(), 2, "{}", host.told());

    host.nkudo(&["stop", "gpu"])
        .done()
        .says("gave the PCI device 0000:01:00.0 back to the host");
    host.is_the_hosts();
    let access = host.machine.ok(&["getfacl", "-cp", "/dev/vfio/.12"]);
    assert_eq!(access, "user::rw-\ngroup::---\nother::---\n\n");

    // A VM that ends by itself keeps it, for its next start; a stop gives it back also then.
    host.nkudo(&["start", "gpu"]).done();
    host.is_the_vms();
    host.printed("gpu", 3);
    host.ask("gpu", "PUT vm.power-button");
    host.is_gone("gpu");
    host.is_the_vms();
    host.nkudo(&["stop", "gpu"]).done();
    host.is_the_hosts();

    // What somebody stopped by systemctl is given back by the next switch.
    host.nkudo(&["start", "gpu"]).done();
    host.machine.ok(&["systemctl", "stop", "nkudo-vm@gpu"]);
    host.is_the_vms();
    host.nkudo(&["switch"]).done();
    host.is_the_hosts();

    host.nkudo(&["start", "gpu"]).done();
    host.is_the_vms();
    host.switch_to(&[HYPERVISOR, &vm_alone("gpu", "")].concat())
        .done();
    host.is_the_hosts();
    assert_eq!(host.property("gpu", "ActiveState"), "active");
    host.switch_to(&with_device()).done();
    host.is_the_vms();
    host.switch_to("").done();
    host.is_the_hosts();
    host.has_nothing();
    // Nothing else was touched at any time.
    assert!(!host.told().contains("0000:02:00.0"), "{}", host.told());
    let others = host.machine.ok(&["getfacl", "-cp", "/dev/vfio/13"]);
    assert_eq!(others, "user::rw-\ngroup::---\nother::---\n\n");
}

fn what_keeps_a_pci_device_from_a_vm_is_said_and_nothing_is_touched() {
    let host = boot();
    let sysfs = |script: &str| host.machine.ok(&["bash", "-ec", script]);
    host.configure(&with_device());
    host.nkudo(&["render"]).done();

    // The disk that / is on, as far as its number tells.
    sysfs(
        "d=/srv/pci/devices/0000:01:00.0/nvme/nvme0/nvme0n1; mkdir -p $d
         ln -s ../../../../../../class/block $d/subsystem
         awk '$5 == \"/\" { print $3; exit }' /proc/self/mountinfo >$d/dev",
    );
    let refused = host.nkudo(&["switch"]);
    refused
        .ended(1)
        .says("the host itself uses it, for /dev/nvme0n1, which is mounted at /; stop that first")
        .says("nothing was changed");
    sysfs("rm -r /srv/pci/devices/0000:01:00.0/nvme");

    sysfs(
        "mkdir /srv/groups/12/devices/0000:02:00.0
         ln -sfn ../../../../kernel/iommu_groups/12 /srv/pci/devices/0000:02:00.0/iommu_group",
    );
    host.nkudo(&["switch"])
        .ended(1)
        .says("cannot keep it apart from 0000:02:00.0 (igb) of group 12");
    sysfs("umount /sys/kernel/iommu_groups; mount -t tmpfs none /sys/kernel/iommu_groups");
    host.nkudo(&["switch"])
        .ended(1)
        .says("this host has no IOMMU that is on");
    sysfs("mv /srv/pci/devices/0000:01:00.0 /srv/pci/devices/0000:03:00.0");
    host.nkudo(&["switch"])
        .ended(1)
        .says("VM gpu cannot start: there is no PCI device 0000:01:00.0 on this host");
    host.is_gone("gpu");
    assert_eq!(host.told(), "");
}

/// There and back, killed after the first effect, the second, and so on.
fn a_switch_killed_while_devices_change_hands_is_finished_by_the_next() {
    let host = boot();
    host.switch_to(HYPERVISOR).done();
    host.switch_to(&with_device()).done();
    host.nkudo(&["switch", "1"]).done();
    let mut kills = 0;
    let mut through = 0;
    for effect in 1.. {
        for generation in ["2", "1"] {
            let kill = format!("NKUDO_KILL_AFTER={effect}");
            let argv = ["env", &kill, "nkudo", "switch", generation];
            let killed = Ran::of(&host.machine.run(&argv));
            if killed.code == Some(0) {
                through += 1;
            } else {
                kills += 1;
                through = 0;
            }
            host.machine.ok(&["bash", "-c", SYNC]);
            let next = host.nkudo(&["switch", generation]);
            assert_eq!(
                next.code,
                Some(0),
                "after effect {effect}\n{killed}\n{next}"
            );
            if generation == "2" {
                host.is_the_vms();
                assert_eq!(host.property("gpu", "ActiveState"), "active");
            } else {
                host.is_the_hosts();
            }
        }
        if through >= 2 {
            break;
        }
    }
    eprintln!("host: {kills} switches were killed");
    assert!(kills >= 20, "only {kills} switches were killed");
    host.has_nothing();
}
