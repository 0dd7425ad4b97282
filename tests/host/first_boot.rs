//! The seed of a VM: who may read it, when it changes, and what real cloud-init makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::guest::Then;
use super::host::{Host, LAN, unit, vm, vm_alone};
use super::machine::Networkd;

cases![
    a_seed_is_read_by_its_vm_and_by_nobody_else,
    a_changed_seed_waits_for_the_next_start_and_another_instance_id_restarts,
    cloud_init_reads_the_seed_as_it_was_written,
];

/// What needs a reader of FAT volumes.
pub(crate) const READ: &[super::Case] = &[super::Case {
    name: "first_boot::others_read_the_volume_as_it_was_written",
    run: others_read_the_volume_as_it_was_written,
}];

const IMAGE: &str = "/run/nkudo/seeds/web.img";

fn ends_with(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    assert!(
        output.status.success(),
        "{argv:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_seed_is_read_by_its_vm_and_by_nobody_else() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    host.guest("db", Then::PowerOffWhenAsked);
    let seeded = |id: &str| vm_alone(id, "cloud-init = {}\n");
    host.switch_to(&[seeded("web"), seeded("db")].concat())
        .done();
    host.printed("web", 1);
    let pid = host.main_pid("web");
    let files = host.machine.ok(&["ls", "-l", &format!("/proc/{pid}/fd")]);
    assert!(files.contains(IMAGE), "{IMAGE} is not open:\n{files}");
    let acl = host.machine.ok(&[
        "getfacl",
        "--absolute-names",
        "--numeric",
        "--omit-header",
        IMAGE,
    ]);
    let owner = host.machine.ok(&["stat", "-c", "%u", "/run/nkudo/vms/web"]);
    let uid = owner.trim();
    assert!(acl.contains(&format!("user:{uid}:r--")), "{uid}: {acl}");
    assert!(acl.contains("user::rw-"), "{acl}");
    assert!(
        acl.contains("group::---") && acl.contains("other::---"),
        "{acl}"
    );
    assert_eq!(acl.matches("user:").count(), 2, "{acl}");
    // Another VM does not even see it, nor may anybody write it.
    let db = host.main_pid("db");
    let others = host
        .machine
        .ok(&["ls", &format!("/proc/{db}/root/run/nkudo/seeds")]);
    assert_eq!(others, "db.img\n");
    let touched = host
        .machine
        .run(&["touch", &format!("/proc/{pid}/root{IMAGE}")]);
    assert!(!touched.status.success(), "it can be written");

    host.machine.ok(&["systemctl", "stop", &unit("web")]);
    host.is_gone("web");
    let left = host
        .machine
        .ok(&["getfacl", "--absolute-names", "--numeric", IMAGE]);
    assert!(!left.contains(uid), "{left}");
    host.switch_to("").done();
    host.has_nothing();
}

fn a_changed_seed_waits_for_the_next_start_and_another_instance_id_restarts() {
    let host = Host::boot(Networkd::On);
    host.guest("web", Then::PowerOffWhenAsked);
    let config = |more: &str| vm_alone("web", &format!("[vm.web.cloud-init]\n{more}"));
    host.machine.write(
        "/etc/nkudo/web.yaml",
        "#cloud-config\npackages: [vim]\n",
        0o600,
    );
    let file = "user-data-file = \"/etc/nkudo/web.yaml\"\n";
    host.switch_to(&config(file)).done();
    let (pid, before) = (host.main_pid("web"), content(&host));
    assert!(before.contains("packages: [vim]"), "{before}");

    host.machine.write(
        "/etc/nkudo/web.yaml",
        "#cloud-config\npackages: [emacs]\n",
        0o600,
    );
    host.nkudo(&["switch"])
        .ended(1)
        .says("/etc/nkudo/web.yaml has changed since generation 1 was rendered");
    let switched = host.switch_to(&config(file)).done();
    switched
        .says("cloud-init.user-data: ")
        .says("(for a first boot)");
    assert_eq!(host.main_pid("web"), pid);
    assert!(content(&host).contains("packages: [emacs]"));
    host.nkudo(&["switch"]).done().says("nothing to do");

    // It is there again after a crash.
    host.machine.ok(&["kill", "-KILL", &pid.to_string()]);
    let pid = host.active_again("web", pid);
    let again = config(&format!("{file}instance-id = \"again\"\n"));
    host.switch_to(&again)
        .done()
        .says("cloud-init.instance-id: 61e0326d-ca85-53c2-9061-83b28dd4b1e6 → again");
    assert_ne!(host.main_pid("web"), pid);
    assert!(content(&host).contains("\"again\""));

    // User-data that cloud-init could not read changes nothing.
    host.machine.write(
        "/etc/nkudo/web.yaml",
        "#cloud-config\npackages: emacs\n",
        0o600,
    );
    host.nkudo(&["check"])
        .ended(3)
        .says("/etc/nkudo/web.yaml:2:1")
        .says("`packages` of a cloud-config is a list, not a text");
    host.machine.ok(&["rm", "/etc/nkudo/web.yaml"]);
    host.nkudo(&["render"])
        .ended(3)
        .says("cannot read `/etc/nkudo/web.yaml`: No such file or directory");
}

/// All that is in the volume, as text.
fn content(host: &Host) -> String {
    let bytes = fs::read(host.machine.inside(IMAGE)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every key, and a file that they are joined to.
const CONFIG: &str = r#"
instance-id = "first"
hostname = "www.example.org"
ssh-authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"]
timezone = "Europe/Berlin"
packages = ["nginx"]
runcmd = [["touch", "/run/second"], "echo \"it's: $HOME\""]
user-data = """
#cloud-config
# A user's own: größe
packages:
  - vim
runcmd:
  - touch /run/first
write_files:
  - {path: /srv/first, content: "mine: ä"}
"""

[[vm.web.cloud-init.users]]
name = "admin"
gecos = "no"
groups = ["adm"]
shell = "/bin/sh"
sudo = "ALL=(ALL) NOPASSWD:ALL"
ssh-authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnother admin@example.org"]
hashed-passwd = "$6$ab$cd"

[[vm.web.cloud-init.write-files]]
path = "/srv/second"
content = "a: b\n\t# \"c\" ünï \\ 12:34:56\n"
permissions = "0600"
"#;

/// The seed's files, as the generation has them.
fn rendered(host: &Host) -> BTreeMap<String, Vec<u8>> {
    files(
        &host
            .machine
            .inside("/var/lib/nkudo/generations/1/seeds/web"),
    )
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    fs::read_dir(directory).unwrap().map(file).collect()
}

/// What can read a FAT volume here beside nkudo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Kernel,
    Mtools,
}

impl Reader {
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let vfat = known.lines().any(|line| line.trim() == "vfat");
        if vfat && Path::new("/dev/loop-control").exists() {
            all.push(Self::Kernel);
        }
        if super::find("mcopy").is_some() {
            all.push(Self::Mtools);
        }
        all
    }

    /// Copies all that is in the volume into the directory.
    fn read(self, image: &str, into: &str) {
        match self {
            Self::Kernel => {
                let place = tempfile::tempdir().unwrap();
                let place = place.path().to_str().unwrap();
                ends_with(&["mount", "-t", "vfat", "-o", "loop,ro", image, place]);
                ends_with(&["cp", "-r", &format!("{place}/."), into]);
                ends_with(&["umount", place]);
            }
            Self::Mtools => {
                ends_with(&["mcopy", "-s", "-i", image, "::*", into]);
            }
        }
    }
}

fn others_read_the_volume_as_it_was_written() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    // Larger than a cluster, and a name that is not of 8 letters and 3.
    let long = "x".repeat(300_000);
    let config = format!("[vm.web.cloud-init]\nuser-data = \"#!/bin/sh\\n# {long}\\n\"\n");
    host.switch_to(&vm_alone("web", &config)).done();
    let machine = &host.machine;
    let label = machine.ok(&["blkid", "-p", "-o", "export", IMAGE]);
    assert!(
        label.contains("LABEL=CIDATA\n") && label.contains("TYPE=vfat\n"),
        "{label}"
    );
    machine.ok(&["fsck.fat", "-n", IMAGE]);
    let image = machine.inside(IMAGE);
    for reader in Reader::all() {
        let directory = tempfile::tempdir().unwrap();
        reader.read(image.to_str().unwrap(), directory.path().to_str().unwrap());
        let found = files(directory.path());
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["meta-data", "network-config", "user-data", "vendor-data"]
        );
        assert!(found == rendered(&host), "{reader:?} reads something else");
    }
}

