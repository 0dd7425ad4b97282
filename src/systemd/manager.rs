//! org.freedesktop.systemd1.Manager, by hand: what nkudo calls, and no more.

use zbus::{OwnedObjectPath, Variant};

/// A row of ListUnitsByPatterns: name, description, load state, active state, sub state, the unit
/// it follows, its object path, a queued job's id, that job's type, that job's path.
pub type UnitListing = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// A unit of the `aux` argument of StartTransientUnit: one that is made in the same transaction.
pub(crate) type Auxiliary<'a> = (String, Vec<(String, Variant<'a>)>);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(String, Variant<'_>)],
        aux: &[Auxiliary<'_>],
    ) -> zbus::Result<OwnedObjectPath>;

    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Changes properties of a unit that is loaded. `runtime`: until the next boot at most.
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(String, Variant<'_>)],
    ) -> zbus::Result<()>;

    /// Makes a file or directory of the host be at `destination`, which has to be there, in the mount
    /// namespace of a unit that runs. It lasts as long as the unit's main process.
    fn bind_mount_unit(
        &self,
        name: &str,
        source: &str,
        destination: &str,
        read_only: bool,
        mkdir: bool,
    ) -> zbus::Result<()>;

    /// Reads all units' files again; it answers when that is done.
    fn reload(&self) -> zbus::Result<()>;

    /// Sends a signal to a unit's processes; `whom` is `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;

    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<UnitListing>>;

    /// Name and state (`masked`, `static`, `transient`, …) of unit files.
    fn list_unit_files_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<(String, String)>>;

    /// The path of a unit that is loaded; the error NoSuchUnit where it is not.
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// The directories where systemd looks for units' files, the transient ones' too.
    #[zbus(property(emits_changed_signal = "const"))]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;

    /// `TasksMax=` of a unit that says nothing about it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn default_tasks_max(&self) -> zbus::Result<u64>;

    /// `starting`, `running`, `degraded`, `stopping`, … (systemctl(1), is-system-running).
    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String);
}
