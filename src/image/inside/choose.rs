//! Which kernel of an image is booted, and with which command line.

use super::filesystem::Filesystem;
use super::version;

/// Where the guest's serial port is a console (cloud-hypervisor gives arm64 a PL011).
const CONSOLE: &str = if cfg!(target_arch = "aarch64") {
    "console=ttyAMA0"
} else {
    "console=ttyS0"
};

/// A kernel of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) version: String,
    pub(super) kernel: String,
    pub(super) initrds: Vec<String>,
    /// What a boot entry says.
    pub(super) options: Option<String>,
}

/// The kernel that the image itself would boot, and in which of the filesystems it is: the newest boot entry, else
/// where the links of Debian and its kin lead, else the newest.
pub(super) fn choose(filesystems: &[&Filesystem]) -> Option<(usize, Chosen)> {
    [entry, linked, newest].into_iter().find_map(|of| {
        let mut found = filesystems.iter().enumerate();
        found.find_map(|(at, filesystem)| Some((at, of(filesystem)?)))
    })
}

/// The newest entry of Boot Loader Specification type 1 (UAPI.1).
fn entry(filesystem: &Filesystem) -> Option<Chosen> {
    let mut entries = Vec::new();
    for directory in ["/loader/entries", "/boot/loader/entries"] {
        for name in filesystem.names(directory) {
            let Some(id) = name.strip_suffix(".conf") else {
                continue;
            };
            let text = filesystem.text(&format!("{directory}/{name}"));
            let Some(entry) = text.and_then(|text| parsed(id, &text)) else {
                continue;
            };
            // Relative to the filesystem; where /boot is a directory of it, some write it, and some do not.
            let there = |path: &String| {
                let below = format!("/boot/{}", path.trim_start_matches('/'));
                let absolute = format!("/{}", path.trim_start_matches('/'));
                [absolute, below]
                    .into_iter()
                    .find(|path| filesystem.has(path))
            };
            let initrds: Option<Vec<String>> = entry.initrds.iter().map(there).collect();
            if let (Some(kernel), Some(initrds)) = (there(&entry.kernel), initrds) {
                let chosen = Chosen {
                    kernel,
                    initrds,
                    ..entry
                };
                entries.push((id.contains("rescue"), id.to_owned(), chosen));
            }
        }
    }
    let best = entries.into_iter().max_by(|left, right| {
        let by_version = || version::compare(&left.2.version, &right.2.version);
        let by_id = || version::compare(&left.1, &right.1);
        right.0.cmp(&left.0).then_with(by_version).then_with(by_id)
    });
    best.map(|(_, _, chosen)| chosen)
}

/// An entry's keys. `None` for one of another kind or another architecture.
fn parsed(id: &str, text: &str) -> Option<Chosen> {
    let values = |wanted: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| {
            let (key, value) = line.trim().split_once([' ', '\t'])?;
            (key == wanted).then(|| value.trim().to_owned())
        });
        lines.collect()
    };
    let ours = if cfg!(target_arch = "aarch64") {
        ["aa64", "aarch64"]
    } else {
        ["x64", "x86_64"]
    };
    let architecture = values("architecture");
    if architecture
        .iter()
        .any(|one| !ours.contains(&one.to_lowercase().as_str()))
    {
        return None;
    }
    let kernel = values("linux").pop()?;
    let initrds = values("initrd");
    let initrds = initrds.iter().flat_map(|line| line.split_whitespace());
    Some(Chosen {
        version: values("version").pop().unwrap_or_else(|| id.to_owned()),
        kernel,
        // GRUB's variables name what an administrator of the guest adds.
        initrds: initrds
            .filter(|path| !path.starts_with('$'))
            .map(str::to_owned)
            .collect(),
        options: Some(values("options").join(" ")),
    })
}

