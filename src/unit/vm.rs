//! The unit of a VM.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::host::{IommuGroup, OnOff, Ready, Restart, RngSource, Size, Vm, VmId};
use crate::hypervisor::{self, Version};
use crate::seed;

use super::Unit;
use super::builder::{Builder, text, words};
use super::companion::companions;
use super::limits::limit_values;
use super::readiness::readiness_unit_name;
use super::setting::{Exec, Privilege, Setting};

/// Where everything of nkudo's is that dies with the boot.
pub const RUNTIME_ROOT: &str = "/run/nkudo";
/// Stops all VMs in their order when the host shuts down; a file.
const SHUTDOWN_UNIT: &str = "nkudo-shutdown.service";
/// What may be pinned for PCI devices besides the guest's memory: memory of the devices themselves, which some
/// kernels count too.
const PINNED_BESIDES: Size = Size::from_mib(1024);
/// The VMM has an eventfd for each interrupt of a PCI device: up to 2048 (MSI-X), of 32 devices on a bus. systemd's own
/// soft limit is 1024.
const INTERRUPTS: u64 = 2048 * 32;
/// Where systemd keeps the text of transient units (systemd.unit(5)).
pub const TRANSIENT: &str = "/run/systemd/transient";

/// The programs that a unit runs, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Programs {
    pub hypervisor: Utf8PathBuf,
    pub hypervisor_version: Version,
    pub nkudo: Utf8PathBuf,
    /// Where a VM has a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtiofsd: Option<Utf8PathBuf>,
    /// Where a VM has a TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swtpm: Option<Utf8PathBuf>,
}

/// What `machinectl poweroff` sends, SIGRTMIN+4 (machinectl(1)), by its number in glibc.
const POWER_OFF: Setting = Setting::ExitSignal("RTMIN+4", 38);

/// The field of a unit's journal entries that says which generation it is of.
pub const GENERATION_FIELD: &str = "NKUDO_GENERATION";

/// Where a VM's sockets are while it runs.
pub fn runtime_directory(id: &VmId) -> Utf8PathBuf {
    format!("{RUNTIME_ROOT}/vms/{id}").into()
}

/// Where the root directory of a VM's sandbox is.
pub fn root_directory(id: &VmId) -> Utf8PathBuf {
    root_directories().join(id.as_str())
}

/// Where those of all VMs are.
pub fn root_directories() -> Utf8PathBuf {
    format!("{RUNTIME_ROOT}/root").into()
}

pub fn vm_unit_name(id: &VmId) -> String {
    format!("nkudo-vm@{id}.service")
}

pub const fn slice_name() -> &'static str {
    "nkudo.slice"
}

/// A user name of at most 31 bytes (systemd refuses longer ones for `DynamicUser=`): an id that
/// does not fit is replaced by the name that its MAC derives from, hashed.
pub(super) fn user_name(id: &VmId) -> String {
    let name = format!("nkudo-{id}");
    if name.len() <= 31 {
        return name;
    }
    // Underscores mark the hash: no id holds one.
    let hash = crate::host::Mac::derived("user", id.as_str())
        .to_string()
        .replace(':', "");
    format!("nkudo_{hash}")
}

/// What identifies what a unit was made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub digest: &'a str,
    pub generation: u64,
}

