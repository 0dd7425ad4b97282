//! PCI devices of the host that guests have.

use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::by_text;

/// The address of a PCI device, as `lspci -D` has it: domain, bus, device and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Above 0xffff where a controller of Intel's makes a domain of its own (VMD).
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A text is not the address of a PCI device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not of the form `0000:01:00.0`: domain, bus, device (up to 1f) and function (up to 7)"
)]
pub struct BadPciAddress;

impl FromStr for PciAddress {
    type Err = BadPciAddress;

    /// Also without its domain, as `lspci` prints it where there is one domain only.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, function) = text.split_once('.').ok_or(BadPciAddress)?;
        let parts: Vec<&str> = rest.split(':').collect();
        let (domain, bus, device) = match parts.as_slice() {
            [bus, device] => ("0000", *bus, *device),
            [domain, bus, device] => (*domain, *bus, *device),
            _ => return Err(BadPciAddress),
        };
        let number = |digits: &str, lengths: std::ops::RangeInclusive<usize>, most: u32| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(digits, 16).ok();
            number
                .filter(|number| plain && lengths.contains(&digits.len()) && *number <= most)
                .ok_or(BadPciAddress)
        };
        let byte = |number: u32| u8::try_from(number).map_err(|_| BadPciAddress);
        Ok(Self {
            domain: number(domain, 4..=8, u32::MAX)?,
            bus: byte(number(bus, 2..=2, 0xff)?)?,
            device: byte(number(device, 2..=2, 0x1f)?)?,
            function: byte(number(function, 1..=1, 7)?)?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

by_text!(PciAddress);

/// The number of an IOMMU group: the devices that the IOMMU cannot keep apart. It is the kernel's, and may be
/// another one after each boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IommuGroup(pub u32);

impl IommuGroup {
    /// The file by which a process has all devices of the group that are VFIO's.
    pub fn device_file(self) -> Utf8PathBuf {
        format!("{VFIO}/{self}").into()
    }
}

/// Where VFIO's files are.
const VFIO: &str = "/dev/vfio";
/// The file by which a process makes an address space of its own for devices.
pub const VFIO_CONTAINER: &str = "/dev/vfio/vfio";

impl fmt::Display for IommuGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        for (text, written) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.0", "0000:01:00.0"),
            ("0000:AF:1F.7", "0000:af:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            let address: PciAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "01:00",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "1:0.0",
            "0000:01:00.0.0",
            "0000:0000:01:00.0",
            "+000:01:00.0",
            "pci-0000:01:00.0",
            "0000:01:00.00",
        ] {
            assert_eq!(text.parse::<PciAddress>(), Err(BadPciAddress), "{text}");
        }
    }
}
