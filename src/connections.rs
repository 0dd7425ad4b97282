//! The ways to the host: systemd over D-Bus, the kernel over rtnetlink.

use zbus::Connection;
use zbus::proxy::CacheProperties;

use crate::link::{LinkError, Netlink};
use crate::systemd::{JobError, Jobs, ManagerProxy};

#[derive(Debug)]
pub struct Connections {
    pub bus: Connection,
    pub manager: ManagerProxy<'static>,
    pub netlink: Netlink,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    // zbus says the source in its own text.
    #[error(
        "cannot reach systemd on the system bus: {0}; `systemctl start dbus.socket` starts that, and until then \
         `systemctl stop` and `systemctl status` work on VMs' units without it"
    )]
    Bus(zbus::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Connections {
    pub async fn open() -> Result<Self, ConnectError> {
        let bus = Connection::system().await.map_err(ConnectError::Bus)?;
        Self::over(bus, Netlink::connect()?).await
    }

    /// Over connections that are there: systemd may be reached otherwise than by the system bus.
    pub async fn over(bus: Connection, netlink: Netlink) -> Result<Self, ConnectError> {
        // A cache would ask for all properties, and to be told of all their changes, where one is read once.
        let manager = ManagerProxy::builder(&bus)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(ConnectError::Bus)?;
        Ok(Self {
            bus,
            manager,
            netlink,
        })
    }

    /// Follows systemd's jobs from now on: to be called before the first call that makes one.
    pub async fn jobs(&self) -> Result<Jobs, JobError> {
        Jobs::subscribe(&self.manager).await
    }
}
