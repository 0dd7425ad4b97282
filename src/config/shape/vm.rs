//! `[vm.<id>]`.

use schemars::JsonSchema;

use super::cloud_init::CloudInitTable;
use super::disk::DiskTable;
use super::limits::LimitsTable;
use super::memory::Memory;
use super::nic::NicTable;
use super::pci::PciTable;
use super::ready::Ready;
use super::share::ShareTable;
use super::value::{Name, Path, TimeSpan};

/// A virtual machine: one transient unit, `nkudo-vm@<id>.service`, that runs cloud-hypervisor.
///
/// It needs a `kernel` or a `firmware`, or a first disk whose image has a `kernel` beside it.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VmTable {
    /// How many virtual CPUs the guest has.
    ///
    /// Default: `1`
    /// Example: `vcpus = 2`
    /// Becomes: `--cpus boot=,max=`
    pub vcpus: Option<Vcpus>,

    /// How much memory the guest has: at least 16M, in whole mebibytes.
    ///
    /// Default: `"512M"`
    /// Example: `memory = "2G"`
    /// Becomes: `--memory size=`
    pub memory: Option<Memory>,

    /// A Linux kernel that is booted directly: a vmlinux or bzImage, on x86_64 anything with a PVH entry.
    ///
    /// Everybody must be able to read the file. A VM has either this or a `firmware`.
    ///
    /// Default: the `kernel` of the first disk's image, with its `initrd` and `cmdline`, where there is no
    /// `firmware` either
    /// Example: `kernel = "/srv/images/vmlinux"`
    /// Becomes: `--kernel`
    pub kernel: Option<Path>,

    /// The initial RAM disk of the kernel.
    ///
    /// Default: none
    /// Example: `initrd = "/srv/images/initrd"`
    /// Becomes: `--initramfs`
    pub initrd: Option<Path>,

    /// The kernel's command line: 1 to 2047 characters of ASCII.
    ///
    /// It reaches the kernel as it stands here; `%` and `$` mean nothing special.
    ///
    /// Default: none
    /// Example: `cmdline = "console=ttyS0 root=/dev/vda1"`
    /// Becomes: `--cmdline`
    #[schemars(regex(pattern = r"^[ -~]+$"), length(max = 2047))]
    pub cmdline: Option<String>,

    /// A firmware, which boots what the first disk holds.
    ///
    /// Everybody must be able to read the file.
    ///
    /// Default: none
    /// Example: `firmware = "/usr/share/cloud-hypervisor/CLOUDHV.fd"`
    /// Becomes: `--firmware`
    pub firmware: Option<Path>,

    /// The VM's disks, one `[[vm.<id>.disk]]` each, in the order in which the guest has them.
    ///
    /// Default: `[]`
    /// Becomes: `--disk`
    pub disk: Option<Vec<DiskTable>>,

    /// The VM's NICs, one `[[vm.<id>.nic]]` each; at most 16.
    ///
    /// Default: `[]`
    /// Becomes: `--net`
    #[schemars(length(max = 16))]
    pub nic: Option<Vec<NicTable>>,

    /// What cloud-init in the guest does at its first boot.
    ///
    /// Default: none: there is no seed
    /// Example: `cloud-init = { ssh-authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"] }`
    /// Becomes: a disk labelled CIDATA
    pub cloud_init: Option<CloudInitTable>,

    /// Directories of the host that the guest has, one `[[vm.<id>.share]]` each.
    ///
    /// Default: `[]`
    /// Becomes: `--fs`, and a unit that runs virtiofsd
    pub share: Option<Vec<ShareTable>>,

    /// PCI devices of the host that the guest has, one `[[vm.<id>.pci]]` each.
    ///
    /// Default: `[]`
    /// Becomes: `--device`, `LimitMEMLOCK=`, and the driver `vfio-pci`
    pub pci: Option<Vec<PciTable>>,

    /// Whether the VM has a TPM 2.0, whose state is kept in `vms/<id>/tpm` of the state directory.
    ///
    /// Default: `false`
    /// Example: `tpm = true`
    /// Becomes: `--tpm`, and the unit `nkudo-swtpm@<id>.service`
    pub tpm: Option<bool>,

    /// Where the random numbers of the guest's virtio-rng are from.
    ///
    /// Default: `{ source = "/dev/urandom" }`
    /// Example: `rng = { source = "/dev/hwrng" }`
    /// Becomes: `--rng`
    pub rng: Option<RngTable>,

    /// Whether a guest that hangs is reset: a watchdog device, which counts once the guest has opened it.
    ///
    /// Default: `false`
    /// Example: `watchdog = true`
    /// Becomes: `--watchdog`
    pub watchdog: Option<bool>,

    /// Whether a guest can tell that its kernel panicked: a pvpanic device. The VMM writes it to its log.
    ///
    /// Default: `false`
    /// Example: `pvpanic = true`
    /// Becomes: `--pvpanic`
    pub pvpanic: Option<bool>,

    /// The guest's vsock context id: 3 to 4294967294, no two VMs the same.
    ///
    /// The host's end is the socket `vsock.sock` in the VM's directory in /run/nkudo/vms.
    ///
    /// Default: none
    /// Example: `vsock-cid = 3`
    /// Becomes: `--vsock cid=`
    #[schemars(range(min = 3, max = 4_294_967_294_u32))]
    pub vsock_cid: Option<u32>,

    /// Where the guest's serial port goes.
    ///
    /// Default: `"journal"`
    /// Example: `serial = "socket"`
    /// Becomes: `--serial`
    pub serial: Option<Serial>,

    /// Whether `nkudo switch` starts the VM; `false` leaves that to `nkudo start`.
    ///
    /// Default: `true`
    /// Example: `autostart = false`
    /// Becomes: whether a switch and a boot of the host start the unit
    pub autostart: Option<bool>,

    /// When systemd starts the VM again by itself.
    ///
    /// Default: `"on-failure"`
    /// Example: `restart = "always"`
    /// Becomes: `Restart=`
    pub restart: Option<Restart>,

    /// What a switch does with a running VM that must restart to become as declared.
    ///
    /// Default: `"restart"`
    /// Example: `on-change = "defer"`
    /// Becomes: a restart in the switch, or a change that `nkudo diff` calls pending
    pub on_change: Option<OnChange>,

    /// How long the VM may take to become ready: its VMM, and then what its `ready` waits for besides.
    ///
    /// Default: `"2min"`
    /// Example: `start-timeout = "5min"`
    /// Becomes: `TimeoutStartSec=`, which is 15 s longer, so that nkudo can say what happened
    pub start_timeout: Option<TimeSpan>,

    /// How long the guest may take to power off after its power button was pressed, before it is
    /// killed.
    ///
    /// Default: `"90s"`
    /// Example: `stop-timeout = "3min"`
    /// Becomes: `TimeoutStopSec=`, which is 15 s longer
    pub stop_timeout: Option<TimeSpan>,

    /// When the VM's start is done: `"guest"`, or a table of this and what becomes of one that is late.
    ///
    /// Default: `"vmm"`
    /// Example: `ready = "tcp:22"`
    /// Becomes: `ExecStartPost=`, and the unit nkudo-ready@`<id>`.service
    pub ready: Option<Ready>,

    /// VMs that are started before this one, and stopped after it.
    ///
    /// They are waited for as their own `ready` says. No two VMs can wait for each other.
    ///
    /// Default: `[]`
    /// Example: `after = ["db"]`
    /// Becomes: the order of a switch; systemd is told nothing
    pub after: Option<Vec<Name>>,

    /// What the VM may use of the host (systemd.resource-control(5)).
    ///
    /// Default: `{}`
    /// Example: `limits = { cpu-quota = "150%", memory-max = "3G" }`
    /// Becomes: settings of the unit's control group
    pub limits: Option<LimitsTable>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Vcpus {
    Count(#[schemars(range(min = 1, max = 254))] u8),
    Table(VcpusTable),
}

/// Virtual CPUs that can become more while the guest runs.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VcpusTable {
    /// How many the guest boots with.
    ///
    /// Default: `1`
    /// Example: `boot = 2`
    /// Becomes: `--cpus boot=`
    #[schemars(range(min = 1, max = 254))]
    pub boot: Option<u8>,

    /// How many it can have at most; not fewer than `boot`.
    ///
    /// Default: as many as `boot`
    /// Example: `max = 8`
    /// Becomes: `--cpus max=`
    #[schemars(range(min = 1, max = 254))]
    pub max: Option<u8>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Restart {
    /// Never.
    No,
    /// When the VMM or the guest crashed, not when the guest powered off.
    OnFailure,
    /// Also when the guest powered off.
    Always,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Serial {
    /// To the journal, line by line (`nkudo logs ID --console`). Nobody can type.
    Journal,
    /// To terminals that `nkudo console ID` attaches. What nobody has read yet is kept, up to 1 MiB; nothing of
    /// it is in the journal.
    Socket,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum OnChange {
    /// Restarts it.
    Restart,
    /// Leaves it running as it is until it is restarted.
    Defer,
}

/// The guest's source of random numbers.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RngTable {
    /// A device of the host. `/dev/hwrng` is the host's hardware without the kernel's generator in between: slower, and VMs
    /// that ask for much keep it from others.
    ///
    /// Default: `"/dev/urandom"`
    /// Example: `source = "/dev/hwrng"`
    /// Becomes: `--rng src=`
    pub source: Option<RngSource>,
}

/// A device of the host.
#[derive(Debug, JsonSchema)]
pub enum RngSource {
    #[schemars(rename = "/dev/urandom")]
    Urandom,
    #[schemars(rename = "/dev/random")]
    Random,
    #[schemars(rename = "/dev/hwrng")]
    Hardware,
}