fn cloud_init_reads_the_seed_as_it_was_written() {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let mac = "52:54:00:12:34:56";
    let config = [
        &format!("{LAN}dhcp = true\n"),
        &vm("web", "").replace(
            "network = \"lan\"",
            &format!("network = \"lan\"\nmac = \"{mac}\""),
        ),
        "[vm.web.cloud-init]",
        CONFIG,
    ];
    host.switch_to(&config.concat()).done();

    let machine = &host.machine;
    let seed = "/var/lib/cloud/seed/nocloud";
    for (name, text) in rendered(&host) {
        machine.write(&format!("{seed}/{name}"), text, 0o600);
    }

    // cloud-init's own check of what it is to read.
    for (file, kind) in [
        ("vendor-data", "cloud-config"),
        ("network-config", "network-config"),
    ] {
        let path = format!("{seed}/{file}");
        machine.ok(&["cloud-init", "schema", "--schema-type", kind, "-c", &path]);
    }

    // A first boot, with a link that has the NIC's address.
    machine.write(
        "/etc/cloud/cloud.cfg.d/99.cfg",
        "datasource_list: [NoCloud]\n",
        0o644,
    );
    machine.ok(&[
        "ip", "link", "add", "seeded", "address", mac, "type", "veth",
    ]);
    boot_cloud_init(&host);
    let read = |path: &str| {
        fs::read_to_string(machine.inside(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
    };
    let merged = "/var/lib/cloud/instance/cloud-config.txt";
    machine.ok(&["cloud-init", "schema", "-c", merged]);
    let value = json(&host, merged);
    assert_eq!(value["packages"], serde_json::json!(["vim", "nginx"]));
    assert_eq!(
        value["runcmd"],
        serde_json::json!([
            "touch /run/first",
            ["touch", "/run/second"],
            "echo \"it's: $HOME\""
        ])
    );
    assert_eq!(read("/etc/hostname").trim(), "www");
    assert_eq!(read("/srv/first"), "mine: ä");
    assert_eq!(read("/srv/second"), "a: b\n\t# \"c\" ünï \\ 12:34:56\n");
    assert_eq!(machine.ok(&["stat", "-c", "%a", "/srv/second"]), "600\n");
    let admin = machine.ok(&["getent", "passwd", "admin"]);
    assert!(admin.contains(":no:/home/admin:/bin/sh"), "{admin}");
    assert_eq!(
        machine.ok(&["getent", "shadow", "admin"]).split(':').nth(1),
        Some("$6$ab$cd")
    );
    assert!(machine.ok(&["id", "-nG", "admin"]).contains("adm"));
    assert!(read("/home/admin/.ssh/authorized_keys").contains("AAAAIAnother"));
    assert!(read("/home/debian/.ssh/authorized_keys").contains("AAAAIExample"));
    assert!(read("/etc/sudoers.d/90-cloud-init-users").contains("admin ALL=(ALL) NOPASSWD:ALL"));
    let link = host.link("eth0").expect("the link has the NIC's name");
    assert_eq!(link["address"], mac);
    let network = json(&host, "/run/cloud-init/network-config.json");
    assert_eq!(network["ethernets"]["eth0"]["dhcp4"], true);

    // The next boot, with another address for the same instance: its network is new, and nothing else.
    let changed = read(&format!("{seed}/network-config"))
        .replace("dhcp4: true", "addresses: [\"192.0.2.1/24\"]");
    machine.write(&format!("{seed}/network-config"), changed, 0o600);
    machine.ok(&["rm", "/srv/second"]);
    boot_cloud_init(&host);
    let network = json(&host, "/run/cloud-init/network-config.json");
    assert_eq!(network["ethernets"]["eth0"]["addresses"][0], "192.0.2.1/24");
    assert!(!host.exists("/srv/second"), "first boot ran again");

    // Another instance-id, and it does run again.
    let meta_data = read(&format!("{seed}/meta-data")).replace("\"first\"", "\"second\"");
    machine.write(&format!("{seed}/meta-data"), meta_data, 0o600);
    boot_cloud_init(&host);
    assert!(host.exists("/srv/second"), "first boot did not run again");
}

/// What cloud-init does before the network is up, and with it.
fn boot_cloud_init(host: &Host) {
    host.machine.ok(&["rm", "-rf", "/run/cloud-init"]);
    host.machine.ok(&["cloud-init", "init", "--local"]);
    host.machine.ok(&["cloud-init", "init"]);
}

/// A YAML file of the machine, read by the parser that cloud-init uses.
fn json(host: &Host, path: &str) -> serde_json::Value {
    assert!(Path::new(path).is_absolute());
    let script = format!("import json, yaml; print(json.dumps(yaml.safe_load(open('{path}'))))");
    serde_json::from_str(&host.machine.ok(&["python3", "-c", &script])).unwrap()
}
