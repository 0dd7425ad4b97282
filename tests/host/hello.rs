//! The smallest host, from the file in examples/ to a guest that says hello.

use super::guest::{Guest, Then};
use super::host::{Host, unit};
use super::machine::Networkd;
use super::until::until;

cases![
    the_example_runs_with_networkd,
    the_example_runs_without_networkd,
];

pub(crate) const EXAMPLE: &str = include_str!("../../examples/hello.toml");
/// Where the example has its kernel.
pub(crate) const KERNEL: &str = "/srv/nkudo/hello";
pub(crate) const LINE: &str = "Hello from a virtual machine.";

fn the_example_runs_with_networkd() {
    let host = example(Networkd::On);
    let bridge = host
        .machine
        .ok(&["networkctl", "status", "nk-lan", "--no-pager"]);
    assert!(bridge.contains("-nkudo-nk-lan.network"), "{bridge}");
    let list = host
        .machine
        .ok(&["networkctl", "list", "--no-legend", "--no-pager"]);
    let tap = list.lines().find(|line| line.contains("nkt-hello-0"));
    assert!(tap.is_some_and(|tap| tap.contains("unmanaged")), "{list}");
}

fn the_example_runs_without_networkd() {
    example(Networkd::Off);
}

/// The example on a host, looked at from all sides.
fn example(networkd: Networkd) -> Host {
    let host = Host::boot(networkd);
    let guest = Guest {
        line: LINE,
        then: Then::PowerOffWhenAsked,
    };
    host.machine.write(KERNEL, guest.elf(), 0o644);
    host.configure(EXAMPLE);
    host.nkudo(&["check"]).done();
    let rendered = host.nkudo(&["render"]).done();
    assert_eq!(rendered.stdout, "1\n", "{rendered}");
    assert!(
        host.traces().is_empty(),
        "`render` changed the host: {:?}",
        host.traces()
    );
    host.nkudo(&["switch"]).done();

    assert_eq!(host.property("hello", "ActiveState"), "active");
    assert_eq!(host.property("hello", "Transient"), "yes");
    assert_eq!(host.property("hello", "Slice"), "nkudo.slice");
    let status = host
        .machine
        .ok(&["systemctl", "status", "--no-pager", "-l", &unit("hello")]);
    for part in [
        "Virtual machine hello",
        "cloud-hypervisor --api-socket",
        KERNEL,
    ] {
        assert!(status.contains(part), "no {part:?} in\n{status}");
    }
    let started = host.messages(&["NKUDO_VM=hello", "_COMM=nkudo"]);
    assert!(started.contains("started hello in"), "{started}");
    for filter in ["--unit=nkudo-vm@hello", "NKUDO_VM=hello"] {
        until("the guest's line is in the journal", || {
            let journal = host.messages(&[filter]);
            let printed = journal.lines().any(|line| line.trim_end() == LINE);
            if printed { Ok(()) } else { Err(journal) }
        });
    }

    host.tap_is_in("hello", "nk-lan");
    let bridge = host.link("nk-lan").unwrap();
    assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
    let addresses = bridge["addr_info"].as_array().unwrap();
    let has = |local: &str| {
        addresses
            .iter()
            .any(|one| one["local"] == local && one["prefixlen"] == 24)
    };
    assert!(has("192.168.100.1"), "{bridge}");

    let state_dir = "/var/lib/nkudo";
    assert_eq!(
        host.machine
            .ok(&["readlink", &format!("{state_dir}/current")]),
        "generations/1\n"
    );
    for file in ["manifest.json", "units/nkudo-vm@hello.service"] {
        assert!(
            host.exists(&format!("{state_dir}/generations/1/{file}")),
            "no {file}"
        );
    }
    assert!(host.exists("/run/nkudo/booted/hello.json"));

    let status = host.nkudo(&["status", "--json"]).done();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let vm = &status["vms"][0];
    assert_eq!(status["generation"], 1);
    assert_eq!(
        (&vm["id"], &vm["state"]),
        (&"hello".into(), &"running".into())
    );
    assert_eq!(vm["main-pid"], host.main_pid("hello"));
    host.no_nkudo_runs();
    host
}
