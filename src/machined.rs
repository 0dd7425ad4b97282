//! VMs in `machinectl list`: what systemd-machined is told.
//!
//! It keeps a machine for as long as its unit is there, and does not see that a crash restart gave it another leader:
//! so each start of a VMM registers anew. It forgets a machine by itself when its unit has ended.

use std::time::Duration;

use zbus::{Connection, fdo};

use crate::host::{Nic, VmId, uuid};
use crate::systemd::{Machine1Proxy, MachineProxy, is_named};
use crate::unit::vm_unit_name;

/// How long it may take to answer; the bus starts it when it is called.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum MachinedError {
    #[error("systemd-machined is not on this host")]
    Absent,
    #[error("systemd-machined did not answer within {} s", LIMIT.as_secs())]
    Silent,
    #[error("a machine of that name, of the unit {0}, is there already")]
    Taken(String),
    #[error("systemd-machined refused: {why}")]
    Refused { name: String, why: String },
}

/// Makes it the machine of this name, with `leader`, its VMM, for its process.
pub async fn register(
    bus: &Connection,
    id: &VmId,
    leader: u32,
    nics: &[Nic],
) -> Result<(), MachinedError> {
    let links: Vec<i32> = nics.iter().filter_map(index).collect();
    within(async {
        let machined = Machine1Proxy::new(bus).await?;
        let (name, own_id) = (id.as_str(), uuid(id));
        let register = || {
            machined.register_machine_with_network(
                name,
                own_id.as_bytes(),
                "nkudo",
                "vm",
                leader,
                "",
                &links,
            )
        };
        match register().await {
            Err(err) if is_named(&err, "org.freedesktop.machine1.MachineExists") => {}
            other => return other.map(drop).map_err(MachinedError::from),
        }
        let path = machined.get_machine(name).await?;
        let there = MachineProxy::builder(bus).path(path).build().await?;
        let unit = there.unit().await?;
        if unit != vm_unit_name(id) {
            return Err(MachinedError::Taken(unit));
        }
        if there.leader().await? == leader {
            return Ok(());
        }
        // Of the run before this one.
        machined.unregister_machine(name).await?;
        register().await?;
        Ok(())
    })
    .await
}

/// Makes it be no machine any more, if it is one. The VM runs on.
pub async fn unregister(bus: &Connection, id: &VmId) -> Result<(), MachinedError> {
    let gone = within(async {
        let machined = Machine1Proxy::new(bus).await?;
        let path = machined.get_machine(id.as_str()).await?;
        let there = MachineProxy::builder(bus).path(path).build().await?;
        if there.unit().await? == vm_unit_name(id) {
            machined.unregister_machine(id.as_str()).await?;
        }
        Ok(())
    });
    match gone.await {
        Err(MachinedError::Absent) => Ok(()),
        Err(MachinedError::Refused { name, .. })
            if name == "org.freedesktop.machine1.NoSuchMachine" =>
        {
            Ok(())
        }
        other => other,
    }
}

async fn within(
    work: impl Future<Output = Result<(), MachinedError>>,
) -> Result<(), MachinedError> {
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or(Err(MachinedError::Silent))
}

/// The TAP, as the kernel numbers it.
fn index(nic: &Nic) -> Option<i32> {
    let path = format!("/sys/class/net/{}/ifindex", nic.tap);
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl From<zbus::Error> for MachinedError {
    fn from(err: zbus::Error) -> Self {
        // Names of the bus's own have variants.
        let (name, why) = match err {
            zbus::Error::FDO(err)
                if matches!(
                    *err,
                    fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)
                ) =>
            {
                return Self::Absent;
            }
            zbus::Error::MethodError(name, why, _) => {
                (name.to_string(), why.unwrap_or_else(|| name.to_string()))
            }
            other => (String::new(), other.to_string()),
        };
        // The bus starts it by its unit, which may be masked.
        let masked = [
            "org.freedesktop.systemd1.NoSuchUnit",
            "org.freedesktop.systemd1.UnitMasked",
        ];
        if masked.contains(&name.as_str()) {
            Self::Absent
        } else {
            Self::Refused { name, why }
        }
    }
}
