//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use serde::{Deserialize, Serialize};

use super::keys::{Keys, split};
use super::{Chain, NAME, VERSION};

/// What the VMM is to be.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) api_socket: Option<PathBuf>,
    pub(super) log_file: Option<PathBuf>,
    pub(super) events: Option<PathBuf>,
    /// Of the serial port; without one it is standard output.
    pub(super) serial: Option<PathBuf>,
    /// The kernel or the firmware.
    pub(super) payload: PathBuf,
    pub(super) initramfs: Option<PathBuf>,
    pub(super) sizes: Sizes,
    pub(super) disks: Vec<Disk>,
    /// The TAPs, each by the file descriptors of its queues.
    pub(super) taps: Vec<Vec<i32>>,
    pub(super) vsock: Option<PathBuf>,
    pub(super) pvpanic: bool,
    /// Where others serve devices: virtiofsd, swtpm.
    pub(super) sockets: Vec<PathBuf>,
    /// Where random numbers are from.
    pub(super) rng: PathBuf,
    /// PCI devices of the host, by their directories in sysfs.
    pub(super) devices: Vec<PathBuf>,
    pub(super) restore: Option<Restore>,
    /// Those of the arguments that are about the VM.
    pub(super) arguments: Vec<String>,
}

/// `--restore`.
#[derive(Debug, Clone)]
pub(super) struct Restore {
    pub(super) directory: PathBuf,
    /// The NICs by their ids, and the file descriptors that each has now.
    pub(super) nics: BTreeMap<String, Vec<i32>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Disk {
    pub(super) id: String,
    pub(super) serial: String,
    pub(super) path: PathBuf,
    pub(super) write: bool,
    pub(super) qcow2: bool,
}

/// The vCPUs, and the memory in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Sizes {
    pub(super) vcpus: u8,
    pub(super) max_vcpus: u8,
    pub(super) memory: u64,
    /// What can be plugged in.
    pub(super) hotplug: u64,
    /// What is.
    pub(super) hotplugged: u64,
    /// What the guest is to do without, if it has a balloon.
    pub(super) balloon: Option<u64>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It ends with 2, or with 0 after `--version`.
    Usage(clap::Error),
    /// It ends with 1.
    Config(Chain),
}

/// Those that are the VMM's own, and go with `--restore`.
const OF_VMM: [&str; 4] = ["api-socket", "log-file", "event-monitor", "restore"];
/// The options with one value that may be given once.
const SINGLE: [&str; 17] = [
    "rng",
    "restore",
    "tpm",
    "api-socket",
    "log-file",
    "event-monitor",
    "cpus",
    "memory",
    "balloon",
    "kernel",
    "firmware",
    "initramfs",
    "cmdline",
    "vsock",
    "platform",
    "serial",
    "console",
];
/// Those with several values. Release 53 takes them twice too; 46 to 51 do not, and nkudo runs with those.
const SEVERAL: [&str; 4] = ["disk", "net", "fs", "device"];
/// Those without a value.
const FLAGS: [&str; 2] = ["watchdog", "pvpanic"];

