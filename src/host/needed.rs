//! What has to be on the host already before a VM can start.

use std::fmt;

use camino::Utf8Path;

use super::{Boot, DiskName, DiskOrigin, RngSource, ShareTag, Vm};

/// What a VM uses a file of the host as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    Kernel,
    Initrd,
    Firmware,
    Disk(DiskName),
    /// A directory.
    Share(ShareTag),
    Rng,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("its kernel"),
            Self::Initrd => f.write_str("its initrd"),
            Self::Firmware => f.write_str("its firmware"),
            Self::Disk(name) => write!(f, "its disk {name}"),
            Self::Share(tag) => write!(f, "the source of its share {tag}"),
            Self::Rng => f.write_str("its source of random numbers"),
        }
    }
}

impl Vm {
    /// The files that nobody makes for the VM: disks that nkudo makes are not among them, and images may still be fetched.
    pub fn needed(&self) -> impl Iterator<Item = (Needed, &Utf8Path)> {
        let boot = match &self.boot {
            Boot::Kernel { kernel, initrd, .. } => {
                let initrd = initrd.as_ref().map(|initrd| (Needed::Initrd, initrd));
                [Some((Needed::Kernel, kernel)), initrd]
            }
            Boot::Firmware(firmware) => [Some((Needed::Firmware, firmware)), None],
            // It is taken out of the image, which is fetched.
            Boot::Inside { .. } => [None, None],
        };
        let disks = self
            .disks
            .iter()
            .filter(|disk| matches!(disk.origin, DiskOrigin::Existing | DiskOrigin::Image { .. }));
        let disks = disks.map(|disk| (Needed::Disk(disk.name.clone()), &disk.path));
        let shares = self.shares.iter();
        let shares = shares.map(|share| (Needed::Share(share.tag.clone()), &share.source));
        let rng = Some(self.rng).filter(|rng| *rng == RngSource::Hardware);
        let rng = rng.map(|rng| (Needed::Rng, Utf8Path::new(rng.path())));
        let files = boot.into_iter().flatten().chain(disks).chain(shares);
        files.map(|(what, path)| (what, path.as_path())).chain(rng)
    }
}
