//! The files of a machine: a Debian that is made once, the programs under test, and what the machine writes, one over
//! the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::programs;

/// What is in the machines: systemd and what nkudo runs there, then what only the cases use.
const PACKAGES: &str = "systemd,systemd-sysv,libnss-systemd,dbus,udev,nftables,iproute2,kmod,procps,acl,\
     dnsmasq-base,e2fsprogs,xfsprogs,btrfs-progs,dosfstools,qemu-utils,virtiofsd,swtpm,swtpm-tools,xz-utils,zstd,\
     cloud-init,python3,tcpdump,iputils-ping,systemd-container,openssh-client";

/// The tmpfs and the overlay on it.
#[derive(Debug)]
pub(crate) struct Mounts {
    directory: PathBuf,
}

impl Mounts {
    pub(crate) fn over(base: &Path, directory: &Path) -> Self {
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"])
                .arg(directory),
        );
        let mounts = Self {
            directory: directory.to_owned(),
        };
        for name in ["up", "work", "root"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let options = format!(
            "lowerdir={}:{},upperdir={2}/up,workdir={2}/work",
            programs::layer().display(),
            base.display(),
            directory.display()
        );
        must(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(directory.join("root")),
        );
        mounts
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in [self.directory.join("root"), self.directory.clone()] {
            let _ = Command::new("umount").args(["-R", "-l"]).arg(path).output();
        }
    }
}

/// The root every machine is laid over, made once and kept.
pub(crate) fn base_root() -> PathBuf {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let cache = std::env::var_os("NKUDO_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/nkudo-tests"), PathBuf::from);
    // Another list of packages is another root.
    let digest = Sha256::digest(PACKAGES);
    let name = format!(
        "trixie-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    );
    let root = cache.join(&name);
    if root.exists() {
        return root;
    }
    fs::create_dir_all(&cache).unwrap();
    let unfinished = cache.join(format!("{name}.{}", std::process::id()));
    must(
        Command::new("mmdebstrap")
            .args([
                "--variant=minbase",
                &format!("--include={PACKAGES}"),
                // cloud-init is there to be called by cases, not to configure the machine.
                "--customize-hook=touch \"$1/etc/cloud/cloud-init.disabled\"",
                "trixie",
            ])
            .arg(&unfinished),
    );
    // Another run may have been faster: then its root is the one.
    if fs::rename(&unfinished, &root).is_err() {
        assert!(root.exists(), "{} cannot be renamed", unfinished.display());
        fs::remove_dir_all(&unfinished).unwrap();
    }
    root
}

/// Runs a command, which has to succeed.
#[track_caller]
pub(crate) fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
}
