//! Makes a disk larger that no VM uses at the moment.

use std::fs::File;

use anyhow::Context as _;

use crate::host::{Disk, DiskFormat, Size};
use crate::image::qemu;

/// Makes a disk as large as this; one that is already is left as it is.
pub fn grow(disk: &Disk, size: Size) -> anyhow::Result<()> {
    let path = disk.path.as_path();
    match disk.format {
        DiskFormat::Raw => {
            let file = File::options()
                .write(true)
                .open(path)
                .with_context(|| format!("cannot open {path}"))?;
            if file.metadata()?.len() < size.bytes() {
                file.set_len(size.bytes())
                    .and_then(|()| file.sync_all())
                    .with_context(|| format!("cannot make {path} {size} large"))?;
            }
            Ok(())
        }
        DiskFormat::Qcow2 => {
            let backing = disk
                .backing
                .as_ref()
                .map(crate::host::AbsolutePath::as_path);
            qemu::resize(path, disk.format, backing, size)
        }
    }
}
