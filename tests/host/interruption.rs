//! Runs that are killed, that meet, or that lose systemd: run again, they end in the same place.

use std::process::Child;
use std::time::Duration;

use super::guest::Then;
use super::host::{Host, LAN, Ran, unit, vm, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    a_switch_killed_after_each_effect_is_finished_by_the_next_with_networkd,
    a_switch_killed_after_each_effect_is_finished_by_the_next_without_networkd,
    a_switch_killed_at_any_moment_is_finished_by_the_next,
    a_render_killed_at_any_moment_leaves_whole_generations,
    of_two_switches_one_waits_and_says_for_whom,
    a_stop_that_was_killed_is_still_a_stop,
    a_switch_that_loses_the_bus_ends_and_says_so,
    a_switch_goes_on_when_systemd_executes_itself_anew,
    a_full_disk_is_said_and_the_next_switch_finishes,
];

fn a_switch_killed_after_each_effect_is_finished_by_the_next_with_networkd() {
    killed_after_each_effect(Networkd::On);
}

fn a_switch_killed_after_each_effect_is_finished_by_the_next_without_networkd() {
    killed_after_each_effect(Networkd::Off);
}

/// There and back again between two configurations that differ in everything, killed after the first
/// effect, the second, and so on until there is none to be killed after.
fn killed_after_each_effect(networkd: Networkd) {
    let host = Host::boot(networkd);
    for id in ["stays", "changes", "first", "second"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let live = |weight: u32, timeout: &str| {
        let keys = format!("limits = {{ cpu-weight = {weight} }}\nstop-timeout = \"{timeout}\"");
        vm("stays", &keys)
    };
    let first = [
        LAN,
        "[network.dmz]\naddress = [\"10.1.2.1/24\"]\n",
        &live(100, "30s"),
        &vm("changes", ""),
        &vm("first", "").replace("network = \"lan\"", "network = \"dmz\""),
    ]
    .concat();
    let second = [
        LAN,
        &live(200, "40s"),
        &vm("changes", "memory = \"128M\""),
        &vm("second", ""),
    ]
    .concat();
    host.switch_to(&first).done();
    host.switch_to(&second).done();
    // There and back, so that what is there because of the way here is there each time.
    let states: Vec<String> = ["1", "2", "1", "2"]
        .into_iter()
        .map(|generation| {
            host.nkudo(&["switch", generation]).done();
            everything(&host)
        })
        .collect();
    let pid = host.main_pid("stays");
    let mut kills = 0;
    let mut through = 0;
    for effect in 1.. {
        for generation in ["1", "2"] {
            let kill = format!("NKUDO_KILL_AFTER={effect}");
            let killed = Ran::of(
                &host
                    .machine
                    .run(&["env", &kill, "nkudo", "switch", generation]),
            );
            if killed.code == Some(0) {
                through += 1;
            } else {
                kills += 1;
                through = 0;
            }
            let told = format!("killed after effect {effect} to {generation}\n{killed}");
            let next = host.nkudo(&["switch", generation]);
            assert_eq!(next.code, Some(0), "{told}\n--- the next\n{next}");
            let expected = &states[if generation == "1" { 2 } else { 3 }];
            until("the host is as declared", || {
                let is = everything(&host);
                if is == *expected {
                    return Ok(());
                }
                let diff = similar::TextDiff::from_lines(expected, &is);
                let diff = diff.unified_diff().context_radius(0).to_string();
                Err(format!("{diff}\n{told}\n--- the next\n{next}"))
            });
            if effect % 20 == 0 {
                host.nkudo(&["switch", generation])
                    .done()
                    .says("nothing to do");
            }
        }
        if through >= 2 {
            break;
        }
    }
    assert_eq!(host.main_pid("stays"), pid);
    eprintln!("host: {kills} switches were killed, networkd {networkd:?}");
    assert!(kills >= 100, "only {kills} switches were killed");
    host.switch_to("").done();
    host.has_nothing();
}

/// All of nkudo's that is on the host, but for what is another in each run.
fn everything(host: &Host) -> String {
    let script = "systemctl list-units --all --plain --no-legend 'nkudo-vm@*' | awk '{print $1,$2,$3,$4}'
        for link in /sys/class/net/nk*; do
            echo \"$link $(basename \"$(readlink $link/master)\" 2>/dev/null) $(cat $link/carrier)\"
        done
        ip -br -4 address | grep nk-
        find /run/nkudo /run/systemd/network /run/systemd/transient /var/lib/nkudo -printf '%p %y %m %l\n' | sort
        cat /run/systemd/network/* /run/nkudo/held/* 2>/dev/null
        for id in stays changes; do
            systemctl show -p CPUWeight,TimeoutStopUSec,NeedDaemonReload nkudo-vm@$id
        done";
    let output = host.machine.run(&["sh", "-c", script]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Also where no effect is: while systemd works, and while nkudo looks.
fn a_switch_killed_at_any_moment_is_finished_by_the_next() {
    killed_at_any_moment(Networkd::On);
}

/// Between two configurations that differ in everything: a VM that goes, one that comes, one that
/// changes, one that stays, and a network that goes.
fn killed_at_any_moment(networkd: Networkd) {
    let host = Host::boot(networkd);
    for id in ["stays", "changes", "first", "second"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let stays = [LAN, &vm("stays", "")].concat();
    let in_dmz = vm("first", "").replace("network = \"lan\"", "network = \"dmz\"");
    let first = [
        &stays,
        "[network.dmz]\naddress = [\"10.1.2.1/24\"]\n",
        &vm("changes", ""),
        &in_dmz,
    ]
    .concat();
    let second = [
        &stays,
        vm("changes", "memory = \"128M\"").as_str(),
        &vm("second", ""),
    ]
    .concat();
    host.switch_to(&first).done();
    host.switch_to(&second).done();
    let pid = host.main_pid("stays");
    let mut interrupted = 0;
    let step = 67;
    // Later and later, until two in a row get through: one may have had less to do.
    let mut through = 0;
    for (round, delay) in (1..).step_by(step).enumerate() {
        let generation = if round % 2 == 0 { "1" } else { "2" };
        let after = format!("{}.{:03}", delay / 1000, delay % 1000);
        let killed = Ran::of(&host.machine.run(&[
            "timeout", "-s", "KILL", &after, "nkudo", "switch", generation,
        ]));
        if killed.code == Some(0) {
            through += 1;
        } else {
            interrupted += 1;
            through = 0;
        }
        host.nkudo(&["switch", generation]).done();
        host.nkudo(&["switch", generation])
            .done()
            .says("nothing to do");
        as_declared(
            &host,
            generation,
            &format!("killed after {delay} ms\n{killed}"),
        );
        assert_eq!(
            host.main_pid("stays"),
            pid,
            "killed after {delay} ms\n{killed}"
        );
        if through == 2 {
            break;
        }
    }
    assert!(
        interrupted >= 5,
        "only {interrupted} switches were killed while they ran"
    );
    host.switch_to("").done();
    host.has_nothing();
}

/// Checks that exactly what a generation declares is there.
#[track_caller]
fn as_declared(host: &Host, generation: &str, told: &str) {
    let (here, gone) = if generation == "1" {
        ("first", "second")
    } else {
        ("second", "first")
    };
    for id in ["stays", "changes", here] {
        assert_eq!(host.property(id, "ActiveState"), "active", "{id}: {told}");
        let bridge = if id == "first" { "nk-dmz" } else { "nk-lan" };
        host.tap_is_in(id, bridge);
    }
    host.is_gone(gone);
    assert_eq!(host.link("nk-dmz").is_some(), generation == "1", "{told}");
    let wanted: usize = 3;
    for directory in ["booted", "root", "vms"] {
        let there = host.machine.ok(&["ls", &format!("/run/nkudo/{directory}")]);
        assert_eq!(
            there.lines().count(),
            wanted,
            "{directory}: {there}\n{told}"
        );
    }
    let current = host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    assert_eq!(current, format!("generations/{generation}\n"), "{told}");
    let hidden = host.machine.ok(&[
        "find",
        "/run/nkudo",
        "/run/systemd/network",
        "-name",
        ".*",
        "-o",
        "-name",
        "*.tmp",
    ]);
    assert_eq!(hidden, "", "left behind: {told}");
}

fn a_render_killed_at_any_moment_leaves_whole_generations() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    for (round, delay) in (0..60).step_by(3).enumerate() {
        host.configure(&vm_alone("web", &format!("memory = \"{}M\"", 64 + round)));
        let after = format!("0.{delay:03}");
        host.machine
            .run(&["timeout", "-s", "KILL", &after, "nkudo", "render"]);
    }
    let rendered = host.nkudo(&["render"]).done();
    let newest: u32 = rendered.stdout.trim().parse().unwrap();
    let there = host.machine.ok(&["ls", "-A", "/var/lib/nkudo/generations"]);
    let mut numbers: Vec<u32> = there
        .lines()
        .map(|name| {
            name.parse()
                .unwrap_or_else(|_| panic!("left behind: {there}"))
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=newest).collect::<Vec<_>>());
    for number in numbers {
        let number = number.to_string();
        host.nkudo(&["switch", "--dry-run", &number]).done();
        assert!(host.exists(&format!(
            "/var/lib/nkudo/generations/{number}/units/nkudo-vm@web.service"
        )));
    }
}

/// Begins a command that goes on while the case does.
fn begin(host: &Host, arguments: &[&str]) -> Child {
    let mut argv = vec!["nkudo"];
    argv.extend(arguments);
    host.machine.spawn(&argv)
}

fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

/// A host with a VM whose stop takes three seconds.
fn slow() -> Host {
    let host = Host::boot(Networkd::On);
    host.guest("slow", Then::Halt);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("slow", "stop-timeout = \"3s\"")].concat())
        .done();
    host
}

fn stopping(host: &Host) {
    until("the slow VM is being stopped", || {
        match host.property("slow", "ActiveState").as_str() {
            "deactivating" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

fn of_two_switches_one_waits_and_says_for_whom() {
    let host = slow();
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    let first = begin(&host, &["switch"]);
    stopping(&host);
    let holder = host.machine.ok(&["cat", "/run/nkudo/lock"]);
    let second = host.nkudo(&["switch"]);
    let first = ended(first);
    first.done();
    second
        .done()
        .says(&format!(
            "waiting for another nkudo (PID {}) to finish",
            holder.trim()
        ))
        .says("nothing to do");
    host.is_gone("slow");
    host.tap_is_in("web", "nk-lan");
}

fn a_stop_that_was_killed_is_still_a_stop() {
    let host = slow();
    let mut stop = begin(&host, &["stop", "slow"]);
    stopping(&host);
    let pid = host.machine.ok(&["pgrep", "-xf", "nkudo stop slow"]);
    host.machine.ok(&["kill", "-KILL", pid.trim()]);
    stop.wait().unwrap();
    host.is_gone("slow");
    host.nkudo(&["switch"]).done();
    host.is_gone("slow");
}

fn a_switch_that_loses_the_bus_ends_and_says_so() {
    let host = slow();
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    let mut switch = begin(&host, &["switch"]);
    stopping(&host);
    host.machine
        .ok(&["systemctl", "kill", "--signal=KILL", "dbus.service"]);
    until("the switch ends", || {
        let ended = switch.try_wait().unwrap();
        ended.ok_or_else(|| "it still runs".to_owned())
    });
    let ran = ended(switch);
    assert!(matches!(ran.code, Some(1 | 4)), "{ran}");
    let ran = ran.says("D-Bus").says("error: VM slow");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    // systemd finishes what it was told, and the next switch the rest.
    until("the bus is back", || {
        let asked = host.machine.run(&["busctl", "status"]);
        if asked.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    within_the_stop(&host);
    host.nkudo(&["switch"]).done();
    host.is_gone("slow");
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.tap_is_in("web", "nk-lan");
    assert!(
        host.machine
            .run(&["systemctl", "is-active", &unit("web")])
            .status
            .success()
    );
}

fn a_switch_goes_on_when_systemd_executes_itself_anew() {
    let host = slow();
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    let switch = begin(&host, &["switch"]);
    stopping(&host);
    host.machine.ok(&["systemctl", "daemon-reexec"]);
    host.machine.ok(&["systemctl", "daemon-reload"]);
    ended(switch).done();
    host.is_gone("slow");
    host.tap_is_in("web", "nk-lan");
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_full_disk_is_said_and_the_next_switch_finishes() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.configure(&[LAN, &vm("web", "")].concat());
    host.nkudo(&["render"]).done();
    // Two places: where a VM's specification is written, and where the switch ends.
    for place in ["/run/nkudo", "/var/lib/nkudo"] {
        let fill = format!(
            "mkdir -p {place} && cp -a {place} /tmp/kept && mount -t tmpfs -o size=256k,nr_inodes=200,mode=755 full {place} && \
             cp -a /tmp/kept/. {place}/ && rm -r /tmp/kept; \
             head -c 1M /dev/zero >{place}/filler; while mktemp -q -p {place} filler.XXXX; do :; done; true"
        );
        host.machine
            .ok(&["sh", "-c", &format!("{fill} 2>/dev/null")]);
        let ran = host.nkudo(&["switch"]);
        assert!(matches!(ran.code, Some(1 | 4)), "{ran}");
        ran.says("No space left on device").does_not_say("panicked");
        let freed = format!("rm {place}/filler*");
        host.machine.ok(&["sh", "-c", &freed]);
        host.nkudo(&["switch"]).done();
        host.tap_is_in("web", "nk-lan");
        let left = host.machine.ok(&["find", place, "-name", ".nkudo-*"]);
        assert_eq!(left, "");
        host.switch_to("").done();
        host.machine.ok(&["umount", "-l", place]);
        host.configure(&[LAN, &vm("web", "")].concat());
        host.nkudo(&["render"]).done();
    }
}

fn within_the_stop(host: &Host) {
    super::until::within(
        Duration::from_secs(30),
        "the slow VM has stopped",
        || match host.property("slow", "LoadState").as_str() {
            "not-found" => Ok(()),
            other => Err(other.to_owned()),
        },
    );
}
