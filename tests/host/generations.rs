//! Which generation a switch makes the host be.

use serde_json::Value;

use super::guest::Then;
use super::host::{Host, LAN, same, vm, vm_alone};
use super::machine::Networkd;

cases![
    a_switch_refuses_a_file_that_was_not_rendered,
    an_older_generation_can_be_switched_to,
    generations_are_listed_gone_back_to_and_removed,
    what_runs_is_seen_though_the_generation_cannot_be_read,
];

fn a_switch_refuses_a_file_that_was_not_rendered() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    let pid = host.main_pid("web");
    host.configure(&[LAN, &vm("web", "memory = \"128M\"")].concat());
    let before = host.snapshot();
    host.nkudo(&["switch"])
        .ended(1)
        .says("/etc/nkudo/nkudo.toml")
        .says("nkudo render");
    same(&before, &host.snapshot(), &"by a refused switch");
    // The same for a file beside it that was not there.
    host.configure(&[LAN, &vm("web", "")].concat());
    host.machine
        .write("/etc/nkudo/nkudo.d/more.toml", "[network.more]\n", 0o644);
    host.nkudo(&["switch"])
        .ended(1)
        .says("/etc/nkudo/nkudo.d/more.toml")
        .says("nkudo render");
    host.nkudo(&["switch", "1"]).done();
    assert_eq!(host.main_pid("web"), pid);
}

fn an_older_generation_can_be_switched_to() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    host.switch_to(&[LAN, &vm("web", "")].concat()).done();
    host.switch_to(&[LAN, &vm("db", "")].concat()).done();
    host.is_gone("web");
    host.nkudo(&["switch", "1"]).done();
    host.is_gone("db");
    assert_eq!(host.property("web", "ActiveState"), "active");
    assert_eq!(
        host.machine.ok(&["readlink", "/var/lib/nkudo/current"]),
        "generations/1\n"
    );
    host.nkudo(&["switch", "3"])
        .ended(1)
        .says("no generation 3");
}