/// The unit that runs `vm`. `groups` are those of its PCI devices, which are known only once it starts.
///
/// Everything in it is one of three things: what systemd does for the VM (starting, stopping,
/// restarting, accounting), what the VM may use, and the sandbox. The sandbox is a root directory
/// of the VM's own into which only the hypervisor, its libraries and this VM's files are bound:
/// another VM's disk is not merely forbidden, it is not there, whatever its mode.
pub fn vm_unit(
    id: &VmId,
    vm: &Vm,
    programs: &Programs,
    source: Source<'_>,
    groups: &BTreeSet<IommuGroup>,
) -> Unit {
    let mut unit = Builder::default();
    unit.unit("Description", text(format!("Virtual machine {id}")));
    // Stopped before the network goes away at shutdown.
    unit.unit("After", words(["network.target"]));
    // And only when that says so: it stops the VMs of a host that shuts down in their order. Systemd
    // lets go of a unit that points to another; one that another points to would stay loaded.
    unit.unit("Before", words([SHUTDOWN_UNIT]));
    unit.unit("Wants", words([SHUTDOWN_UNIT]));
    if !matches!(vm.ready, Ready::Vmm { .. }) {
        // It waits for what the guest says, once the VMM runs.
        unit.unit("Before", words([readiness_unit_name(id)]));
        unit.unit("Wants", words([readiness_unit_name(id)]));
    }
    let companions = companions(id, vm, programs);
    if !companions.is_empty() {
        let names = || words(companions.iter().map(|unit| unit.name.as_str()));
        unit.unit("After", names());
        // Not stronger: it is the VMM that says what it misses, and it waits for one that restarts.
        unit.unit("Wants", names());
    }
    unit.unit(
        "StartLimitIntervalSec",
        Setting::Span(Duration::from_secs(60)),
    );
    unit.unit("StartLimitBurst", Setting::Count(5));

    let step_with = |verb: &str, arguments: &[String], privilege| {
        let mut argv = vec![
            programs.nkudo.to_string(),
            "unit".to_owned(),
            verb.to_owned(),
            id.to_string(),
        ];
        argv.extend_from_slice(arguments);
        Setting::Exec(Exec { argv, privilege })
    };
    let step = |verb: &str, privilege| step_with(verb, &[], privilege);
    let mut argv = vec![programs.hypervisor.to_string()];
    let seed = seed::disk(id, vm);
    argv.extend(hypervisor::argv(
        id,
        vm,
        seed.as_ref(),
        programs.hypervisor_version,
        &runtime_directory(id),
    ));
    let needs_grant = !vm.disks.is_empty()
        || seed.is_some()
        || !vm.pci.is_empty()
        || vm.rng == RngSource::Hardware;

    unit.service("Type", text("exec"));
    if needs_grant {
        unit.service("ExecStartPre", step("grant", Privilege::Full));
    }
    unit.service(
        "ExecStart",
        Setting::Exec(Exec {
            argv,
            privilege: Privilege::Sandboxed,
        }),
    );
    if vm.machined == OnOff::On {
        // Before the guest is waited for, so that it is listed while it boots.
        unit.service("ExecStartPost", step("register", Privilege::Full));
    }
    unit.service("ExecStartPost", step("ready", Privilege::Sandboxed));
    // Without white space, so that the line reads well.
    let stop_timeout = format!("--timeout={}", vm.stop_timeout).replace(' ', "");
    unit.service(
        "ExecStop",
        step_with("stop", &[stop_timeout], Privilege::Sandboxed),
    );
    // Before `post`, which fails where the VMM hides a crash: systemd runs none of those that come after one that failed.
    unit.service("ExecStopPost", step("revoke", Privilege::Full));
    unit.service("ExecStopPost", step("post", Privilege::Sandboxed));
    unit.restarts(vm);
    // The steps end by themselves before systemd would kill them, so that it is they who say
    // what happened; a timeout of systemd's leaves the unit failed and its name taken.
    let slack = Duration::from_secs(15);
    unit.service(
        "TimeoutStartSec",
        Setting::Span(vm.start_timeout.duration() + slack),
    );
    unit.service(
        "TimeoutStopSec",
        Setting::Span(vm.stop_timeout.duration() + slack),
    );
    unit.service("KillMode", text("mixed"));
    unit.service("OOMPolicy", text("stop"));

    unit.service("Slice", text(slice_name()));
    unit.limits(vm);
    unit.resources(vm);

    unit.service("RuntimeDirectory", words([format!("nkudo/vms/{id}")]));
    unit.service("RuntimeDirectoryMode", Setting::Mode(0o700));
    unit.journal(id, source);
    unit.sandbox(id, vm, seed.as_ref(), groups, programs);
    unit.build(vm_unit_name(id))
}

impl Builder {
    fn restarts(&mut self, vm: &Vm) {
        self.service(
            "Restart",
            text(match vm.restart {
                Restart::No => "no",
                Restart::OnFailure => "on-failure",
                Restart::Always => "always",
            }),
        );
        self.service("RestartSec", Setting::Span(Duration::from_secs(1)));
        self.service("RestartSteps", Setting::Count(5));
        self.service("RestartMaxDelaySec", Setting::Span(Duration::from_secs(60)));
        if vm.machined == OnOff::On {
            // A signal that a VMM has no use for ends it. Somebody wished it to be off: it is not started again.
            for key in ["SuccessExitStatus", "RestartPreventExitStatus"] {
                self.service(key, POWER_OFF);
            }
        }
    }

    fn limits(&mut self, vm: &Vm) {
        for (limit, value) in limit_values(&vm.limits) {
            self.service(limit.key(), limit.setting(value));
        }
    }

    /// The kernel counts what it pins for devices, which is all of the guest's memory, against this limit, and
    /// the VMM has no CAP_IPC_LOCK.
    fn resources(&mut self, vm: &Vm) {
        if !vm.pci.is_empty() {
            let most = vm.memory.max.bytes().saturating_add(PINNED_BESIDES.bytes());
            self.service("LimitMEMLOCK", Setting::Number(most));
            self.service("LimitNOFILE", Setting::Number(INTERRUPTS));
        }
    }

