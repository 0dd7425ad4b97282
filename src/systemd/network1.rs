//! org.freedesktop.network1.Manager: systemd-networkd, as far as nkudo calls it.

#[zbus::proxy(
    interface = "org.freedesktop.network1.Manager",
    default_service = "org.freedesktop.network1",
    default_path = "/org/freedesktop/network1"
)]
pub trait Network1 {
    /// Reads the files again. It answers before the links are as they say.
    fn reload(&self) -> zbus::Result<()>;

    /// Applies a link's files again, to put right what was changed by hand.
    fn reconfigure_link(&self, index: i32) -> zbus::Result<()>;
}