/// Where the names without a version lead.
fn linked(filesystem: &Filesystem) -> Option<Chosen> {
    ["/boot", ""].into_iter().find_map(|directory| {
        let kernel = format!("{directory}/vmlinuz");
        if !filesystem.has(&kernel) {
            return None;
        }
        let initrds = ["initrd.img", "initrd", "initramfs.img"];
        let mut initrds = initrds.iter().map(|name| format!("{directory}/{name}"));
        let name = filesystem.target_name(&kernel);
        let version = name
            .as_deref()
            .and_then(|name| name.strip_prefix("vmlinuz-"));
        Some(Chosen {
            version: version.unwrap_or("vmlinuz").to_owned(),
            initrds: initrds
                .find(|path| filesystem.has(path))
                .into_iter()
                .collect(),
            kernel,
            options: None,
        })
    })
}

/// The newest of those that have their version in their name.
fn newest(filesystem: &Filesystem) -> Option<Chosen> {
    ["/boot", ""].into_iter().find_map(|directory| {
        let names = filesystem.names(if directory.is_empty() { "/" } else { directory });
        let versions = names.iter().filter_map(|name| {
            let version = name.strip_prefix("vmlinuz-")?;
            let is_there = filesystem.has(&format!("{directory}/{name}"));
            (is_there && !version.contains("rescue")).then_some(version)
        });
        let version = versions.max_by(|left, right| version::compare(left, right))?;
        let initrds = [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initramfs-{version}"),
            format!("initrd-{version}"),
            format!("initrd-{version}.img"),
        ];
        let mut initrds = initrds.iter().map(|name| format!("{directory}/{name}"));
        Some(Chosen {
            version: version.to_owned(),
            kernel: format!("{directory}/vmlinuz-{version}"),
            initrds: initrds
                .find(|path| filesystem.has(path))
                .into_iter()
                .collect(),
            options: None,
        })
    })
}

/// What the kernel is told: what a boot entry says, where the root filesystem is, and a console. `None` where nothing
/// says the root filesystem.
pub(super) fn cmdline(options: Option<&str>, root: Option<&str>) -> Option<String> {
    let mut words: Vec<String> = options
        .unwrap_or_default()
        .split_whitespace()
        // GRUB's variables are in its own environment.
        .filter(|word| !word.starts_with('$'))
        .map(str::to_owned)
        .collect();
    let says = |words: &[String], key: &str| words.iter().any(|word| word.starts_with(key));
    if !says(&words, "root=") {
        words.insert(0, format!("root={}", root?));
    }
    if !words.iter().any(|word| word == "ro" || word == "rw") {
        words.push("ro".to_owned());
    }
    if !says(&words, CONSOLE) {
        words.push(CONSOLE.to_owned());
    }
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let entry = "title Fedora\nversion 6.17\n# comment\nlinux /vmlinuz-6.17\ninitrd /initramfs $tuned_initrd\n\
                     options root=UUID=1 ro\noptions $kernelopts quiet\n";
        assert_eq!(
            parsed("id", entry),
            Some(Chosen {
                version: "6.17".to_owned(),
                kernel: "/vmlinuz-6.17".to_owned(),
                initrds: vec!["/initramfs".to_owned()],
                options: Some("root=UUID=1 ro $kernelopts quiet".to_owned()),
            })
        );
        assert_eq!(parsed("id", "title Shell\nefi /shell.efi\n"), None);
        assert_eq!(parsed("id", "architecture riscv64\nlinux /vmlinuz\n"), None);
    }

    #[test]
    fn the_kernel_is_told_what_it_needs_and_nothing_twice() {
        let say = |options, root| cmdline(options, root).unwrap();
        assert_eq!(
            say(None, Some("PARTUUID=1")),
            format!("root=PARTUUID=1 ro {CONSOLE}")
        );
        assert_eq!(
            say(
                Some("root=UUID=1 rw $tuned_params quiet"),
                Some("PARTUUID=1")
            ),
            format!("root=UUID=1 rw quiet {CONSOLE}")
        );
        let both = format!("root=/dev/vda1 ro console=tty0 {CONSOLE},115200");
        assert_eq!(say(Some(&both), None), both);
        assert_eq!(cmdline(Some("quiet"), None), None);
    }
}
