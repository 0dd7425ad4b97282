//! Images made by the usual programs, without mounting anything, and ones that were made to attack.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// The files of a filesystem to be.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(self, path: &str, content: &str) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// A root filesystem without a kernel.
    fn root() -> Self {
        Self::new().file("etc/fstab", "").file("usr/x", "")
    }

    fn ext4(&self) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        let uuid = "6b1f7a3e-8a2c-4a6d-9d53-3f1a2b4c5d6e";
        run(program("mkfs.ext4")
            .args(["-q", "-F", "-U", uuid, "-d"])
            .arg(self.0.path())
            .arg(file.path()));
        fs::read(file.path()).unwrap()
    }

    fn fat(&self) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        fatfs::format_volume(file.as_file(), fatfs::FormatVolumeOptions::new()).unwrap();
        let fat = fatfs::FileSystem::new(
            File::options()
                .read(true)
                .write(true)
                .open(file.path())
                .unwrap(),
            fatfs::FsOptions::new(),
        );
        let fat = fat.unwrap();
        for path in walk(self.0.path()) {
            let name = path.strip_prefix(self.0.path()).unwrap().to_str().unwrap();
            if path.is_dir() {
                fat.root_dir().create_dir(name).unwrap();
            } else {
                let mut file = fat.root_dir().create_file(name).unwrap();
                file.write_all(&fs::read(&path).unwrap()).unwrap();
            }
        }
        drop(fat);
        fs::read(file.path()).unwrap()
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        all.push(path.clone());
        if path.is_dir() {
            all.extend(walk(&path));
        }
    }
    all
}

/// One of those that make disks, which are not in everybody's PATH.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// An image with a table of this kind, and these filesystems in its partitions.
fn disk(table: &str, parts: &[Vec<u8>]) -> File {
    let image = tempfile::tempfile().unwrap();
    let named = tempfile::NamedTempFile::new().unwrap();
    named
        .as_file()
        .set_len((2 + 8 * parts.len() as u64) << 20)
        .unwrap();
    let mut script = format!("label: {table}\n");
    let id = if table == "gpt" {
        "11111111-2222-3333-4444-555555555555"
    } else {
        "0x1a2b3c4d"
    };
    writeln!(script, "label-id: {id}").unwrap();
    for (index, _) in parts.iter().enumerate() {
        let start = 2048 + index * (8 << 11);
        write!(script, "start={start}, size={}", 8 << 11).unwrap();
        if table == "gpt" {
            write!(script, ", uuid=AAAAAAAA-0000-0000-0000-{:012}", index + 1).unwrap();
        }
        script.push('\n');
    }
    let mut child = program("sfdisk")
        .arg("-q")
        .arg(named.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    image
        .write_all_at(&fs::read(named.path()).unwrap(), 0)
        .unwrap();
    for (index, part) in parts.iter().enumerate() {
        let at = (1 + 8 * index as u64) << 20;
        image.write_all_at(part, at).unwrap();
    }
    image
}

fn whole(bytes: &[u8]) -> File {
    let image = tempfile::tempfile().unwrap();
    image.write_all_at(bytes, 0).unwrap();
    image
}

/// What is taken out: the head, the kernel, the initrd.
fn taken(image: &File) -> Result<(Head, String, Option<String>), String> {
    let mut out = tempfile::tempfile().unwrap();
    take_out(image, &mut out).map_err(|err| err.to_string())?;
    out.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    out.read_to_end(&mut bytes).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap());
    let (json, rest) = rest.split_at(usize::try_from(length).unwrap());
    let head: Head = serde_json::from_slice(json).unwrap();
    let (kernel, rest) = rest.split_at(usize::try_from(head.kernel).unwrap());
    assert_eq!(head.initrd.unwrap_or(0), rest.len() as u64);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let initrd = head.initrd.map(|_| text(rest));
    Ok((head, text(kernel), initrd))
}

const CONSOLE: &str = if cfg!(target_arch = "aarch64") {
    "console=ttyAMA0"
} else {
    "console=ttyS0"
};