impl Options {
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Refusal> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        // What is the VM's does not go with a snapshot, which has it all.
        let own = |name: &str, arg: Arg| {
            if OF_VMM.contains(&name) {
                arg
            } else {
                arg.conflicts_with("restore")
            }
        };
        let restores = arguments.iter().any(|one| one == "--restore");
        let single = SINGLE.map(|name| {
            let arg = Arg::new(name).long(name).num_args(1);
            own(name, arg.action(ArgAction::Set))
        });
        let several = SEVERAL.map(|name| {
            let arg = Arg::new(name).long(name);
            own(name, arg.num_args(1..).action(ArgAction::Set))
        });
        let matches = Command::new(NAME)
            .version(VERSION)
            .args(single)
            .args(several)
            .args(FLAGS.map(|name| Arg::new(name).long(name).action(ArgAction::SetTrue)))
            .group(
                // In a usage error `--restore` is not among them.
                ArgGroup::new("payload")
                    .args(["firmware", "kernel"])
                    .required(!restores),
            )
            .try_get_matches_from(&arguments)
            .map_err(Refusal::Usage)?;
        let mut options = Self::of(&matches).map_err(|mut links| {
            links.insert(0, "Error parsing config".to_owned());
            Refusal::Config(Chain(links))
        })?;
        options.arguments = of_vm(&arguments);
        Ok(options)
    }

    fn of(matches: &ArgMatches) -> Result<Self, Vec<String>> {
        let one = |name: &str| matches.get_one::<String>(name);
        let path = |name: &str| one(name).map(PathBuf::from);
        let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten();

        let mut sizes = Sizes {
            vcpus: 1,
            max_vcpus: 1,
            ..Sizes::default()
        };
        let mut vcpus = 1;
        if let Some(text) = one("cpus") {
            let cpus = Keys::parse("cpus", text, &["boot", "max"])?;
            let boot: u8 = cpus.convert("boot")?.unwrap_or(1);
            let max: u8 = cpus.convert("max")?.unwrap_or(boot);
            vcpus = boot.into();
            if max < boot {
                return invalid(format!("Max CPUs ({max}) lower than boot CPUs ({boot})"));
            }
            (sizes.vcpus, sizes.max_vcpus) = (boot, max);
        }
        if let Some(text) = one("memory") {
            let known = [
                "size",
                "hotplug_method",
                "hotplug_size",
                "hugepages",
                "hugepage_size",
                "shared",
                "mergeable",
            ];
            let memory = Keys::parse("memory", text, &known)?;
            sizes.memory = memory.size("size")?;
            sizes.hotplug = memory.size("hotplug_size")?;
            if !sizes.hotplug.is_multiple_of(128 << 20) {
                return Err(vec![
                    "Error booting VM".to_owned(),
                    "Virtio-mem size is not aligned with 134217728".to_owned(),
                ]);
            }
            memory.size("hugepage_size")?;
            for name in ["hugepages", "shared", "mergeable"] {
                memory.toggle(name)?;
            }
        }
        let size = one("balloon").map(|text| balloon(text, sizes.memory));
        sizes.balloon = size.transpose()?;
        let right = ["tty", "off", "null"];
        let socket = one("serial").and_then(|mode| mode.strip_prefix("socket="));
        for (name, socket) in [("serial", socket), ("console", None)] {
            if socket.is_none() && one(name).is_some_and(|mode| !right.contains(&mode.as_str())) {
                return Err(vec![format!("Error parsing --{name}")]);
            }
        }
        let sockets = served(matches)?;
        let restore = one("restore").map(|text| restore(text)).transpose()?;
        let vsock = one("vsock").map(|text| vsock(text)).transpose()?;
        one("platform").map(|text| platform(text)).transpose()?;
        let api_socket = one("api-socket").map(|text| {
            let path = text.strip_prefix("path=").unwrap_or(text);
            PathBuf::from(path)
        });
        Ok(Self {
            serial: socket.map(PathBuf::from),
            api_socket,
            log_file: path("log-file"),
            events: match one("event-monitor") {
                Some(text) => Keys::parse("event-monitor", text, &["path"])?
                    .get("path")
                    .map(PathBuf::from),
                None => None,
            },
            payload: path("kernel")
                .or_else(|| path("firmware"))
                .unwrap_or_default(),
            initramfs: path("initramfs"),
            pvpanic: matches.get_flag("pvpanic"),
            sizes,
            disks: all("disk")
                .map(|text| disk(text))
                .collect::<Result<_, _>>()?,
            taps: all("net")
                .map(|text| net(text, vcpus))
                .collect::<Result<_, _>>()?,
            vsock,
            sockets,
            rng: rng(one("rng"))?,
            devices: all("device")
                .map(|text| pci(text))
                .collect::<Result<_, _>>()?,
            restore,
            arguments: Vec::new(),
        })
    }
}

