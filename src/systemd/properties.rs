//! Properties of units, one Get each: GetAll would make systemd read the unit's cgroup files too.

use zbus::wire::ObjectPath;
use zbus::{Connection, OwnedVariant};

/// The interface that a property belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    Unit,
    Service,
}

impl Interface {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "org.freedesktop.systemd1.Unit",
            Self::Service => "org.freedesktop.systemd1.Service",
        }
    }
}

/// A property of the unit at `path`.
pub async fn property<T>(
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: Interface,
    name: &str,
) -> zbus::Result<T>
where
    T: TryFrom<OwnedVariant>,
    T::Error: Into<zbus::Error>,
{
    let reply = connection
        .call_method(
            Some("org.freedesktop.systemd1"),
            path,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &(interface.name(), name),
        )
        .await?;
    let value: OwnedVariant = reply.body().deserialize()?;
    T::try_from(value).map_err(Into::into)
}