#[test]
fn where_links_lead_is_what_debian_boots() {
    let tree = Tree::root()
        .file("boot/vmlinuz-6.1.0-9-amd64", "old")
        .file("boot/vmlinuz-6.1.0-10-amd64", "new!")
        .file("boot/initrd.img-6.1.0-10-amd64", "initrd")
        .link("boot/vmlinuz", "vmlinuz-6.1.0-10-amd64")
        .link("boot/initrd.img", "/boot/initrd.img-6.1.0-10-amd64");
    for table in ["gpt", "dos"] {
        let (head, kernel, initrd) = taken(&disk(table, &[tree.ext4()])).unwrap();
        assert_eq!(head.version, "6.1.0-10-amd64");
        assert_eq!(
            (kernel.as_str(), initrd.as_deref()),
            ("new!", Some("initrd"))
        );
        let uuid = match table {
            "gpt" => "aaaaaaaa-0000-0000-0000-000000000001",
            _ => "1a2b3c4d-01",
        };
        assert_eq!(head.cmdline, format!("root=PARTUUID={uuid} ro {CONSOLE}"));
    }
    let (head, ..) = taken(&whole(&tree.ext4())).unwrap();
    let uuid = "6b1f7a3e-8a2c-4a6d-9d53-3f1a2b4c5d6e";
    assert_eq!(head.cmdline, format!("root=UUID={uuid} ro {CONSOLE}"));
}

#[test]
fn without_links_the_newest_is_taken_with_its_own_initrd() {
    for (kernel, initrd) in [
        ("6.1.0-10-amd64", Some("initrd.img-6.1.0-10-amd64")),
        ("6.17-fc43", Some("initramfs-6.17-fc43.img")),
        ("virt", Some("initramfs-virt")),
        ("6.12-default", Some("initrd-6.12-default")),
        ("6.12", None),
    ] {
        let mut tree = Tree::root()
            .file("boot/vmlinuz-0-rescue-1", "rescue")
            .file("boot/initrd.img-5.0", "other")
            .file(&format!("boot/vmlinuz-{kernel}"), "kernel");
        if kernel.starts_with('6') {
            tree = tree.file("boot/vmlinuz-5.0", "old");
        }
        if let Some(initrd) = initrd {
            tree = tree.file(&format!("boot/{initrd}"), "its own");
        }
        let (head, taken, found) = taken(&disk("gpt", &[tree.ext4()])).unwrap();
        assert_eq!((head.version.as_str(), taken.as_str()), (kernel, "kernel"));
        assert_eq!(found.as_deref(), initrd.map(|_| "its own"));
    }
    let alone = Tree::root().file("boot/vmlinuz-6.12", "kernel").ext4();
    let (head, ..) = taken(&whole(&alone)).unwrap();
    assert_eq!(head.cmdline, format!("root=/dev/vda ro {CONSOLE}"));
}

#[test]
fn a_boot_entry_goes_before_links_and_brings_its_options() {
    let entry = |version: &str| {
        format!(
            "title x\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /early.img\ninitrd /initrd-{version}\n\
             options root=LABEL=cloud rw\noptions $tuned_params quiet\n"
        )
    };
    let boot = Tree::new()
        .file("loader/entries/a-6.9.conf", &entry("6.9"))
        .file("loader/entries/a-6.10.conf", &entry("6.10"))
        .file(
            "loader/entries/a-0-rescue.conf",
            &entry("7.0").replace("7.0", "6.9"),
        )
        .file("loader/entries/a-6.11.conf", &entry("6.11"))
        .file("vmlinuz-6.9", "six nine")
        .file("vmlinuz-6.10", "six ten")
        // Its initrd is not there.
        .file("vmlinuz-6.11", "six eleven")
        .file("early.img", "ucode")
        .file("initrd-6.9", "nine")
        .file("initrd-6.10", "ten")
        .link("vmlinuz", "vmlinuz-6.9");
    let root = Tree::root().ext4();
    for filesystem in [boot.ext4(), {
        let plain = fs::remove_file(boot.0.path().join("vmlinuz"));
        plain.unwrap();
        boot.fat()
    }] {
        let (head, kernel, initrd) = taken(&disk("gpt", &[filesystem, root.clone()])).unwrap();
        assert_eq!(
            (head.version.as_str(), kernel.as_str()),
            ("6.10", "six ten")
        );
        // Archives after one another begin at multiples of four.
        assert_eq!(initrd.as_deref(), Some("ucode\0\0\0ten"));
        assert_eq!(head.cmdline, format!("root=LABEL=cloud rw quiet {CONSOLE}"));
    }
}