fn generations_are_listed_gone_back_to_and_removed() {
    let host = Host::boot(Networkd::Off);
    for id in ["web", "db"] {
        host.guest(id, Then::PowerOffWhenAsked);
    }
    let render = |toml: &[&str], why: &str| {
        host.configure(&toml.concat());
        let argv = ["env", "SUDO_USER=ada", "nkudo", "render", "--message", why];
        host.machine.ok(&argv);
    };
    let (web, db) = (vm("web", ""), vm("db", ""));
    let deferred = "on-change = \"defer\"\nmemory = \"128M\"";
    render(&[LAN, &web], "a web server");
    host.nkudo(&["switch"]).done();
    let pid = host.main_pid("web");
    render(&[LAN, &web, &db], "and a database");
    host.nkudo(&["switch"]).done();
    render(&[LAN, &vm("web", deferred), &db], "more memory");
    render(&[LAN, &db], "no web server");
    render(&[&vm_alone("db", "")], "no network");
    let generations = || -> serde_json::Value {
        let ran = host.nkudo(&["generations", "--json"]).done();
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let listing = generations();
    assert_eq!(listing["current"], 2, "{listing}");
    let rows = listing["generations"].as_array().unwrap();
    let expected: [(&str, &[&str]); 5] = [
        ("a web server", &["+web"]),
        ("and a database", &["+db"]),
        ("more memory", &["web"]),
        ("no web server", &["-web"]),
        ("no network", &["db", "networks"]),
    ];
    assert_eq!(rows.len(), expected.len(), "{listing}");
    for (row, (message, changes)) in rows.iter().zip(expected) {
        assert_eq!(row["message"], message, "{row}");
        assert_eq!(row["rendered-by"], "ada", "{row}");
        assert!(row["rendered-at"].is_string(), "{row}");
        assert_eq!(row["changes"], serde_json::json!(changes), "{row}");
    }
    let table = host.nkudo(&["generations"]).done();
    for said in ["2 (current)", "and a database", "ada", "+db"] {
        assert!(table.stdout.contains(said), "{table}");
    }

    // Back, and back again; the VM that both have is not touched.
    let current = || host.machine.ok(&["readlink", "/var/lib/nkudo/current"]);
    host.nkudo(&["rollback"]).done();
    assert_eq!(current(), "generations/1\n");
    host.is_gone("db");
    assert_eq!(host.main_pid("web"), pid);
    host.nkudo(&["rollback"])
        .ended(1)
        .says("no generation older than the current");
    for number in ["2", "3"] {
        host.nkudo(&["switch", number]).done();
        assert_eq!(host.main_pid("web"), pid);
    }
    host.nkudo(&["rollback", "2"]).done();
    assert_eq!(current(), "generations/2\n");
    host.nkudo(&["rollback", "3"])
        .ended(1)
        .says("generation 3 is not older");

    // `web` runs from the first, the second is current, the third cannot be read, the last is the newest.
    let third = "/var/lib/nkudo/generations/3/manifest.json";
    host.machine.write(third, "{}", 0o600);
    let gc = ["gc", "--keep", "1"];
    let young = host
        .nkudo(&[&gc[..], &["--older-than", "30d"]].concat())
        .done();
    assert_eq!(young.stdout, "", "{young}");
    for argv in [[&gc[..], &["--dry-run"]].concat(), gc.to_vec()] {
        let ran = host
            .nkudo(&argv)
            .done()
            .says("generation 3 is kept: cannot read");
        assert_eq!(ran.stdout, "4\n", "{ran}");
    }
    let left = host.machine.ok(&["ls", "/var/lib/nkudo/generations"]);
    assert_eq!(left, "1\n2\n3\n5\n");
    let error = &generations()["generations"][2]["error"];
    assert!(error.as_str().unwrap().contains("cannot read"), "{error}");
    assert_eq!(host.main_pid("web"), pid);
}

fn what_runs_is_seen_though_the_generation_cannot_be_read() {
    let host = Host::with_web(Then::PowerOffWhenAsked, "");
    let pid = host.main_pid("web");
    let manifest = host.current_manifest();
    host.machine.write(manifest, "{", 0o600);
    for arguments in [&["status"][..], &["status", "web"]] {
        let ran = host.nkudo(arguments).done().does_not_say("not declared");
        assert!(ran.stdout.contains("running"), "{ran}");
    }
    let status = || -> Value {
        serde_json::from_str(&host.nkudo(&["status", "--json"]).done().stdout).unwrap()
    };
    let seen = status();
    assert_eq!(seen["generation"], 1);
    let why = seen["unreadable"].as_str().unwrap();
    assert!(why.contains("manifest.json"), "{seen}");
    assert!(why.contains("`nkudo render`"), "{seen}");
    assert_eq!(seen["vms"][0]["declared"], true, "{seen}");
    host.nkudo(&["status", "db"])
        .ended(1)
        .says("whether it is declared is not known");
    let ran = host.nkudo(&["doctor"]).ended(1);
    assert!(ran.stdout.contains("fail declared: "), "{ran}");
    assert!(!ran.stdout.contains("not declared"), "{ran}");
    // As it is told to.
    host.nkudo(&["render"]).done();
    host.nkudo(&["switch"]).done();
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(status()["unreadable"], Value::Null);
    // A link that leads nowhere is the same.
    host.machine
        .ok(&["ln", "-sfn", "generations/9", "/var/lib/nkudo/current"]);
    let seen = status();
    assert_eq!(seen["vms"][0]["state"], "running");
    assert!(seen["unreadable"].is_string(), "{seen}");
    host.nkudo(&["switch"]).done();
    assert_eq!(host.main_pid("web"), pid);
    // No VM runs from it any more.
    host.nkudo(&["restart", "web"]).done();
    host.nkudo(&["gc", "--keep", "1"])
        .done()
        .says("rm -r /var/lib/nkudo/generations/1");
    host.machine
        .ok(&["rm", "-r", "/var/lib/nkudo/generations/1"]);
}
