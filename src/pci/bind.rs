//! Takes a device from the host's driver, and gives it back.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use tokio::process::Command;
use tokio::time::Instant;

use super::{Place, Taken, VFIO_PCI};
use crate::files;
use crate::host::{IommuGroup, PciAddress, VmId};
use crate::interruption::effect;
use crate::programs;

/// How long the kernel, and udev after it, may take to do what it was told.
const LIMIT: Duration = Duration::from_secs(10);

/// Binds a device to `vfio-pci` for a VM, and returns its group. What the host had it with is noted first.
pub async fn take(place: &Place, address: PciAddress, vm: &VmId) -> anyhow::Result<IommuGroup> {
    bind_to_vfio(place, address, vm)
        .await
        .with_context(|| format!("cannot take the PCI device {address} from the host"))
}

async fn bind_to_vfio(place: &Place, address: PciAddress, vm: &VmId) -> anyhow::Result<IommuGroup> {
    let device = place.device(address);
    if !device.exists() {
        bail!("it is not there");
    }
    let group = place.group_of(address);
    let group = group.context("it is in no IOMMU group")?;
    let driver = place.driver_of(address);
    let noted = place.taken(address)?;
    if driver.as_deref() == Some(VFIO_PCI) {
        // Without a note it is an administrator who bound it, for good.
        if let Some(noted) = noted.filter(|noted| noted.vm != *vm) {
            let vm = vm.clone();
            place.note(address, &Taken { vm, ..noted })?;
        }
        return Ok(group);
    }
    load_module(place).await?;
    let overridden = driver_override(&device)?;
    let taken = match noted {
        // A run that was killed has got as far as this, or further.
        Some(noted) if driver.is_none() || overridden.as_deref() == Some(VFIO_PCI) => Taken {
            vm: vm.clone(),
            ..noted
        },
        _ => Taken {
            vm: vm.clone(),
            driver: driver.clone(),
            driver_override: overridden,
        },
    };
    place.note(address, &taken)?;
    write(&device.join("driver_override"), VFIO_PCI)?;
    if let Some(driver) = &driver {
        unbind(place, address, driver).await?;
    }
    let bound = write(&place.driver(VFIO_PCI).join("bind"), &address.to_string());
    let is_bound = || place.driver_of(address).as_deref() == Some(VFIO_PCI);
    // udev may have been quicker, and then there is nothing to bind any more.
    if !until(is_bound).await {
        bound?;
        bail!("the kernel has not bound it to {VFIO_PCI}; `dmesg` may say why");
    }
    let file = place.group_file(group);
    if !until(|| file.exists()).await {
        bail!("the kernel has not made {file}");
    }
    // udev sets the mode of a file that is new, and with that takes what an access list gives.
    settle_udev().await;
    Ok(group)
}

/// Gives a device back to the host: to the driver that it had, if it had one.
pub async fn give_back(place: &Place, address: PciAddress) -> anyhow::Result<()> {
    bind_to_host(place, address)
        .await
        .with_context(|| format!("cannot give the PCI device {address} back to the host"))
}

async fn bind_to_host(place: &Place, address: PciAddress) -> anyhow::Result<()> {
    let Some(taken) = place.taken(address)? else {
        return Ok(());
    };
    let device = place.device(address);
    // It was pulled out, or its controller is the guest of another VM.
    if !device.exists() {
        return Ok(place.forget(address)?);
    }
    let driver = place.driver_of(address);
    if driver.as_deref() == Some(VFIO_PCI)
        && let Some(group) = place.group_of(address)
        && let Some(holder) = holder(place, &place.group_file(group))
    {
        // The kernel would wait for it to end.
        bail!("{holder} has it");
    }
    if driver_override(&device)?.as_deref() == Some(VFIO_PCI) {
        // An empty line takes the override away.
        let before = taken.driver_override.as_deref().unwrap_or("\n");
        write(&device.join("driver_override"), before)?;
    }
    if driver.as_deref() == Some(VFIO_PCI) {
        unbind(place, address, VFIO_PCI).await?;
    }
    if let Some(name) = &taken.driver
        && place.driver_of(address).is_none()
    {
        let bind = place.driver(name).join("bind");
        let bound = if bind.exists() {
            write(&bind, &address.to_string())
        } else {
            // Its module was unloaded: the kernel takes what there is, and may find none.
            let probe = place.sysfs.join("bus/pci/drivers_probe");
            write(&probe, &address.to_string())
        };
        if !until(|| place.driver_of(address).is_some()).await {
            bound?;
            bail!(
                "its driver {name} has not taken it; `echo {address} > {bind}` tries again, and \
                 `rm {}` has nkudo leave it",
                place.record(address)
            );
        }
    }
    place.forget(address)?;
    Ok(())
}

async fn unbind(place: &Place, address: PciAddress, driver: &str) -> anyhow::Result<()> {
    write(&place.driver(driver).join("unbind"), &address.to_string())?;
    if !until(|| place.driver_of(address).is_none()).await {
        bail!("its driver {driver} does not let go of it");
    }
    Ok(())
}

/// What a driver was forced to be, if it was.
fn driver_override(device: &Utf8Path) -> io::Result<Option<String>> {
    let text = files::read(&device.join("driver_override"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

async fn load_module(place: &Place) -> anyhow::Result<()> {
    if place.driver(VFIO_PCI).is_dir() {
        return Ok(());
    }
    let modprobe = programs::find("modprobe").context("there is no modprobe to load vfio-pci")?;
    let loaded = programs::output(Command::new(modprobe).arg(VFIO_PCI), LIMIT).await;
    let loaded = loaded.context("cannot run `modprobe vfio-pci`")?;
    if !loaded.status.success() {
        let said = String::from_utf8_lossy(&loaded.stderr);
        bail!("`modprobe vfio-pci` failed: {}", said.trim());
    }
    effect();
    Ok(())
}

/// Waits until udev has done what was asked of it so far. Where there is no udev, nobody changes modes.
async fn settle_udev() {
    let Some(udevadm) = programs::find("udevadm") else {
        return;
    };
    let mut settle = Command::new(udevadm);
    let _ = programs::output(settle.args(["settle", "--timeout=10"]), LIMIT).await;
}

/// Tells the kernel something by a file of sysfs, in one write.
fn write(path: &Utf8Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let told = fs::File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    told.with_context(|| format!("the kernel does not take {:?} in {path}", text.trim()))?;
    effect();
    Ok(())
}

async fn until(is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process that has opened this device file, by whatever name.
fn holder(place: &Place, file: &Utf8Path) -> Option<String> {
    let device = fs::metadata(file).ok()?.rdev();
    let processes = place.proc.read_dir_utf8().ok()?;
    for process in processes.flatten() {
        let Ok(pid) = process.file_name().parse::<u32>() else {
            continue;
        };
        let fds = process.path().join("fd").read_dir_utf8();
        let has_it = fds.into_iter().flatten().flatten().any(|fd| {
            let file = fs::metadata(fd.path());
            file.is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == device)
        });
        if has_it {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim_end()));
        }
    }
    None
}
