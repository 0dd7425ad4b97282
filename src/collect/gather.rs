//! Gathers what goes into the archive. Whatever cannot be had is told in its place: an archive of a host in
//! trouble must not fail for the trouble.

use std::time::Duration;

use camino::Utf8Path;
use tokio::process::Command;

use super::Part;
use crate::booted::Booted;
use crate::files;
use crate::generation::Store;
use crate::host::VmId;
use crate::journal::{about, console_of};
use crate::programs;
use crate::unit::{RUNTIME_ROOT, vm_unit_name};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The most that is taken of one command or file, from its end.
const LARGEST: usize = 8 << 20;

/// Commands about the host, by the file that their output goes to.
const HOST: &[(&str, &[&str])] = &[
    ("host/kernel.txt", &["uname", "-a"]),
    ("host/systemd.txt", &["systemctl", "--version"]),
    ("host/state.txt", &["systemctl", "is-system-running"]),
    (
        "host/failed.txt",
        &["systemctl", "--failed", "--no-pager", "--plain"],
    ),
    ("host/slice.txt", &["systemctl", "show", "nkudo.slice"]),
    (
        "host/boot.txt",
        &[
            "systemctl",
            "status",
            "nkudo-boot.service",
            "--no-pager",
            "-l",
        ],
    ),
    ("host/memory.txt", &["cat", "/proc/meminfo"]),
    ("host/disks.txt", &["df", "-hT"]),
    ("host/inodes.txt", &["df", "-i"]),
    ("host/mounts.txt", &["findmnt", "--noheadings"]),
    (
        "host/kernel-log.txt",
        &[
            "journalctl",
            "-k",
            "-b",
            "-n",
            "2000",
            "--no-pager",
            "-o",
            "short-iso-precise",
        ],
    ),
    ("network/addresses.txt", &["ip", "-d", "address"]),
    (
        "network/routes.txt",
        &["ip", "route", "show", "table", "all"],
    ),
    (
        "host/kernel-memory.txt",
        &[
            "grep",
            "-rs",
            "",
            "/sys/kernel/mm/hugepages",
            "/sys/kernel/mm/ksm",
        ],
    ),
    ("network/neighbours.txt", &["ip", "neighbour"]),
    ("network/bridge-links.txt", &["bridge", "-d", "link"]),
    ("network/bridge-fdb.txt", &["bridge", "fdb"]),
    ("network/nft.txt", &["nft", "-a", "list", "ruleset"]),
    (
        "network/networkd.txt",
        &["networkctl", "list", "--no-pager"],
    ),
    (
        "nkudo/journal.txt",
        &[
            "journalctl",
            "_UID=0",
            "_COMM=nkudo",
            "-n",
            "5000",
            "--no-pager",
            "-o",
            "short-iso-precise",
        ],
    ),
    (
        "nkudo/run.txt",
        &[
            "find",
            RUNTIME_ROOT,
            "-printf",
            "%M %u:%g %s %TY-%Tm-%Td %TH:%TM %p -> %l\n",
        ],
    ),
];

/// Whether the guest's console is collected: what a guest prints is its owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    Include,
    Leave,
}

/// Everything of the host, and of these VMs.
pub async fn gather(
    store: &Store,
    ids: &[VmId],
    hypervisor: &Utf8Path,
    console: Console,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, argv) in HOST {
        parts.push(Part::new(*name, &output(argv).await));
    }
    for path in [
        "/etc/os-release",
        "/proc/sys/kernel/random/boot_id",
        "/run/nkudo/tuning.json",
    ] {
        let name = Utf8Path::new(path).file_name().unwrap_or(path);
        parts.push(Part::new(
            format!("host/{name}"),
            &file(Utf8Path::new(path)),
        ));
    }
    parts.push(Part::new(
        "host/hypervisor.txt",
        &output(&[hypervisor.as_str(), "--version"]).await,
    ));
    parts.extend(generation(store));
    for id in ids {
        parts.extend(vm(id, console).await);
    }
    parts
}

/// The current generation, without its seeds.
fn generation(store: &Store) -> Vec<Part> {
    let number = match store.current() {
        Ok(Some(number)) => number,
        Ok(None) => {
            return vec![Part::new(
                "generation.txt",
                "no generation was switched to yet\n",
            )];
        }
        Err(err) => return vec![Part::new("generation.txt", &format!("{err:#}\n"))],
    };
    let directory = store.directory(number);
    let mut parts = vec![Part::new("generation.txt", &format!("{number}\n"))];
    let mut found = vec![directory.clone()];
    while let Some(next) = found.pop() {
        for name in files::names(&next).unwrap_or_default() {
            let path = next.join(name);
            // Seeds are made of secrets: that they are there is all that is told.
            if path
                .strip_prefix(&directory)
                .is_ok_and(|path| path.starts_with("seeds"))
            {
                parts.push(Part::new(
                    "generation/seeds.txt",
                    "there are seeds, which are left out\n",
                ));
            } else if path.is_dir() {
                found.push(path);
            } else if let Ok(name) = path.strip_prefix(&directory) {
                parts.push(Part::new(format!("generation/{name}"), &file(&path)));
            }
        }
    }
    parts
}

async fn vm(id: &VmId, console: Console) -> Vec<Part> {
    let unit = vm_unit_name(id);
    let path = |name: &str| format!("vm/{id}/{name}");
    let mut parts = vec![
        Part::new(path("journal.txt"), &journal(&about(id)).await),
        Part::new(
            path("unit.txt"),
            &output(&["systemctl", "cat", &unit, "--no-pager"]).await,
        ),
        Part::new(
            path("properties.txt"),
            &output(&["systemctl", "show", &unit]).await,
        ),
        Part::new(
            path("control-group.txt"),
            &output(&["systemctl", "status", &unit, "--no-pager", "-l", "-n", "0"]).await,
        ),
        Part::new(path("booted.json"), &file(&Booted::path(id))),
    ];
    if console == Console::Include {
        let console = journal(&console_of(id)).await;
        parts.push(Part::new(path("console.txt"), &console));
    }
    parts
}

/// The end of what the journal has of this.
async fn journal(matches: &[String]) -> String {
    let mut argv = vec!["journalctl", "--no-pager", "-n", "10000"];
    argv.extend(["-o", "short-iso-precise"]);
    argv.extend(matches.iter().map(String::as_str));
    output(&argv).await
}

/// What a command prints, on either stream.
async fn output(argv: &[&str]) -> String {
    let Some((program, arguments)) = argv.split_first() else {
        return String::new();
    };
    match programs::output(Command::new(program).args(arguments), LIMIT).await {
        Err(err) => format!("there is no output of {program}: {err}\n"),
        Ok(output) => {
            let mut text = end_of(&output.stdout);
            text.push_str(&end_of(&output.stderr));
            text
        }
    }
}

fn file(path: &Utf8Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => end_of(&bytes),
        Err(err) => format!("cannot read {path}: {err}\n"),
    }
}

fn end_of(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(LARGEST);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
