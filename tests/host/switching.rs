//! Switching: what changes, what does not, and what happens when it is interrupted.

use std::time::Duration;

use super::Case;
use super::guest::Then;
use super::machine::{Machine, Networkd};

pub(super) const CASES: &[Case] = &[
    (
        "a_changed_vm_restarts_alone_and_says_why",
        a_changed_vm_restarts_alone_and_says_why,
    ),
    (
        "what_left_the_file_leaves_nothing_behind",
        what_left_the_file_leaves_nothing_behind,
    ),
    (
        "mistakes_are_exit_code_3_and_change_nothing",
        mistakes_are_exit_code_3_and_change_nothing,
    ),
    (
        "a_file_that_changed_since_render_is_refused",
        a_file_that_changed_since_render_is_refused,
    ),
    (
        "an_old_hypervisor_is_one_clear_error_before_any_effect",
        an_old_hypervisor_is_one_clear_error_before_any_effect,
    ),
    (
        "a_unit_file_that_takes_a_vms_name_is_an_error_before_any_effect",
        a_unit_file_that_takes_a_vms_name_is_an_error_before_any_effect,
    ),
    (
        "a_switch_killed_at_any_moment_is_finished_by_the_next",
        a_switch_killed_at_any_moment_is_finished_by_the_next,
    ),
    (
        "two_switches_at_once_end_as_one",
        two_switches_at_once_end_as_one,
    ),
    (
        "a_switch_that_loses_the_bus_says_so_and_the_next_finishes",
        a_switch_that_loses_the_bus_says_so_and_the_next_finishes,
    ),
];

fn vm(id: &str, memory: &str) -> String {
    format!(
        "[vm.{id}]\nmemory = \"{memory}\"\nkernel = \"/srv/hello\"\nstop-timeout = \"100ms\"\n\
         [[vm.{id}.nic]]\nnetwork = \"lan\"\n"
    )
}

const LAN: &str = "[network.lan]\naddress = [\"192.168.100.1/24\"]\n";

fn with_hello() -> Machine {
    let machine = Machine::boot(Networkd::On);
    machine.guest("hello", Then::Halt);
    machine
}

fn a_changed_vm_restarts_alone_and_says_why() {
    let machine = with_hello();
    let before = format!("{LAN}{}{}", vm("one", "64M"), vm("two", "64M"));
    machine.switch(&before).exits(0);
    let (one, two) = (machine.main_pid("one"), machine.main_pid("two"));
    machine.configure(&format!("{LAN}{}{}", vm("one", "96M"), vm("two", "64M")));
    // `diff` says it before anything is rendered, and the dry run after.
    let said = machine.nkudo(&["diff"]).stdout();
    assert_eq!(
        said,
        "VM one: restart: it changed\n    memory.size: 64M → 96M\n"
    );
    machine.nkudo(&["render"]).exits(0);
    assert_eq!(machine.nkudo(&["switch", "--dry-run"]).stdout(), said);
    assert_eq!(machine.main_pid("one"), one);
    machine.nkudo(&["switch"]).exits(0);
    assert_ne!(machine.main_pid("one"), one);
    assert_eq!(machine.main_pid("two"), two);
    // Back to the generation before, by its number.
    machine.nkudo(&["switch", "1"]).exits(0);
    assert_eq!(machine.main_pid("two"), two);
    let target = machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(target.trim(), "generations/1");
}

fn what_left_the_file_leaves_nothing_behind() {
    let machine = with_hello();
    let links = machine.links();
    machine
        .switch(&format!("{LAN}{}", vm("hello", "64M")))
        .exits(0);
    assert_ne!(machine.links(), links);
    machine.switch("").exits(0);
    assert_eq!(machine.vm_units(), "");
    assert_eq!(machine.links(), links);
    let left = machine.ok(&[
        "find",
        "/run/nkudo",
        "/run/systemd/network",
        "/run/systemd/transient",
        "-type",
        "f",
    ]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["/run/nkudo/lock", "/run/nkudo/state-dir"]);
    let directories = machine.ok(&[
        "find",
        "/run/nkudo/root",
        "/run/nkudo/vms",
        "-mindepth",
        "1",
    ]);
    assert_eq!(directories, "");
}

