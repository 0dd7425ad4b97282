//! org.freedesktop.machine1: systemd-machined, as far as nkudo calls it.

use zbus::OwnedObjectPath;

#[zbus::proxy(
    interface = "org.freedesktop.machine1.Manager",
    default_service = "org.freedesktop.machine1",
    default_path = "/org/freedesktop/machine1"
)]
pub trait Machine1 {
    fn get_machine(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    /// Of a machine whose unit somebody else made: the one that `leader` is in. `links` are indices of the host's.
    #[expect(clippy::too_many_arguments, reason = "the method has as many")]
    fn register_machine_with_network(
        &self,
        name: &str,
        id: &[u8],
        service: &str,
        class: &str,
        leader: u32,
        root_directory: &str,
        links: &[i32],
    ) -> zbus::Result<OwnedObjectPath>;

    /// Forgets a machine, and leaves its unit and its processes alone.
    fn unregister_machine(&self, name: &str) -> zbus::Result<()>;
}

/// A machine's object.
#[zbus::proxy(
    interface = "org.freedesktop.machine1.Machine",
    default_service = "org.freedesktop.machine1"
)]
pub trait Machine {
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit(&self) -> zbus::Result<String>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn leader(&self) -> zbus::Result<u32>;
}
