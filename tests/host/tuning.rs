//! `[host.tuning]`: settings of the kernel.
//!
//! What belongs to the machine's own network is its own; huge pages and KSM are the host's that the tests run on, so
//! the machine gets files in their place.

use std::process::Command;

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, Ran, vm_alone};
use super::machine::Networkd;
use super::until::until;
use super::vmm::Vmm;

cases![
    what_is_declared_is_set_and_what_left_is_given_back,
    a_setting_that_somebody_changed_is_said_and_set_back,
    what_the_kernel_does_not_take_is_said_and_stops_nothing,
    fewer_huge_pages_than_asked_for_are_said,
    a_vm_runs_on_huge_pages_that_its_own_switch_sets_aside,
    settings_are_there_again_after_a_boot,
    a_switch_killed_between_settings_is_finished_by_the_next,
];

const SYSCTLS: &str = "[host.tuning.sysctl]\n\"net.core.somaxconn\" = 1234\n\
                       \"net.ipv4.ip_local_port_range\" = \"20000 50000\"\n";

/// The settings of the network that cases change.
fn of_the_network(host: &Host) -> [String; 2] {
    ["net/core/somaxconn", "net/ipv4/ip_local_port_range"]
        .map(|name| read(host, &format!("/proc/sys/{name}")))
}