fn mistakes_are_exit_code_3_and_change_nothing() {
    let machine = with_hello();
    let state = || {
        let mut state = machine.ok(&["ip", "address"]);
        state.push_str(&machine.ok(&[
            "find",
            "/etc",
            "/run/systemd",
            "/var/lib",
            "-newer",
            "/etc/nkudo/nkudo.toml",
            "-not",
            "-path",
            "*journal*",
        ]));
        state.push_str(&machine.vm_units());
        state
    };
    machine.configure("[vm.hello]\nmemroy = \"64M\"\nkernel = \"relative\"\n[vm.Bad]\n");
    let before = state();
    for command in [&["check"][..], &["render"], &["diff"]] {
        let said = machine.nkudo(command).exits(3);
        for text in [
            "/etc/nkudo/nkudo.toml:2:1",
            "memroy",
            "nkudo.toml:3:10",
            "nkudo.toml:4:5",
        ] {
            assert!(said.contains(text), "{command:?}: {text} is not in\n{said}");
        }
    }
    machine.nkudo(&["switch"]).exits(1);
    machine.nkudo(&["no-such-command"]).exits(2);
    assert_eq!(state(), before);
}

fn a_file_that_changed_since_render_is_refused() {
    let machine = with_hello();
    machine
        .switch(&format!("{LAN}{}", vm("hello", "64M")))
        .exits(0);
    let pid = machine.main_pid("hello");
    machine.configure(&format!("{LAN}{}", vm("hello", "96M")));
    let said = machine.nkudo(&["switch"]).exits(1);
    assert!(
        said.contains("/etc/nkudo/nkudo.toml has changed since generation 1"),
        "{said}"
    );
    assert!(said.contains("hint: `nkudo render`"), "{said}");
    // A drop-in that appeared is such a change too.
    machine.configure(&format!("{LAN}{}", vm("hello", "64M")));
    machine.write("/etc/nkudo/nkudo.d/more.toml", vm("more", "64M"), 0o644);
    let said = machine.nkudo(&["switch"]).exits(1);
    assert!(
        said.contains("/etc/nkudo/nkudo.d/more.toml has changed"),
        "{said}"
    );
    assert_eq!(machine.main_pid("hello"), pid);
}

fn an_old_hypervisor_is_one_clear_error_before_any_effect() {
    let machine = with_hello();
    let old = "#!/bin/sh\necho cloud-hypervisor v45.0\n";
    machine.write("/opt/old", old, 0o755);
    machine.configure(&format!(
        "[host]\nhypervisor = \"/opt/old\"\n{LAN}{}",
        vm("hello", "64M")
    ));
    for command in ["check", "render"] {
        let said = machine.nkudo(&[command]).exits(1);
        assert!(
            said.contains("/opt/old is version 45.0, and nkudo needs 46.0 or newer"),
            "{said}"
        );
    }
    // It was new enough when it was rendered, and is not any more.
    machine.write("/opt/old", old.replace("45", "53"), 0o755);
    machine.nkudo(&["render"]).exits(0);
    machine.write("/opt/old", old, 0o755);
    let said = machine.nkudo(&["switch"]).exits(1);
    assert!(said.contains("/opt/old is version 45.0"), "{said}");
    assert_eq!(machine.links(), ["lo"]);
}

