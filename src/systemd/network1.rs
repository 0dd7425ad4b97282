//! org.freedesktop.network1.Manager: systemd-networkd, as far as nkudo calls it.

use zbus::OwnedObjectPath;

/// Of a lease: address family, client id, address, gateway, Ethernet address, and when it ends, in microseconds
/// of `CLOCK_BOOTTIME`.
pub type LeaseOfNetworkd = (u32, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, u64);

#[zbus::proxy(
    interface = "org.freedesktop.network1.Manager",
    default_service = "org.freedesktop.network1",
    default_path = "/org/freedesktop/network1"
)]
pub trait Network1 {
    /// A link's index and its object.
    fn get_link_by_name(&self, name: &str) -> zbus::Result<(i32, OwnedObjectPath)>;

    /// Reads the files again. It answers before the links are as they say.
    fn reload(&self) -> zbus::Result<()>;

    /// Applies a link's files again, to put right what was changed by hand.
    fn reconfigure_link(&self, index: i32) -> zbus::Result<()>;
}

/// org.freedesktop.network1.DHCPServer, of a link's object.
#[zbus::proxy(
    interface = "org.freedesktop.network1.DHCPServer",
    default_service = "org.freedesktop.network1"
)]
pub trait DhcpServer {
    #[zbus(property(emits_changed_signal = "false"))]
    fn leases(&self) -> zbus::Result<Vec<LeaseOfNetworkd>>;
}
