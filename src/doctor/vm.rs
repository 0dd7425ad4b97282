//! One VM: its files, its links, its state.

#![deny(clippy::disallowed_methods)]

use camino::Utf8Path;

use super::Check;
use super::checks::install;
use super::facts::{Facts, FileFact, HostState};
use crate::host::{AbsolutePath, Autostart, Boot, Vm};
use crate::observe::LinkKind;
use crate::status::{LinkStatus, State, VmStatus};

pub(super) fn checks(facts: &Facts, status: &VmStatus, declared: Option<&Vm>) -> Vec<Check> {
    let name = format!("vm {}", status.id);
    let id = &status.id;
    let mut checks = vec![state(&name, status, declared)];
    if let Some(vm) = declared {
        checks.extend(files(facts, &name, vm));
        checks.extend(companions(facts, &name, vm));
    }
    if matches!(
        status.state,
        State::Running | State::Paused | State::Starting
    ) {
        for nic in &status.nics {
            let restart = format!("`nkudo switch` restarts {id} with a new one");
            let tap = &nic.tap;
            let is_macvtap = is_macvtap(facts, tap);
            match (nic.link, &nic.bridge) {
                (LinkStatus::Missing, _) => checks.push(Check::fail(
                    &name,
                    format!("its TAP {tap} is gone: the VM has no network"),
                    restart,
                )),
                (LinkStatus::Down, _) => checks.push(Check::fail(
                    &name,
                    format!("its TAP {tap} is down: the VM has no network"),
                    if is_macvtap {
                        format!("`ip link set {tap} up`")
                    } else {
                        "`nkudo switch` sets it up".to_owned()
                    },
                )),
                (LinkStatus::Up, None) if !is_macvtap => checks.push(Check::fail(
                    &name,
                    format!("its TAP {tap} is in no bridge: the VM has no network"),
                    "`nkudo switch` puts it back",
                )),
                (LinkStatus::Up, _) => {}
            }
        }
    }
    for drop_in in &status.drop_ins {
        checks.push(Check::warn(
            &name,
            format!("the drop-in {drop_in} goes before what is declared"),
            format!("`systemctl cat {}` shows what comes of both", status.unit),
        ));
    }
    checks
}

/// Whether it lies on an uplink, and belongs into no bridge.
fn is_macvtap(facts: &Facts, tap: &str) -> bool {
    let HostState::Known { observed, .. } = &facts.state else {
        return false;
    };
    let link = observed.links.get(tap);
    link.is_some_and(|link| link.kind == LinkKind::Macvtap)
}

fn state(name: &str, status: &VmStatus, declared: Option<&Vm>) -> Check {
    let id = &status.id;
    let last = status
        .last_exit
        .as_ref()
        .map_or(String::new(), |exit| format!("; {}", exit.message));
    let known = status.diagnosis.as_ref();
    let cause = known.map_or(last, |known| format!("; {}", known.cause));
    let remedy = |otherwise: String| known.map_or(otherwise, |known| known.remedy.clone());
    match status.state {
        _ if !status.declared => Check::warn(
            name,
            format!("it is {} and not declared", status.state),
            format!("`nkudo switch` stops it; to keep it, declare `[vm.{id}]`"),
        ),
        State::Running | State::Paused
            if status
                .vmm
                .as_deref()
                .is_some_and(|vmm| vmm.starts_with("silent")) =>
        {
            Check::fail(
                name,
                format!(
                    "it is {}, and its VMM does not answer on its API socket",
                    status.state
                ),
                format!(
                    "the guest may run on: try it over the network first; then `nkudo stop {id} --force` and `nkudo start {id}`"
                ),
            )
        }
        State::Running if status.guest.is_some() => Check::fail(
            name,
            "its guest panicked, and its VMM runs on",
            format!("`nkudo logs {id} --console -n 50` shows why; `nkudo restart {id}`"),
        ),
        State::Running | State::Paused => {
            if status.pending.is_empty() {
                Check::ok(name, status.state.to_string())
            } else {
                Check::warn(
                    name,
                    "it runs, and changes wait for its restart",
                    format!("`nkudo restart {id}`; `nkudo status {id}` lists them"),
                )
            }
        }
        State::Starting => Check::ok(name, "it is starting"),
        State::Stopping => Check::warn(
            name,
            "it is stopping: its guest has been asked to power off",
            format!("wait for its `stop-timeout`, or `nkudo stop {id} --force`"),
        ),
        State::Stopped if status.held => Check::ok(name, "it is stopped, as somebody wished"),
        State::Stopped if declared.is_some_and(|vm| vm.autostart == Autostart::No) => {
            Check::ok(name, "it is stopped, and `autostart` is false")
        }
        State::Stopped => Check::warn(
            name,
            format!("it is stopped{cause}"),
            remedy(format!(
                "`nkudo start {id}`, or `nkudo switch`, which starts all that are declared to"
            )),
        ),
        State::Restarting => Check::fail(
            name,
            format!("it fails, and systemd starts it again{cause}"),
            remedy(format!("`nkudo logs {id} -n 50` has its last words")),
        ),
        State::Failed if status.obstacle.is_some() => Check::fail(
            name,
            format!(
                "the last switch left it out: {}",
                status.obstacle.as_deref().unwrap_or_default()
            ),
            format!("mend that, then `nkudo start {id}` or `nkudo switch`"),
        ),
        State::Failed => Check::fail(
            name,
            format!(
                "it failed ({}), and systemd does not start it again{cause}",
                status.result.as_deref().unwrap_or("unknown")
            ),
            remedy(format!(
                "`nkudo logs {id} -n 50` has its last words; `nkudo start {id}` tries again"
            )),
        ),
    }
}