fn read(host: &Host, path: &str) -> String {
    let text = host.machine.ok(&["cat", path]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts files in the place of what the machine shares with the host it runs on.
pub(crate) fn own_memory_settings(host: &Host) {
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    let fake = "/srv/kernel-mm";
    for (name, value) in [
        ("hugepages/hugepages-2048kB/nr_hugepages", "0"),
        ("hugepages/hugepages-2048kB/free_hugepages", "0"),
        ("ksm/run", "0"),
        ("ksm/pages_to_scan", "100"),
        ("ksm/sleep_millisecs", "20"),
    ] {
        host.machine
            .write(&format!("{fake}/{name}"), format!("{value}\n"), 0o644);
    }
    mount(host, &format!("mount --bind {fake} /sys/kernel/mm"));
    assert!(host.exists(pages));
}

/// Mounts something in the machine, which may not do so itself.
fn mount(host: &Host, script: &str) {
    let leader = host.machine.leader().to_string();
    let output = Command::new("nsenter")
        .args(["-t", &leader, "-m", "-n", "--", "sh", "-ec", script])
        .output()
        .unwrap();
    Ran::of(&output).done();
}

fn what_is_declared_is_set_and_what_left_is_given_back() {
    let host = Host::boot(Networkd::On);
    own_memory_settings(&host);
    let before = of_the_network(&host);
    let all = format!(
        "[host.tuning]\nhugepages = {{ 2M = 8 }}\nksm = {{ run = true, pages-to-scan = 1000, sleep = \"50ms\" }}\n{SYSCTLS}"
    );
    host.configure(&all);
    host.nkudo(&["render"]).done();
    let diff = host.nkudo(&["diff"]).done();
    for text in [
        "huge pages of 2M: 0 → 8",
        "KSM run: 0 → 1",
        "KSM pages_to_scan: 100 → 1000",
        "kernel setting net.core.somaxconn: ",
    ] {
        assert!(diff.stdout.contains(text), "no {text:?} in\n{diff}");
    }
    assert_eq!(of_the_network(&host), before);
    host.nkudo(&["switch"]).done();
    assert_eq!(of_the_network(&host), ["1234", "20000 50000"]);
    let mm = |name: &str| read(&host, &format!("/sys/kernel/mm/{name}"));
    let pages = || mm("hugepages/hugepages-2048kB/nr_hugepages");
    assert_eq!((pages().as_str(), mm("ksm/run").as_str()), ("8", "1"));
    assert_eq!(mm("ksm/sleep_millisecs"), "50");
    // Whatever reads such files sets the same.
    host.machine
        .ok(&["sysctl", "-q", "-w", "net.core.somaxconn=99"]);
    host.machine.write(
        "/srv/kernel-mm/hugepages/hugepages-2048kB/nr_hugepages",
        "3\n",
        0o644,
    );
    host.machine.ok(&["/usr/lib/systemd/systemd-sysctl"]);
    host.machine.ok(&["systemd-tmpfiles", "--create"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
    // Some leave, then the rest.
    host.switch_to("[host.tuning]\nhugepages = { 2M = 8 }\n")
        .done()
        .says("given back");
    assert_eq!(of_the_network(&host), before);
    assert_eq!(mm("ksm/pages_to_scan"), "100");
    let listed = host.nkudo(&["generations", "--json"]).done();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["generations"][1]["changes"][0], "tuning", "{listed}");
    assert!(!host.exists("/run/sysctl.d/61-nkudo-tuning.conf"));
    assert_eq!(pages(), "8");
    host.nkudo(&["switch"]).done().says("nothing to do");
    host.switch_to("").done();
    assert_eq!(pages(), "0");
    for file in [
        "/run/tmpfiles.d/nkudo-tuning.conf",
        "/run/nkudo/tuning.json",
    ] {
        assert!(!host.exists(file), "{file} is there");
    }
}

fn a_setting_that_somebody_changed_is_said_and_set_back() {
    let host = Host::boot(Networkd::On);
    let before = of_the_network(&host);
    host.switch_to(SYSCTLS).done();
    host.machine
        .ok(&["sysctl", "-q", "-w", "net.core.somaxconn=99"]);
    let said = "kernel setting net.core.somaxconn: 1234 is declared, and the kernel has 99";
    let status = host.nkudo(&["status"]).done();
    assert!(status.stdout.contains(said), "{status}");
    let json: Value =
        serde_json::from_str(&host.nkudo(&["status", "--json"]).done().stdout).unwrap();
    assert_eq!(json["tuning"][0]["is"][0], "99", "{json}");
    let diff = host.nkudo(&["diff"]).done();
    let change = "kernel setting net.core.somaxconn: 99 → 1234";
    assert!(diff.stdout.contains(change), "{diff}");
    host.nkudo(&["switch"]).done().says(change);
    assert_eq!(of_the_network(&host)[0], "1234");
    let status = host.nkudo(&["status"]).done();
    assert!(!status.stdout.contains("somaxconn"), "{status}");
    // What somebody changed since is theirs when it leaves the file; the rest is as it was before the first switch.
    host.machine
        .ok(&["sysctl", "-q", "-w", "net.core.somaxconn=99"]);
    host.switch_to("").done();
    assert_eq!(of_the_network(&host), ["99", &before[1]]);
}

fn what_the_kernel_does_not_take_is_said_and_stops_nothing() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    // The machine's /proc/sys is read-only, but for its network.
    let config = format!(
        "[host.tuning.sysctl]\n\"vm.swappiness\" = 11\n\"net.nothing.there\" = 1\n\"net.core.somaxconn\" = -1\n\
         \"net.ipv4.ip_local_port_range\" = \"20000 50000\"\n[host.tuning]\ncpu-governor = \"conservative\"\n{}",
        vm_alone("web", "")
    );
    let switch = host.switch_to(&config);
    let switch = switch
        .ended(5)
        .says("kernel setting vm.swappiness: 11 is declared, and the kernel has ")
        .says("Read-only file system")
        .says("in a container its host sets it")
        .says("kernel setting net.nothing.there: 1 is declared, and the kernel has no such setting")
        .says("modprobe")
        .says("kernel setting net.core.somaxconn: -1 is declared")
        .says("Invalid argument")
        .says("CPU governor: conservative is declared")
        .says("switched to generation 1");
    assert!(
        !switch
            .stderr
            .contains("local_port_range: 20000 50000 is declared")
    );
    assert_eq!(of_the_network(&host)[1], "20000 50000");
    host.printed("web", 1);
    // It is the current generation, and said until it is so.
    host.nkudo(&["switch"]).ended(5).says("vm.swappiness");
    host.nkudo(&["stop", "web"]).done();
    host.nkudo(&["start", "web"]).done();
    host.switch_to("").done();
}

fn fewer_huge_pages_than_asked_for_are_said() {
    let host = Host::boot(Networkd::On);
    own_memory_settings(&host);
    host.switch_to(LAN).done();
    // A file of the kernel's that keeps its own number, 16, whatever is written to it.
    mount(
        &host,
        "mkdir -p /srv/sysfs; mount -t sysfs sysfs /srv/sysfs; mount -o remount,rw /srv/sysfs; \
         mount --bind /srv/sysfs/class/net/nk-lan/bridge/hash_elasticity /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    );
    let config = format!("[host.tuning]\nhugepages = {{ 2M = 512 }}\n{LAN}");
    let said = "huge pages of 2M: 512 is declared, and the kernel has 16";
    host.switch_to(&config)
        .ended(5)
        .says(said)
        .says("`hugepagesz=2048K hugepages=512` on the kernel's command line");
    let status = host.nkudo(&["status"]).done();
    assert!(status.stdout.contains(said), "{status}");
    // It is tried at each switch.
    host.nkudo(&["switch"])
        .ended(5)
        .says("huge pages of 2M: 16 → 512");
    host.switch_to(LAN).done();
    host.nkudo(&["switch"]).done().says("nothing to do");
}

/// Eight pages of the host's that the tests run on, and back.
fn a_vm_runs_on_huge_pages_that_its_own_switch_sets_aside() {
    let host = Host::boot(Networkd::Off);
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    if !host.exists(pages) {
        eprintln!("host: one case is skipped: the kernel has no huge pages of 2M");
        return;
    }
    mount(&host, "mount -o remount,rw /sys/kernel");
    let before: u32 = read(&host, pages).parse().unwrap();
    host.guest("web", Then::PowerOffWhenAsked);
    let config = format!(
        "[host.tuning]\nhugepages = {{ 2M = {} }}\n{}",
        before + 8,
        vm_alone("web", "memory = { size = \"16M\", hugepages = \"2M\" }")
    );
    host.switch_to(&config)
        .done()
        .says(&format!("huge pages of 2M: {before} → {}", before + 8));
    host.printed("web", 1);
    let doctor = host.nkudo(&["doctor"]);
    let line = doctor
        .stdout
        .lines()
        .find(|line| line.contains("hugepages: "));
    let line = line.unwrap_or_else(|| panic!("{doctor}"));
    assert!(
        line.starts_with("ok   hugepages: VMs want 8 pages of 2M"),
        "{line}"
    );
    // The stand-in has no memory for a guest.
    if matches!(Vmm::chosen(), Vmm::Real(_)) {
        assert!(!line.contains("of which VMs use 0 "), "{line}");
    }
    host.switch_to("").done();
    until("the pages are given back", || {
        let now = read(&host, pages);
        if now == before.to_string() {
            Ok(())
        } else {
            Err(now)
        }
    });
}

fn settings_are_there_again_after_a_boot() {
    let mut host = Host::boot(Networkd::On);
    host.machine
        .ok(&["systemctl", "enable", "nkudo-boot.service"]);
    host.switch_to(SYSCTLS).done();
    host.machine.reboot();
    let file = host
        .machine
        .ok(&["cat", "/run/sysctl.d/61-nkudo-tuning.conf"]);
    assert!(file.contains("net.core.somaxconn = 1234"), "{file}");
    assert_eq!(of_the_network(&host), ["1234", "20000 50000"]);
    host.nkudo(&["switch"]).done().says("nothing to do");
}

fn a_switch_killed_between_settings_is_finished_by_the_next() {
    let host = Host::boot(Networkd::On);
    let before = of_the_network(&host);
    host.switch_to(SYSCTLS).done();
    host.switch_to("[host.tuning.sysctl]\n\"net.core.somaxconn\" = 77\n")
        .done();
    let states = [["1234", "20000 50000"], ["77", before[1].as_str()]];
    let (mut kills, mut through) = (0, 0);
    for effect in 1.. {
        for (generation, state) in ["1", "2"].into_iter().zip(&states) {
            let kill = format!("NKUDO_KILL_AFTER={effect}");
            let killed = host
                .machine
                .run(&["env", &kill, "nkudo", "switch", generation]);
            if killed.status.success() {
                through += 1;
            } else {
                (kills, through) = (kills + 1, 0);
            }
            host.nkudo(&["switch", generation]).done();
            assert_eq!(of_the_network(&host), *state, "killed after {effect}");
        }
        if through >= 2 {
            break;
        }
    }
    assert!(kills >= 10, "only {kills} switches were killed");
    host.switch_to("").done();
    assert_eq!(of_the_network(&host), before);
    host.has_nothing();
}
