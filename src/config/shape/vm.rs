//! `[vm.<id>]` and the tables below it.

use schemars::JsonSchema;

use super::cloud_init::CloudInitTable;
use super::disk::DiskTable;
use super::pci::PciTable;
use super::share::ShareTable;
use super::value::{Address, Mac, MaybeCidr, Name, OneOrMore, Path, Size, TimeSpan};

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

    /// The VM's network cards, one `[[vm.<id>.nic]]` each; at most 16.
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
#[schemars(untagged, inline)]
pub enum Memory {
    Size(Size),
    Table(MemoryTable),
}

/// Memory with more than a size.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryTable {
    /// What the guest boots with: at least 16M, in whole mebibytes.
    ///
    /// Default: `"512M"`
    /// Example: `size = "1G"`
    /// Becomes: `--memory size=`
    pub size: Option<Size>,

    /// What it can have at most, not less than `size`; the difference can be plugged in while it runs.
    ///
    /// Default: as much as `size`
    /// Example: `max = "8G"`
    /// Becomes: `--memory hotplug_method=virtio-mem,hotplug_size=`
    pub max: Option<Size>,

    /// Backs the memory with huge pages of the host, which must have enough of them free.
    ///
    /// `true` takes the host's default size, `"2M"` or `"1G"` that one. The sizes above must be
    /// multiples of it.
    ///
    /// Default: `false`
    /// Example: `hugepages = "2M"`
    /// Becomes: `--memory hugepages=on,hugepage_size=`
    pub hugepages: Option<HugePages>,

    /// Offers the memory to the kernel's same-page merging. Not with `shared` or `hugepages`.
    ///
    /// Default: `false`
    /// Example: `mergeable = true`
    /// Becomes: `--memory mergeable=on`
    pub mergeable: Option<bool>,

    /// Maps the memory so that other processes can have it, which vhost-user devices need.
    ///
    /// Default: `false`
    /// Example: `shared = true`
    /// Becomes: `--memory shared=on`
    pub shared: Option<bool>,

    /// Gives the guest a balloon: what it does not use goes back to the host.
    ///
    /// `true` is one of size 0.
    ///
    /// Default: `false`
    /// Example: `balloon = { size = "512M" }`
    /// Becomes: `--balloon size=0,deflate_on_oom=on,free_page_reporting=on`
    pub balloon: Option<Balloon>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Balloon {
    Whether(bool),
    Table(BalloonTable),
}

/// A balloon that is not just there.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BalloonTable {
    /// What the guest is asked to do without, less than the memory and in whole mebibytes. It changes while the
    /// VM runs.
    ///
    /// Default: `"0"`
    /// Example: `size = "512M"`
    /// Becomes: `--balloon size=`, and `vm.resize` while it runs
    pub size: Option<Size>,

    /// Has the guest report the pages that it has freed, for the host to use.
    ///
    /// Default: `true`
    /// Example: `free-page-reporting = false`
    /// Becomes: `--balloon free_page_reporting=`
    pub free_page_reporting: Option<bool>,

    /// Has the balloon give memory back when the guest would run out of it.
    ///
    /// Default: `true`
    /// Example: `deflate-on-oom = false`
    /// Becomes: `--balloon deflate_on_oom=`
    pub deflate_on_oom: Option<bool>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum HugePages {
    Whether(bool),
    Of(PageSize),
}

#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub enum PageSize {
    #[schemars(rename = "2M")]
    TwoMebibytes,
    #[schemars(rename = "1G")]
    OneGibibyte,
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

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Ready {
    When(When),
    Table(ReadyTable),
}

/// When a VM's start is done: what `nkudo switch` and VMs with it in their `after` wait for.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReadyTable {
    /// What must have happened.
    ///
    /// Default: `"vmm"`
    /// Example: `when = "guest"`
    /// Becomes: for `guest`, `--vsock` and `--platform oem_strings=`; what nkudo-ready@`<id>`.service waits for
    pub when: Option<When>,

    /// What becomes of a VM that is not ready within its `start-timeout`.
    ///
    /// Default: `"continue"`
    /// Example: `on-timeout = "fail"`
    /// Becomes: the exit code of `nkudo unit ready` or `nkudo unit await`
    pub on_timeout: Option<OnTimeout>,
}