fn files(facts: &Facts, name: &str, vm: &Vm) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut boot_file = |what: &str, path: &AbsolutePath| {
        let path = path.as_path();
        checks.extend(unreadable(facts, name, what, path));
    };
    match &vm.boot {
        Boot::Kernel { kernel, initrd, .. } => {
            boot_file("kernel", kernel);
            if let Some(initrd) = initrd {
                boot_file("initrd", initrd);
            }
        }
        Boot::Firmware(firmware) => boot_file("firmware", firmware),
        Boot::Inside { .. } => {}
    }
    for disk in &vm.disks {
        let path = disk.path.as_path();
        match facts.files.get(path) {
            Some(FileFact::Missing) => checks.push(Check::fail(
                name,
                format!("its disk {} is not there: {path}", disk.name),
                if disk.origin.is_made() {
                    "`nkudo switch` makes it".to_owned()
                } else {
                    format!("put it there, or make it: `truncate -s 10G {path}`")
                },
            )),
            Some(FileFact::Directory | FileFact::Other) => checks.push(Check::fail(
                name,
                format!("its disk {path} is neither a file nor a block device"),
                "name a file or a block device under `path`",
            )),
            Some(FileFact::Unknown(why)) => checks.push(Check::fail(
                name,
                format!("its disk {path} cannot be looked at: {why}"),
                "run `nkudo doctor` as root; a filesystem that does not answer is named in `journalctl -k`",
            )),
            Some(FileFact::File { .. } | FileFact::BlockDevice) | None => {}
        }
    }
    checks
}

/// What virtiofsd and swtpm serve the VM with, and they themselves.
fn companions(facts: &Facts, name: &str, vm: &Vm) -> Vec<Check> {
    let mut checks = Vec::new();
    for share in &vm.shares {
        let (tag, source) = (&share.tag, &share.source);
        let what = match facts.files.get(source.as_path()) {
            Some(FileFact::Missing) => "is not there",
            Some(FileFact::File { .. } | FileFact::BlockDevice | FileFact::Other) => {
                "is no directory"
            }
            Some(FileFact::Directory | FileFact::Unknown(_)) | None => continue,
        };
        checks.push(Check::fail(
            name,
            format!("the directory that it has as share {tag} {what}: {source}"),
            format!(
                "`mkdir -p {source}`, or name another under `source`; then `nkudo start {}`",
                name.trim_start_matches("vm ")
            ),
        ));
    }
    let programs = match &facts.state {
        HostState::Known { manifest, .. } => manifest.as_ref().map(|manifest| &manifest.programs),
        HostState::Unknown(_) => None,
    };
    let Some(programs) = programs else {
        return checks;
    };
    for (needed, key, why, path) in [
        (
            !vm.shares.is_empty(),
            "virtiofsd",
            "it has shares",
            &programs.virtiofsd,
        ),
        (vm.tpm.is_some(), "swtpm", "it has a TPM", &programs.swtpm),
    ] {
        let Some(path) = path.as_ref().filter(|_| needed) else {
            continue;
        };
        if !matches!(facts.files.get(path), Some(FileFact::File { .. })) {
            checks.push(Check::fail(
                name,
                format!("{why}, and {key} is not there: {path}"),
                format!(
                    "{}; `nkudo render` looks where it is by then, and `nkudo switch` takes it",
                    install(facts.distribution, key)
                ),
            ));
        }
    }
    checks
}

fn unreadable(facts: &Facts, name: &str, what: &str, path: &Utf8Path) -> Option<Check> {
    match facts.files.get(path)? {
        FileFact::Missing => Some(Check::fail(
            name,
            format!("its {what} is not there: {path}"),
            format!("put it there, or name another under `{what}`"),
        )),
        FileFact::File { readable: false } => Some(Check::fail(
            name,
            format!(
                "its {what} {path} cannot be read by everybody, and VMs' users are new with each start"
            ),
            format!("`chmod o+r {path}`"),
        )),
        FileFact::File { readable: true } => None,
        FileFact::BlockDevice | FileFact::Directory | FileFact::Other => Some(Check::fail(
            name,
            format!("its {what} {path} is no file"),
            format!("name a file under `{what}`"),
        )),
        FileFact::Unknown(why) => Some(Check::fail(
            name,
            format!("its {what} {path} cannot be looked at: {why}"),
            "run `nkudo doctor` as root",
        )),
    }
}
