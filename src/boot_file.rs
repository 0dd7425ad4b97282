//! What the first bytes of a kernel or a firmware say: a function of bytes that the caller has read.

#![deny(clippy::disallowed_methods)]

/// How many of them are looked at.
pub const LENGTH: usize = 1024;

/// What a VM boots with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Kernel,
    /// A firmware may be anything that the VMM maps; only a wrong architecture can be told.
    Firmware,
}

/// Why a VM cannot boot a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBootFile {
    #[error("it is empty")]
    Empty,
    #[error("it is for {found}, and this host is {host}")]
    Architecture { found: String, host: String },
    #[error("it is no kernel: neither {0}")]
    NoKernel(&'static str),
    #[error("it is compressed ({0}), and the VMM takes kernels as they are; decompress it")]
    Compressed(&'static str),
}

/// Checks what a host of this architecture (`std::env::consts::ARCH`) would boot.
pub fn check(role: Role, first: &[u8], architecture: &str) -> Result<(), BadBootFile> {
    if first.is_empty() {
        return Err(BadBootFile::Empty);
    }
    let other = |found: &str| BadBootFile::Architecture {
        found: found.to_owned(),
        host: architecture.to_owned(),
    };
    if let Some(found) = machine(first) {
        return if found == architecture {
            Ok(())
        } else {
            Err(other(&found))
        };
    }
    if role == Role::Firmware {
        return Ok(());
    }
    match first {
        [0x1f, 0x8b, ..] => return Err(BadBootFile::Compressed("gz")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(BadBootFile::Compressed("zstd")),
        // An arm64 kernel of EFI that unpacks itself (drivers/firmware/efi/libstub of Linux).
        _ if first.get(4..8) == Some(b"zimg") => return Err(BadBootFile::Compressed("EFI zboot")),
        _ => {}
    }
    Err(BadBootFile::NoKernel(if architecture == "aarch64" {
        "an arm64 Image nor an ELF file"
    } else {
        "a bzImage nor an ELF file"
    }))
}

/// The architecture that a file of a known form is for, in Rust's words.
fn machine(first: &[u8]) -> Option<String> {
    if first.starts_with(b"\x7fELF") {
        let machine = first.get(18..20)?;
        // e_machine of elf(5); everything that runs here is little-endian.
        return Some(match u16::from_le_bytes([machine[0], machine[1]]) {
            62 => "x86_64".to_owned(),
            183 => "aarch64".to_owned(),
            243 => "riscv64".to_owned(),
            3 => "x86 (32 bits)".to_owned(),
            other => format!("the ELF machine {other}"),
        });
    }
    // The header of arm64's Image (Documentation/arch/arm64/booting.rst of Linux).
    if first.get(56..60) == Some(b"ARM\x64") {
        return Some("aarch64".to_owned());
    }
    // The setup header of x86 (Documentation/arch/x86/boot.rst).
    let is_bzimage =
        first.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && first.get(0x202..0x206) == Some(b"HdrS");
    is_bzimage.then(|| "x86_64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0; LENGTH];
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    #[test]
    fn kernels_are_known_and_those_of_another_architecture_refused() {
        let mut bzimage = with(0x202, b"HdrS");
        bzimage[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        let image = with(56, b"ARM\x64");
        for (file, architecture) in [
            (&elf(62), "x86_64"),
            (&bzimage, "x86_64"),
            (&elf(183), "aarch64"),
            (&image, "aarch64"),
        ] {
            assert_eq!(check(Role::Kernel, file, architecture), Ok(()));
            let other = if architecture == "x86_64" {
                "aarch64"
            } else {
                "x86_64"
            };
            for role in [Role::Kernel, Role::Firmware] {
                let refused = check(role, file, other);
                assert!(matches!(refused, Err(BadBootFile::Architecture { .. })));
            }
        }
    }

    #[test]
    fn what_is_no_kernel_says_so_and_a_firmware_may_be_anything() {
        let kernel = |first: &[u8]| check(Role::Kernel, first, "x86_64");
        assert_eq!(kernel(b""), Err(BadBootFile::Empty));
        assert!(matches!(kernel(b"text"), Err(BadBootFile::NoKernel(_))));
        assert_eq!(kernel(&[0x1f, 0x8b, 8]), Err(BadBootFile::Compressed("gz")));
        let zboot = with(4, b"zimg");
        let zboot = check(Role::Kernel, &zboot, "aarch64");
        assert_eq!(zboot, Err(BadBootFile::Compressed("EFI zboot")));
        assert_eq!(check(Role::Firmware, &[0; 64], "x86_64"), Ok(()));
    }
}