/// The size of a balloon in so much memory.
fn balloon(text: &str, memory: u64) -> Result<u64, Vec<String>> {
    let known = ["size", "deflate_on_oom", "free_page_reporting"];
    let balloon = Keys::parse("balloon", text, &known)?;
    let size = balloon.size("size")?;
    balloon.toggle("deflate_on_oom")?;
    balloon.toggle("free_page_reporting")?;
    if size >= memory {
        return invalid(format!("Balloon size ({size}) greater than RAM ({memory})"));
    }
    Ok(size)
}

fn rng(text: Option<&String>) -> Result<PathBuf, Vec<String>> {
    let source = match text {
        Some(text) => Keys::parse("rng", text, &["src"])?
            .get("src")
            .map(PathBuf::from),
        None => None,
    };
    Ok(source.unwrap_or_else(|| "/dev/urandom".into()))
}

fn pci(text: &str) -> Result<PathBuf, Vec<String>> {
    let device = Keys::parse("device", text, &["path", "id"])?;
    let missing = || vec!["VFIO device config must specify `path=` or `fd=`".to_owned()];
    device.get("path").map(PathBuf::from).ok_or_else(missing)
}

/// The arguments without those that are the VMM's own.
fn of_vm(arguments: &[OsString]) -> Vec<String> {
    let mut is_vmms = false;
    let texts = arguments.iter().skip(1).map(|one| one.to_string_lossy());
    texts
        .filter(|text| {
            if let Some(name) = text.strip_prefix("--") {
                is_vmms = OF_VMM.contains(&name);
            }
            !is_vmms
        })
        .map(std::borrow::Cow::into_owned)
        .collect()
}

fn restore(text: &str) -> Result<Restore, Vec<String>> {
    let keys = Keys::parse("restore", text, &["source_url", "net_fds"])?;
    let url = keys.get("source_url").unwrap_or_default();
    let Some(directory) = url.strip_prefix("file://") else {
        return Err(vec![format!("Could not extract path from URL: {url}")]);
    };
    let list = keys.get("net_fds").unwrap_or("[]");
    let inside = list
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    let inside = inside.ok_or_else(|| keys.inconvertible("net_fds", list))?;
    let nic = |one: &str| {
        let (id, fds) = one.split_once('@')?;
        let fds = fds.strip_prefix('[')?.strip_suffix(']')?;
        let fds = fds.split(',').map(|fd| fd.parse().ok());
        Some((id.to_owned(), fds.collect::<Option<Vec<i32>>>()?))
    };
    let nics = split(inside).into_iter().filter(|one| !one.is_empty());
    let nics = nics.map(|one| nic(one).ok_or_else(|| keys.inconvertible("net_fds", one)));
    Ok(Restore {
        directory: directory.into(),
        nics: nics.collect::<Result<_, _>>()?,
    })
}

/// The sockets of the devices that others serve.
fn served(matches: &ArgMatches) -> Result<Vec<PathBuf>, Vec<String>> {
    let one = |name: &str| matches.get_one::<String>(name);
    let all = |name: &str| matches.get_many::<String>(name).into_iter().flatten();
    let shared = one("memory").is_some_and(|text| {
        ["shared=on", "hugepages=on"]
            .iter()
            .any(|word| text.contains(word))
    });
    let mut sockets = Vec::new();
    for text in all("fs") {
        let share = Keys::parse("fs", text, &["tag", "socket", "num_queues", "queue_size"])?;
        let (Some(_), Some(socket)) = (share.get("tag"), share.get("socket")) else {
            return Err(vec!["Error parsing --fs: tag or socket missing".to_owned()]);
        };
        if !shared {
            return invalid(
                "Using vhost-user requires using shared memory or huge pages".to_owned(),
            );
        }
        sockets.push(PathBuf::from(socket));
    }
    if let Some(text) = one("tpm") {
        let tpm = Keys::parse("tpm", text, &["socket"])?;
        let socket = tpm.get("socket").unwrap_or_default();
        sockets.push(PathBuf::from(socket));
    }
    Ok(sockets)
}

