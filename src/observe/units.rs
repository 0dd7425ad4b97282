//! VMs' units, as systemd has them.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zbus::Connection;

use super::{Unit, UnitOrigin, UnitState};
use crate::host::VmId;
use crate::systemd::{Interface, ManagerProxy, UnitListing, property};

/// Calls in flight. The bus refuses a client's 129th (max_replies_per_connection).
const IN_FLIGHT: usize = 8;

/// Every unit of a VM that is loaded: one listing, then what it does not say.
pub(super) async fn units(
    connection: &Connection,
    manager: &ManagerProxy<'_>,
) -> zbus::Result<BTreeMap<VmId, Unit>> {
    let listed = manager
        .list_units_by_patterns(&[], &["nkudo-vm@*.service"])
        .await?;
    let loaded = listed.into_iter().filter_map(|listing| {
        let id = listing
            .0
            .strip_prefix("nkudo-vm@")?
            .strip_suffix(".service")?
            .parse::<VmId>()
            .ok()?;
        // `not-found`: only named by another unit's dependency.
        (listing.2 != "not-found").then_some((id, listing))
    });
    let units = stream::iter(loaded)
        .map(|(id, listing)| async move { Ok((id, unit(connection, listing).await?)) })
        .buffer_unordered(IN_FLIGHT)
        .try_filter_map(|(id, unit)| async move { Ok(unit.map(|unit| (id, unit))) });
    units.try_collect().await
}

async fn unit(connection: &Connection, listing: UnitListing) -> zbus::Result<Option<Unit>> {
    let state = match listing.3.as_str() {
        "active" | "reloading" | "refreshing" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        _ => UnitState::Inactive,
    };
    let path = listing.6.as_ref();
    let read = async {
        tokio::try_join!(
            property::<bool>(connection, &path, Interface::Unit, "Transient"),
            property::<String>(connection, &path, Interface::Unit, "FragmentPath"),
            property::<Vec<String>>(connection, &path, Interface::Unit, "DropInPaths"),
            property::<u64>(connection, &path, Interface::Unit, "ActiveEnterTimestamp"),
            property::<Vec<Vec<u8>>>(connection, &path, Interface::Service, "LogExtraFields"),
            property::<u32>(connection, &path, Interface::Service, "MainPID"),
            property::<String>(connection, &path, Interface::Service, "Result"),
            property::<u32>(connection, &path, Interface::Service, "NRestarts"),
        )
    };
    let (transient, file, drop_ins, active_since, fields, main_pid, result, restarts) =
        match read.await {
            Ok(properties) => properties,
            // It was unloaded in between: a transient unit that has ended is gone.
            Err(zbus::Error::MethodError(..)) => return Ok(None),
            Err(err) => return Err(err),
        };
    // Asking for the properties of a unit that was unloaded since the listing loads it again, as
    // one that is not found.
    if !transient && file.is_empty() {
        return Ok(None);
    }
    Ok(Some(Unit {
        state,
        sub_state: listing.4,
        origin: if transient {
            UnitOrigin::Transient
        } else {
            UnitOrigin::File(file)
        },
        digest: field(&fields, "NKUDO_DIGEST").map(str::to_owned),
        generation: field(&fields, "NKUDO_GENERATION").and_then(|number| number.parse().ok()),
        main_pid,
        result,
        restarts,
        active_since,
        drop_ins,
    }))
}

/// The value of a journal field of the unit.
fn field<'a>(fields: &'a [Vec<u8>], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .filter_map(|field| std::str::from_utf8(field).ok())
        .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}