#[test]
fn a_boot_partition_and_a_root_of_its_own_are_put_together() {
    let boot = Tree::new()
        .file("vmlinuz-6.8.0-45-generic", "kernel")
        .file("initrd.img-6.8.0-45-generic", "initrd")
        .link("vmlinuz", "vmlinuz-6.8.0-45-generic")
        .link("initrd.img", "initrd.img-6.8.0-45-generic");
    let esp = Tree::new().file("EFI/BOOT/BOOTX64.EFI", "x").fat();
    let (head, ..) = taken(&disk("gpt", &[Tree::root().ext4(), boot.ext4(), esp])).unwrap();
    let uuid = "aaaaaaaa-0000-0000-0000-000000000001";
    assert_eq!(head.cmdline, format!("root=PARTUUID={uuid} ro {CONSOLE}"));
    let alone = taken(&disk("gpt", &[boot.ext4()])).unwrap_err();
    assert!(
        alone.contains("needs to be told its root filesystem"),
        "{alone}"
    );
}

#[test]
fn an_image_without_a_kernel_says_what_it_has() {
    let mut xfs = vec![0; 8 << 20];
    xfs[..4].copy_from_slice(b"XFSB");
    let mut btrfs = vec![0; 8 << 20];
    btrfs[0x10040..0x10048].copy_from_slice(b"_BHRfS_M");
    let unified = Tree::new().file("EFI/Linux/a.efi", "x").fat();
    let parts = [xfs, btrfs, unified, Tree::root().ext4()];
    let told = taken(&disk("gpt", &parts)).unwrap_err();
    for part in [
        "partition 1 is xfs, which nkudo does not read",
        "partition 2 is btrfs, which nkudo does not read",
        "partition 3 is FAT with unified kernel images, which only a firmware boots",
        "partition 4 is ext4 without a kernel in /boot",
    ] {
        assert!(told.contains(part), "{told}");
    }
    for bytes in [&[][..], &[0; 512], &[0xff; 4096]] {
        taken(&whole(bytes)).unwrap_err();
    }
}

#[test]
fn links_lead_nowhere_but_within_the_image() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a secret of the host").unwrap();
    let out = secret.path().to_str().unwrap();
    for target in [
        out,
        "../../../../../../etc/passwd",
        "vmlinuz",
        "/dev/null",
        ".",
    ] {
        let tree = Tree::root().link("boot/vmlinuz", target);
        let told = taken(&disk("gpt", &[tree.ext4()])).unwrap_err();
        assert!(told.contains("there is no kernel"), "{target}: {told}");
    }
    let tree = Tree::root()
        .file("boot/vmlinuz-1", "kernel")
        .link("boot/initrd.img-1", out)
        .link("boot/a", "b")
        .link("boot/b", "a")
        .link("boot/vmlinuz-2", "a");
    let (head, _, initrd) = taken(&disk("gpt", &[tree.ext4()])).unwrap();
    assert_eq!((head.version.as_str(), initrd), ("1", None));
}

/// Ends in any case, and never reads beyond the image.
#[test]
fn what_was_cut_or_written_over_is_refused_or_read_but_never_hangs() {
    let tree = Tree::root()
        .file("boot/vmlinuz-6.1", &"kernel ".repeat(40_000))
        .file("boot/initrd.img-6.1", &"initrd ".repeat(40_000));
    let image = disk(
        "gpt",
        &[
            tree.ext4(),
            Tree::new().file("loader/entries/a.conf", "linux /x").fat(),
        ],
    );
    let mut bytes = Vec::new();
    (&image).seek(SeekFrom::Start(0)).unwrap();
    (&image).read_to_end(&mut bytes).unwrap();
    for length in [
        1,
        511,
        1024,
        4096,
        17_000,
        1 << 20,
        (1 << 20) + 1024,
        3 << 20,
        5 << 20,
    ] {
        let _ = taken(&whole(&bytes[..length]));
    }
    // What holds structure: the table, superblocks, descriptors, the first inodes, the FAT.
    let mut state = 1_u64;
    for _ in 0..150 {
        let mut bytes = bytes.clone();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let random = usize::try_from(state >> 33).unwrap();
            let start = [
                512,
                1 << 20,
                (1 << 20) + 1024,
                (1 << 20) + (64 << 10),
                9 << 20,
            ][random % 5];
            let at = start + (random / 5) % 8192;
            bytes[at] = u8::try_from((random / 40_960) % 256).unwrap();
        }
        let _ = taken(&whole(&bytes));
    }
    // A file that says that it is larger than anything.
    let huge = Tree::root().file("boot/vmlinuz-1", "kernel");
    let path = huge.0.path().join("boot/vmlinuz-1");
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let told = taken(&disk("gpt", &[huge.ext4()])).unwrap_err();
    assert!(told.contains("is 314572800 bytes long"), "{told}");
}