fn disk(text: &str) -> Result<Disk, Vec<String>> {
    let known = [
        "path",
        "serial",
        "id",
        "readonly",
        "image_type",
        "backing_files",
        "bw_size",
        "bw_refill_time",
        "bw_one_time_burst",
        "ops_size",
        "ops_refill_time",
        "ops_one_time_burst",
    ];
    let keys = Keys::parse("disk", text, &known)?;
    for name in known
        .iter()
        .filter(|name| name.contains("_size") || name.contains("_time"))
    {
        keys.convert::<u64>(name)?;
    }
    keys.toggle("backing_files")?;
    let serial = keys.get("serial").unwrap_or_default().len();
    if serial > 20 {
        return invalid(format!(
            "Block device serial length ({serial}) exceeds maximum allowed length (20)"
        ));
    }
    let qcow2 = match keys.get("image_type") {
        Some("raw") => false,
        Some("qcow2") => true,
        // The real one guesses, which lets a guest choose the format: nkudo must always say it.
        None => return invalid("image_type missing".to_owned()),
        Some(other) => return Err(keys.inconvertible("image_type", other)),
    };
    Ok(Disk {
        id: keys.get("id").unwrap_or_default().to_owned(),
        serial: keys.get("serial").unwrap_or_default().to_owned(),
        path: keys.get("path").unwrap_or_default().into(),
        write: !keys.toggle("readonly")?,
        qcow2,
    })
}

fn net(text: &str, vcpus: usize) -> Result<Vec<i32>, Vec<String>> {
    let keys = Keys::parse("net", text, &["fd", "mac", "num_queues"])?;
    if let Some(mac) = keys.get("mac") {
        let bytes: Vec<&str> = mac.split(':').collect();
        let is_byte = |byte: &&str| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok();
        if bytes.len() != 6 || !bytes.iter().all(is_byte) {
            return Err(keys.inconvertible("mac", mac));
        }
    }
    let Some(fds) = keys.get("fd") else {
        return invalid("nkudo passes TAPs as file descriptors, and there is none".to_owned());
    };
    let fds: Vec<i32> = fds
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(|fd| fd.parse().map_err(|_| keys.inconvertible("fd", fd)))
        .collect::<Result<_, _>>()?;
    if let Some(fd) = fds.iter().find(|fd| **fd <= 2) {
        return invalid(format!("Reserved fd number (<= 2): {fd}"));
    }
    let queues: usize = keys.convert("num_queues")?.unwrap_or(2);
    if queues != 2 * fds.len() {
        return invalid(format!(
            "Number of queues ({queues}) to virtio_net does not match the number of FDs ({})",
            2 * fds.len()
        ));
    }
    if queues / 2 > vcpus {
        return invalid(format!(
            "Queue count ({queues}) must not exceed boot vCPUs ({vcpus})"
        ));
    }
    Ok(fds)
}

fn vsock(text: &str) -> Result<PathBuf, Vec<String>> {
    let keys = Keys::parse("vsock", text, &["cid", "socket"])?;
    match keys.convert::<u64>("cid")? {
        None => Err(vec!["Error parsing --vsock: cid missing".to_owned()]),
        Some(cid @ (0..=2 | 0xffff_ffff..)) => invalid(format!("{cid} is a special VSOCK CID")),
        Some(_) => match keys.get("socket") {
            Some(socket) => Ok(socket.into()),
            None => Err(vec!["Error parsing --vsock: socket missing".to_owned()]),
        },
    }
}

fn platform(text: &str) -> Result<(), Vec<String>> {
    let keys = Keys::parse("platform", text, &["oem_strings"])?;
    match keys.get("oem_strings") {
        Some(list) if !list.starts_with('[') || !list.ends_with(']') => {
            Err(keys.inconvertible("oem_strings", list))
        }
        _ => Ok(()),
    }
}

fn invalid<T>(why: String) -> Result<T, Vec<String>> {
    Err(vec!["Error validating configuration".to_owned(), why])
}