    fn journal(&mut self, id: &VmId, source: Source<'_>) {
        self.journal_vm(id);
        self.journal_field("NKUDO_DIGEST", source.digest.to_owned());
        self.journal_field(GENERATION_FIELD, source.generation.to_string());
        // The guest's serial port is in there, and must be whole.
        self.service("LogRateLimitIntervalSec", Setting::Span(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::unit::{Property, Value};

    const SOURCE: Source<'_> = Source {
        digest: "d1",
        generation: 7,
    };

    fn sample() -> (VmId, Vm, Programs) {
        let source = config::Source {
            name: "nkudo.toml".to_owned(),
            text: "[network.lan]\n[vm.web]\nmemory = \"64M\"\nkernel = \"/srv/100%kernel\"\n\
                   cmdline = 'console=ttyS0 a=\"$HOME\"'\nstop-timeout = \"90s\"\n\
                   [[vm.web.disk]]\nname = \"data\"\npath = \"/srv/a,b%c.raw\"\nformat = \"raw\"\n\
                   [[vm.web.nic]]\nnetwork = \"lan\"\n"
                .to_owned(),
        };
        let host = config::load(&[source]).host.unwrap();
        let (id, vm) = host.vms.into_iter().next().unwrap();
        let programs = Programs {
            hypervisor: "/usr/bin/cloud-hypervisor".into(),
            hypervisor_version: Version {
                major: 53,
                minor: 0,
            },
            nkudo: "/usr/bin/nkudo".into(),
            virtiofsd: None,
            swtpm: None,
        };
        (id, vm, programs)
    }

    #[test]
    fn the_text_form_is_what_a_reader_expects() {
        let (id, vm, programs) = sample();
        let text = vm_unit(&id, &vm, &programs, SOURCE, &BTreeSet::new()).text();
        for line in [
            "ExecStart=:/usr/bin/cloud-hypervisor --api-socket path=/run/nkudo/vms/web/api.sock \
             --log-file /tmp/cloud-hypervisor.log --event-monitor path=/tmp/cloud-hypervisor.events --cpus boot=1,max=1 --memory size=64M \
             --kernel \"/srv/100%%kernel\" --cmdline \"console=ttyS0 a=\\\"$HOME\\\"\" \
             --disk \"path=\\\"/srv/a,b%%c.raw\\\",serial=data,id=disk-data,image_type=raw\"",
            "ExecStartPre=+:/usr/bin/nkudo unit grant web",
            "TimeoutStopSec=105s",
            "RootDirectory=/run/nkudo/root/web",
            "LogExtraFields=NKUDO_DIGEST=d1",
            "CapabilityBoundingSet=",
            "RestrictNamespaces=ipc",
        ] {
            assert!(
                text.lines().any(|have| have.starts_with(line)),
                "{line}\nis not in\n{text}"
            );
        }
    }

    #[test]
    fn the_dbus_form_carries_the_arguments_as_they_are() {
        let (id, vm, programs) = sample();
        let properties = vm_unit(&id, &vm, &programs, SOURCE, &BTreeSet::new()).properties();
        let start = properties
            .iter()
            .find(|property| property.name == "ExecStartEx");
        let Some(Property {
            value: Value::Execs(execs),
            ..
        }) = start
        else {
            panic!("no ExecStartEx in {properties:?}")
        };
        let (program, argv, flags) = &execs[0];
        assert_eq!(program, "/usr/bin/cloud-hypervisor");
        assert!(argv.contains(&"/srv/100%kernel".to_owned()));
        assert!(argv.contains(&"console=ttyS0 a=\"$HOME\"".to_owned()));
        assert_eq!(flags, &["no-env-expand"]);
        assert!(properties.contains(&Property {
            name: "TimeoutStopUSec".into(),
            value: Value::U64(105_000_000)
        }));
    }

    #[test]
    fn a_vm_without_a_disk_is_granted_none() {
        let (id, mut vm, programs) = sample();
        vm.disks.clear();
        let text = vm_unit(&id, &vm, &programs, SOURCE, &BTreeSet::new()).text();
        assert!(!text.contains("unit grant"), "{text}");
    }

    #[test]
    fn a_vm_with_pci_devices_has_the_files_of_their_groups_and_no_others() {
        let (id, mut vm, programs) = sample();
        vm.pci = vec![
            "0000:01:00.0".parse().unwrap(),
            "0000:01:00.1".parse().unwrap(),
        ];
        let groups = BTreeSet::from([IommuGroup(12)]);
        let text = vm_unit(&id, &vm, &programs, SOURCE, &groups).text();
        for line in [
            "DeviceAllow=/dev/vfio/vfio rw",
            "DeviceAllow=/dev/vfio/12 rw",
            "BindPaths=-/dev/kvm -/dev/vfio/vfio -/dev/vfio/12",
            // 64 MiB of the guest's, and 1 GiB.
            "LimitMEMLOCK=1140850688",
            "LimitNOFILE=65536",
        ] {
            assert!(
                text.lines().any(|have| have.starts_with(line)),
                "{line}\nis not in\n{text}"
            );
        }
        assert!(
            text.contains(
                "--device path=/sys/bus/pci/devices/0000:01:00.0,id=pci-0000:01:00.0 \
                 path=/sys/bus/pci/devices/0000:01:00.1,id=pci-0000:01:00.1"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_long_id_still_has_a_user_name_that_systemd_takes() {
        let id: VmId = "a-very-long-name-that-fits-no-user".parse().unwrap();
        assert!(user_name(&id).len() <= 31);
        assert!(user_name(&id).starts_with("nkudo_"));
    }
}