/// `"vmm"`: the VMM says that the guest's CPUs run. `"guest"`: the guest's systemd says that it has
/// booted. `"tcp:22"`: the guest takes connections on that port, at an `address` of its NICs.
#[derive(Debug, JsonSchema)]
#[schemars(title = "readiness")]
pub struct When(#[schemars(regex(pattern = r"^(vmm|guest|tcp:[1-9][0-9]{0,4})$"))] pub String);

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum OnTimeout {
    /// It runs on, with a warning in the journal.
    Continue,
    /// Its start fails, and systemd stops it.
    Fail,
}

/// Limits and weights of the VM's control group. What is left out is as systemd has it.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsTable {
    /// The share of CPU time when CPUs are contended for: 1 to 10000.
    ///
    /// Default: none (the kernel's is 100)
    /// Example: `cpu-weight = 200`
    /// Becomes: `CPUWeight=`
    #[schemars(range(min = 1, max = 10000))]
    pub cpu_weight: Option<u16>,

    /// The most CPU time, in percent of one CPU: `"150%"` is one and a half.
    ///
    /// Default: none
    /// Example: `cpu-quota = "150%"`
    /// Becomes: `CPUQuota=`
    #[schemars(regex(pattern = r"^[0-9]*[1-9][0-9]*%$"))]
    pub cpu_quota: Option<String>,

    /// The memory above which the VM is slowed down and made to give back.
    ///
    /// The VMM needs some memory of its own beside the guest's: allow 64M and a tenth more.
    ///
    /// Default: none
    /// Example: `memory-high = "2560M"`
    /// Becomes: `MemoryHigh=`
    pub memory_high: Option<Size>,

    /// The memory above which the VM is killed.
    ///
    /// Default: none
    /// Example: `memory-max = "3G"`
    /// Becomes: `MemoryMax=`
    pub memory_max: Option<Size>,

    /// The share of disk time when disks are contended for: 1 to 10000.
    ///
    /// Default: none (the kernel's is 100)
    /// Example: `io-weight = 50`
    /// Becomes: `IOWeight=`
    #[schemars(range(min = 1, max = 10000))]
    pub io_weight: Option<u16>,

    /// The most threads that the VMM may have.
    ///
    /// It has one per vCPU, one per queue of a disk or NIC, and a handful more.
    ///
    /// Default: none (systemd's is 15 % of the host's)
    /// Example: `tasks-max = 512`
    /// Becomes: `TasksMax=`
    #[schemars(range(min = 1))]
    pub tasks_max: Option<u32>,
}

/// A network card. The host's end is a TAP, `nkt-<id>-<number>`, a port of the network's bridge.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NicTable {
    /// The network that it is on, by its name in this configuration.
    ///
    /// Example: `network = "lan"`
    /// Becomes: the bridge that the TAP is a port of
    pub network: Name,

    /// The guest's Ethernet address: unicast, no two the same.
    ///
    /// Default: derived from the VM's id and the NIC's number, always the same
    /// Example: `mac = "52:54:00:12:34:56"`
    /// Becomes: `--net mac=`
    pub mac: Option<Mac>,

    /// The guest's addresses: one, or an array. Without the length of the prefix it is that of the network's.
    ///
    /// They are what DHCP gives the guest, what a port forward leads to, and all that may leave the VM.
    /// No two NICs of a network have the same.
    ///
    /// Default: `[]`: any of the network's that is nobody else's
    /// Example: `address = "192.168.100.10"`
    /// Becomes: `[DHCPServerStaticLease]` in systemd.network(5), or dnsmasq's `--dhcp-host`
    pub address: Option<OneOrMore<MaybeCidr>>,

    /// Where the guest sends what is not on the network: at most one for each family.
    ///
    /// Default: the host's address on the network, where the network has `nat` or `route`
    /// Example: `gateway = "192.168.100.1"`
    /// Becomes: the default route in the guest's network configuration
    pub gateway: Option<OneOrMore<Address>>,

    /// Pairs of queues: at most as many as the VM has vCPUs at boot, and 16 over all its NICs. More let more vCPUs
    /// send at a time.
    ///
    /// Default: `1`
    /// Example: `queues = 4`
    /// Becomes: `--net num_queues=`, twice that
    #[schemars(range(min = 1, max = 16))]
    pub queues: Option<u8>,

    /// Whether what the VM sends is passed on unchecked.
    ///
    /// Otherwise only its own Ethernet and IP addresses leave it, and no answers of a DHCP server or a router.
    ///
    /// Default: `false`
    /// Example: `trusted = true`
    /// Becomes: no chain for the NIC in nkudo's nftables table
    pub trusted: Option<bool>,
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
