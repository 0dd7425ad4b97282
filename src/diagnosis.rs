//! What the words of a VMM, of systemd and of the kernel come to, and what to do about them.

#![deny(clippy::disallowed_methods)]

use serde::Serialize;

/// A known trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

/// Words of a line, all of which are in it, in any case; the cause; the remedy.
type Known = (&'static [&'static str], &'static str, &'static str);

/// The more particular before the more general.
const KNOWN: &[Known] = &[
    (
        &["/dev/kvm", "permission denied"],
        "the VMM may not open /dev/kvm",
        "/dev/kvm has to belong to the group `kvm` with mode 0660 or 0666: `nkudo doctor` shows it, and \
         udev's rules set it (`udevadm trigger /dev/kvm`)",
    ),
    (
        &["/dev/kvm"],
        "KVM is not available",
        "load the module (`modprobe kvm_intel` or `kvm_amd`; on NixOS `boot.kernelModules`), or switch \
         virtualisation on in the firmware or in the host of this machine; `nkudo doctor` says which",
    ),
    (
        &["no supported hypervisor"],
        "KVM is not available",
        "`nkudo doctor` says whether it is the module, the firmware or the host of this machine",
    ),
    (
        &["kvm", "os error"],
        "KVM does not do what the VMM asks of it",
        "`nkudo doctor` looks at /dev/kvm and its module; on a machine that is virtual itself, nested \
         virtualisation has to be on",
    ),
    (
        &["cannot open kernel file"],
        "the VM's kernel is not there, or the VM may not read it",
        "`nkudo doctor ID` names the file; everybody has to be able to read it",
    ),
    (
        &["cannot open initramfs file"],
        "the VM's initrd is not there, or the VM may not read it",
        "`nkudo doctor ID` names the file; everybody has to be able to read it",
    ),
    (
        &["cannot load the kernel into memory"],
        "the VM's kernel is not there, or is none that cloud-hypervisor can boot",
        "`nkudo doctor ID` says whether it is there; it has to be a vmlinux or bzImage with a PVH entry, and a firmware \
         stands under `firmware`",
    ),
    (
        &["already locked"],
        "another process has one of the VM's disks open for writing",
        "`lsof DISK` or `fuser -v DISK` names it; two VMs cannot write to one disk",
    ),
    (
        &["no space left on device"],
        "a filesystem is full",
        "`nkudo doctor` says which; `nkudo gc` removes old generations, `nkudo image gc` unused images",
    ),
    (
        &["hugepage"],
        "there are not enough huge pages",
        "`nkudo doctor` says how many are missing; `hugepages` under `[host.tuning]` has a switch set them aside",
    ),
    (
        &["cannot allocate memory"],
        "the host has not enough memory for the VM",
        "`nkudo doctor` compares what is declared with what there is; give the VM less `memory`, or stop another",
    ),
    (
        &["out of memory"],
        "the VMM ran out of memory",
        "raise `memory-max`, which has to have room for the VMM beside the guest's `memory`, or free memory of the host",
    ),
    (
        &["226/namespace"],
        "systemd could not set up the VM's sandbox",
        "the line of the journal above names the path; `nkudo doctor ID` looks at every file of the VM",
    ),
    (
        &["203/exec"],
        "the hypervisor is not there, or cannot be run",
        "install cloud-hypervisor (on NixOS the module brings it; elsewhere its package, or a release's file as \
         `[host] hypervisor`), then `nkudo switch`",
    ),
    (
        &["path=", "no such file or directory"],
        "one of the VM's disks is not there",
        "`nkudo doctor ID` names it; `nkudo switch` makes disks that are nkudo's",
    ),
    (
        &["permission denied"],
        "the VM may not open one of its files",
        "`nkudo doctor ID` names it",
    ),
];

/// What the last lines of a VM come to: the last one that is known counts.
pub fn of_lines<S: AsRef<str>>(lines: &[S]) -> Option<Diagnosis> {
    lines.iter().rev().find_map(|line| {
        let line = line.as_ref().to_ascii_lowercase();
        let known = KNOWN
            .iter()
            .find(|(words, ..)| words.iter().all(|word| line.contains(word)));
        known.map(|(_, cause, remedy)| Diagnosis {
            cause: (*cause).to_owned(),
            remedy: (*remedy).to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(line: &str) -> Option<String> {
        of_lines(&["something else", line, "and more"]).map(|found| found.cause)
    }

    #[test]
    fn known_words_are_told_apart() {
        for (line, cause_) in [
            (
                "Error opening /dev/kvm: Permission denied (os error 13)",
                "the VMM may not open /dev/kvm",
            ),
            (
                "Failed to open /dev/kvm: No such file or directory (os error 2)",
                "KVM is not available",
            ),
            ("  2: no supported hypervisor", "KVM is not available"),
            (
                "  3: Cannot open kernel file",
                "the VM's kernel is not there, or the VM may not read it",
            ),
            (
                "  5: The file is already locked",
                "another process has one of the VM's disks open for writing",
            ),
            (
                "I/O error (path=/srv/a.raw op=open): No such file or directory (os error 2)",
                "one of the VM's disks is not there",
            ),
            (
                "nkudo-vm@web.service: Main process exited, code=exited, status=203/EXEC",
                "the hypervisor is not there, or cannot be run",
            ),
        ] {
            assert_eq!(cause(line).as_deref(), Some(cause_), "{line}");
        }
        assert_eq!(cause("hello from web"), None);
    }

    #[test]
    fn what_is_known_is_in_lower_case_and_has_a_remedy() {
        for (words, cause, remedy) in KNOWN {
            assert!(words.iter().all(|word| *word == word.to_ascii_lowercase()));
            assert!(!cause.is_empty() && !remedy.is_empty());
        }
    }
}
