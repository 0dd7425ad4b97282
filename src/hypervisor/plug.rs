//! Devices that are plugged in while the VM runs, as the API has them.

use serde_json::{Value, json};

use crate::host::{Disk, DiskAccess, DiskFormat, Rate};

use super::{Version, disk_id};

/// The DiskConfig of `vm.add-disk` for the disk that `argv` would give on the command line.
pub fn disk_config(disk: &Disk, version: Version) -> Value {
    let mut config = json!({
        "id": disk_id(disk),
        "path": disk.path.as_str(),
        "serial": disk.name.as_str(),
        "readonly": disk.access == DiskAccess::ReadOnly,
    });
    if version.knows_image_type() {
        config["image_type"] = match disk.format {
            DiskFormat::Raw => "Raw",
            DiskFormat::Qcow2 => "Qcow2",
        }
        .into();
        if disk.backing.is_some() {
            config["backing_files"] = true.into();
        }
    }
    if !disk.rate_limit.is_none() {
        config["rate_limiter_config"] = json!({
            "bandwidth": disk.rate_limit.bandwidth.map(bucket),
            "ops": disk.rate_limit.iops.map(bucket),
        });
    }
    config
}

fn bucket(rate: Rate) -> Value {
    json!({ "size": rate.rate, "one_time_burst": rate.burst, "refill_time": 1000 })
}