fn a_unit_file_that_takes_a_vms_name_is_an_error_before_any_effect() {
    let machine = with_hello();
    machine.write(
        "/etc/systemd/system/nkudo-vm@.service",
        "[Service]\nExecStart=/bin/true\n",
        0o644,
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    let said = machine
        .switch(&format!("{LAN}{}", vm("hello", "64M")))
        .exits(1);
    assert!(said.contains("nkudo-vm@.service"), "{said}");
    assert_eq!(machine.links(), ["lo"]);
    machine.ok(&["rm", "/etc/systemd/system/nkudo-vm@.service"]);
    machine.ok(&["systemctl", "mask", "nkudo-vm@hello.service"]);
    let said = machine.nkudo(&["switch"]).exits(1);
    assert!(said.contains("unmask"), "{said}");
    machine.ok(&["systemctl", "unmask", "nkudo-vm@hello.service"]);
    machine.nkudo(&["switch"]).exits(0);
}

/// Kills switches later and later, from the first moment until they get through.
fn a_switch_killed_at_any_moment_is_finished_by_the_next() {
    let machine = with_hello();
    let old = format!("{LAN}{}{}", vm("one", "64M"), vm("gone", "64M"));
    let new = format!(
        "[network.lan]\naddress = [\"192.168.101.1/24\"]\n[network.dmz]\n{}{}",
        vm("one", "96M"),
        vm("more", "64M")
    );
    machine.switch(&old).exits(0);
    machine.configure(&new);
    machine.nkudo(&["render"]).exits(0);
    let mut number = "2";
    let mut delay = Duration::ZERO;
    loop {
        let seconds = format!("{:.3}", delay.as_secs_f32());
        let killed = machine.run(&["timeout", "-s", "KILL", &seconds, "nkudo", "switch", number]);
        // `timeout` ends by its own signal where it had to send it; 0 means no time limit.
        let through = delay > Duration::ZERO && killed.status.success();
        let said = machine.nkudo(&["switch", number]).exits(0);
        let said = said + &machine.nkudo(&["switch", number]).exits(0);
        assert!(
            said.contains("nothing to do"),
            "killed after {delay:?}: {said}"
        );
        let (vms, links) = if number == "2" {
            (
                ["more", "one"],
                ["lo", "nk-dmz", "nk-lan", "nkt-more-0", "nkt-one-0"].as_slice(),
            )
        } else {
            (
                ["gone", "one"],
                ["lo", "nk-lan", "nkt-gone-0", "nkt-one-0"].as_slice(),
            )
        };
        assert_eq!(machine.links(), links, "killed after {delay:?}");
        for id in vms {
            machine.main_pid(id);
        }
        assert_eq!(machine.vm_units().lines().count(), 2);
        if through {
            break;
        }
        number = if number == "2" { "1" } else { "2" };
        delay += Duration::from_millis(if delay.is_zero() { 1 } else { 23 });
    }
}

fn two_switches_at_once_end_as_one() {
    let machine = with_hello();
    machine.configure(&format!("{LAN}{}{}", vm("one", "64M"), vm("two", "64M")));
    machine.nkudo(&["render"]).exits(0);
    let both = machine.ok(&[
        "sh",
        "-c",
        "nkudo switch 2>/tmp/a & nkudo switch 2>/tmp/b & wait; cat /tmp/a /tmp/b",
    ]);
    assert_eq!(both.matches("VM one: start").count(), 1, "{both}");
    assert_eq!(both.matches("nothing to do").count(), 1, "{both}");
    machine.main_pid("one");
    machine.main_pid("two");
}

fn a_switch_that_loses_the_bus_says_so_and_the_next_finishes() {
    let machine = with_hello();
    // A VMM that is never ready holds the switch up until the bus is gone.
    machine.write("/opt/slow", "#!/usr/bin/sh\n[ \"$1\" = --version ] && echo cloud-hypervisor v53.0 && exit\nexec sleep 600\n", 0o755);
    let slow = format!(
        "[host]\nhypervisor = \"/opt/slow\"\n{LAN}{}",
        vm("hello", "64M")
    );
    machine.configure(&slow);
    machine.nkudo(&["render"]).exits(0);
    let said = machine.ok(&[
        "sh",
        "-c",
        "nkudo switch 2>/tmp/a & pid=$!
         n=0; until [ \"$(systemctl show -P SubState nkudo-vm@hello)\" = start-post ] || [ $n = 500 ]; do n=$((n+1)); done
         systemctl kill -s KILL dbus.service; wait $pid; echo \"exit $?\"; cat /tmp/a",
    ]);
    assert!(said.contains("exit 4") || said.contains("exit 1"), "{said}");
    assert!(said.contains("connection to D-Bus was lost"), "{said}");
    machine.until("D-Bus is back", || {
        machine
            .run(&[
                "busctl",
                "call",
                "org.freedesktop.DBus",
                "/",
                "org.freedesktop.DBus",
                "GetId",
            ])
            .status
            .success()
    });
    machine
        .switch(&format!("{LAN}{}", vm("hello", "96M")))
        .exits(0);
    machine.main_pid("hello");
}
