//! `nkudo doctor`: what is declared, against what there is.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, vm, vm_alone};
use super::machine::Networkd;
use super::tuning::own_memory_settings;
use super::until::until;

cases![
    networks_are_compared_with_what_is_declared,
    a_port_that_a_program_of_the_hosts_listens_on_is_told_of,
    huge_pages_that_vms_want_are_counted,
    settings_are_compared_with_the_kernels_and_with_other_files,
    shares_and_tpms_need_their_directory_and_their_program,
];

const NAT: &str = "[network.lan]\naddress = [\"192.168.100.1/24\"]\nnat = true\ndhcp = true\n";

/// All checks of that name, as `verdict what → remedy`.
#[track_caller]
fn said(host: &Host, name: &str) -> String {
    let ran = host.nkudo(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    let checks = report["checks"].as_array().unwrap();
    let of_name = checks.iter().filter(|check| check["name"] == name);
    let lines: Vec<String> = of_name
        .map(|check| {
            let text = |key: &str| check[key].as_str().unwrap_or_default();
            let (verdict, what) = (text("verdict"), text("what"));
            format!("{verdict} {what} → {}", text("remedy"))
        })
        .collect();
    lines.join("\n")
}

#[track_caller]
fn says(host: &Host, name: &str, texts: &[&str]) {
    let said = said(host, name);
    for text in texts {
        assert!(said.contains(text), "no {text:?} in\n{said}");
    }
}

fn networks_are_compared_with_what_is_declared() {
    for networkd in [Networkd::On, Networkd::Off] {
        let host = Host::boot(networkd);
        host.guest("web", Then::PowerOffWhenAsked);
        host.switch_to(&[NAT, &vm("web", "")].concat()).done();
        host.tap_is_in("web", "nk-lan");
        let fine = "ok the bridge nk-lan is up, with 192.168.100.1/24; one VM's NIC is on it";
        says(&host, "network lan", &[fine]);
        says(
            &host,
            "rules",
            &["ok the firewall rules are loaded, as declared"],
        );
        says(
            &host,
            "forwarding",
            &["warn the host has no default route for IPv4"],
        );
        // A way out: what guests send is passed on to it from the next switch on.
        for command in [
            "ip link add out0 type bridge",
            "ip addr add 203.0.113.2/24 dev out0",
            "ip link set out0 up",
            "ip route add default via 203.0.113.1 dev out0",
        ] {
            host.machine.ok(&command.split(' ').collect::<Vec<_>>());
        }
        says(
            &host,
            "forwarding",
            &[
                "fail ",
                "net.ipv4.conf.out0.forwarding is 0, and has to be 1",
            ],
        );
        host.nkudo(&["switch"]).done();
        says(
            &host,
            "forwarding",
            &["ok IPv4 is passed on by nk-lan, out0"],
        );
        for (damage, name, text) in [
            (
                "ip link set nkt-web-0 nomaster",
                "network lan",
                "fail the TAP nkt-web-0 is not in nk-lan as it should be",
            ),
            (
                "ip addr add 10.66.66.1/24 dev nk-lan",
                "network lan",
                "fail the bridge nk-lan has 10.66.66.1/24 besides",
            ),
            (
                "nft flush ruleset",
                "rules",
                "fail the firewall rules are gone → `nkudo switch` loads them",
            ),
            (
                "nft add rule inet nkudo forward drop",
                "rules",
                "fail the firewall rules are not as they were loaded",
            ),
            (
                "sysctl -q -w net.ipv4.conf.nk-lan.forwarding=0",
                "forwarding",
                "fail what is passed on is not as networks need it: net.ipv4.conf.nk-lan.forwarding is 0",
            ),
        ] {
            host.machine.ok(&damage.split(' ').collect::<Vec<_>>());
            says(&host, name, &[text]);
            host.nkudo(&["switch"]).done();
            assert!(!said(&host, name).contains("fail"), "{}", said(&host, name));
        }
        if networkd == Networkd::Off {
            host.machine
                .ok(&["systemctl", "stop", "nkudo-dhcp@lan.service"]);
            says(
                &host,
                "network lan",
                &["fail the DHCP server of network lan does not run"],
            );
            host.nkudo(&["switch"]).done();
        }
        says(&host, "network lan", &[fine]);
    }
}

fn a_port_that_a_program_of_the_hosts_listens_on_is_told_of() {
    let host = Host::boot(Networkd::On);
    let forward = "[network.lan]\naddress = [\"192.168.100.1/24\"]\nforward = [{ port = 8080, to = \"web:80\" }]\n\
                   [vm.web]\nkernel = \"/srv/guests/web\"\nautostart = false\n\
                   nic = [{ network = \"lan\", address = \"192.168.100.10\" }]\n";
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(forward).done();
    says(&host, "network lan", &["ok the bridge nk-lan is up"]);
    // What is declared not to start is no complaint.
    says(
        &host,
        "vm web",
        &["ok it is stopped, and `autostart` is false"],
    );
    let serve = |address: &str| {
        let unit = "--unit=listener";
        let argv = [
            "systemd-run",
            "-q",
            unit,
            "python3",
            "-m",
            "http.server",
            "-b",
            address,
            "8080",
        ];
        host.machine.ok(&argv);
        until("it listens", || {
            let found = host.machine.ok(&["ss", "-ltn", "sport = :8080"]);
            if found.contains("LISTEN") {
                Ok(())
            } else {
                Err(found)
            }
        });
    };
    serve("0.0.0.0");
    let warned =
        "warn port 8080/tcp is forwarded to VM web, and a program of the host listens on it too";
    says(&host, "network lan", &[warned]);
    host.machine.ok(&["systemctl", "stop", "listener"]);
    // That one is reached as before.
    serve("127.0.0.1");
    says(&host, "network lan", &["ok the bridge nk-lan is up"]);
    assert!(!said(&host, "network lan").contains("warn"));
}

fn huge_pages_that_vms_want_are_counted() {
    let host = Host::boot(Networkd::Off);
    own_memory_settings(&host);
    host.guest("web", Then::PowerOffWhenAsked);
    let free = |count: &str| {
        let file = "/srv/kernel-mm/hugepages/hugepages-2048kB/free_hugepages";
        host.machine.write(file, format!("{count}\n"), 0o644);
    };
    let web = vm_alone(
        "web",
        "memory = { size = \"128M\", hugepages = \"2M\" }\nautostart = false",
    );
    host.switch_to(&web).done();
    says(
        &host,
        "hugepages",
        &[
            "fail VMs want 64 pages of 2M; the host has 0, of which VMs use 0 and 0 are free",
            "`hugepages.\"2M\" = 64` under `[host.tuning]`, then `nkudo render` and `nkudo switch`",
        ],
    );
    // The remedy, as it is written.
    let tuned = format!("[host.tuning]\nhugepages.\"2M\" = 64\n{web}");
    host.switch_to(&tuned).done();
    free("64");
    says(
        &host,
        "hugepages",
        &["ok VMs want 64 pages of 2M; the host has 64"],
    );
    // Others have some of them: more is needed than VMs want.
    free("60");
    says(&host, "hugepages", &["fail ", "`hugepages.\"2M\" = 68`"]);
    host.switch_to(&tuned.replace("= 64", "= 68")).done();
    free("64");
    says(&host, "hugepages", &["ok ", "the host has 68"]);
    // The kernel has fewer than it was asked for.
    let total = "/srv/kernel-mm/hugepages/hugepages-2048kB/nr_hugepages";
    host.machine.write(total, "10\n", 0o644);
    free("10");
    says(
        &host,
        "hugepages",
        &[
            "fail ",
            "at boot there is memory for them: `hugepagesz=2048K hugepages=64` on the kernel's command line",
        ],
    );
    says(
        &host,
        "tuning",
        &["fail huge pages of 2M: 68 is declared, and the kernel has 10"],
    );
}

fn settings_are_compared_with_the_kernels_and_with_other_files() {
    let host = Host::boot(Networkd::Off);
    says(&host, "tuning", &[]);
    host.switch_to("[host.tuning.sysctl]\n\"net.core.somaxconn\" = 1234\n")
        .done();
    says(&host, "tuning", &["ok 1 setting is as declared"]);
    host.machine.write(
        "/etc/sysctl.d/99-mine.conf",
        "# mine\nnet.core.somaxconn=99\nnet.core.rmem_max = 1000000\n",
        0o644,
    );
    host.machine.write(
        "/etc/sysctl.d/10-first.conf",
        "-net/core/soma* = 7\n",
        0o644,
    );
    let conflict = said(&host, "tuning");
    for text in [
        "warn kernel setting net.core.somaxconn: 1234 is declared, and /etc/sysctl.d/99-mine.conf:2, which goes after nkudo's file, has 99",
        "warn kernel setting net.core.somaxconn: 1234 is declared, and /etc/sysctl.d/10-first.conf:1, which goes before nkudo's file, has 7",
        "ok 1 setting is as declared",
    ] {
        assert!(conflict.contains(text), "no {text:?} in\n{conflict}");
    }
    assert!(
        !conflict.contains("rmem_max") && !conflict.contains("fail"),
        "{conflict}"
    );
    // It is so: the next run of systemd-sysctl sets the other.
    host.machine.ok(&["/usr/lib/systemd/systemd-sysctl"]);
    says(
        &host,
        "tuning",
        &[
            "fail kernel setting net.core.somaxconn: 1234 is declared, and the kernel has 99 → `nkudo switch` sets it",
        ],
    );
    host.nkudo(&["doctor"]).ended(1);
    host.machine.ok(&["rm", "/etc/sysctl.d/99-mine.conf"]);
    host.nkudo(&["switch"]).done();
    assert!(!said(&host, "tuning").contains("fail"));
}

fn shares_and_tpms_need_their_directory_and_their_program() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    host.machine.write("/srv/shared/a", "a", 0o644);
    let web = vm_alone(
        "web",
        "tpm = true\n\n[[vm.web.share]]\ntag = \"srv\"\nsource = \"/srv/shared\"",
    );
    host.switch_to(&web).done();
    let before = said(&host, "vm web");
    assert!(
        !before.contains("share") && !before.contains("TPM"),
        "{before}"
    );
    host.machine.ok(&["mv", "/srv/shared", "/srv/elsewhere"]);
    says(
        &host,
        "vm web",
        &[
            "fail the directory that it has as share srv is not there: /srv/shared → `mkdir -p /srv/shared`",
        ],
    );
    host.machine.write("/srv/shared", "", 0o644);
    says(&host, "vm web", &["share srv is no directory"]);
    let programs = ["virtiofsd", "swtpm"].map(|name| {
        let find = format!("ls /usr/libexec/{name} /usr/bin/{name} 2>/dev/null | head -n 1");
        let path = host.machine.ok(&["sh", "-c", &find]).trim().to_owned();
        host.machine.ok(&["mv", &path, &format!("{path}.away")]);
        path
    });
    says(
        &host,
        "vm web",
        &[
            &format!(
                "fail it has shares, and virtiofsd is not there: {} → apt install virtiofsd",
                programs[0]
            ),
            &format!(
                "fail it has a TPM, and swtpm is not there: {} → apt install swtpm",
                programs[1]
            ),
        ],
    );
    for path in &programs {
        host.machine.ok(&["mv", &format!("{path}.away"), path]);
    }
    host.machine.ok(&[
        "sh",
        "-c",
        "rm /srv/shared && mv /srv/elsewhere /srv/shared",
    ]);
    until("nothing is wrong with web", || {
        let said = said(&host, "vm web");
        if said.contains("share") || said.contains("TPM") {
            Err(said)
        } else {
            Ok(())
        }
    });
}
