//! VMs' units, as systemd has them.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zbus::Connection;

use super::{Detail, Unit, UnitFacts, UnitOrigin, UnitState};
use crate::files;
use crate::host::VmId;
use crate::systemd::{Interface, ManagerProxy, UnitListing, property};
use crate::unit::{Limit, LimitValues, TRANSIENT, read_limits, vm_unit_name};

/// Calls in flight. The bus refuses a client's 129th (max_replies_per_connection).
const IN_FLIGHT: usize = 16;

/// Every unit of a VM that is loaded: one listing, and calls only where that does not say enough.
pub(super) async fn units(
    connection: &Connection,
    manager: &ManagerProxy<'_>,
    detail: Detail,
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
        .map(|(id, listing)| async move {
            let unit = unit(connection, &id, listing, detail).await?;
            Ok::<_, zbus::Error>((id, unit))
        })
        .buffer_unordered(IN_FLIGHT)
        .try_filter_map(|(id, unit)| async move { Ok(unit.map(|unit| (id, unit))) });
    units.try_collect().await
}

async fn unit(
    connection: &Connection,
    id: &VmId,
    listing: UnitListing,
    detail: Detail,
) -> zbus::Result<Option<Unit>> {
    let state = match listing.3.as_str() {
        "active" | "reloading" | "refreshing" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        _ => UnitState::Inactive,
    };
    let mut unit = Unit {
        state,
        sub_state: listing.4,
        origin: UnitOrigin::Transient,
        digest: None,
        generation: None,
        limits: LimitValues::new(),
        facts: None,
    };
    // The text says who the unit is without a call: systemd removes it with the unit.
    let place = Utf8Path::new(TRANSIENT).join(vm_unit_name(id));
    let read = |path: &Utf8Path| files::read(path).ok().flatten();
    if let Some(text) = read(&place) {
        let text = String::from_utf8_lossy(&text);
        read_limits(&mut unit.limits, &text);
        let fields: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("LogExtraFields="))
            .collect();
        identify(&mut unit, fields.into_iter());
    }
    // SetUnitProperties keeps what it set beside it, and that goes with the unit too.
    let beside = Utf8PathBuf::from(format!("{place}.d"));
    for name in files::names(&beside).unwrap_or_default() {
        if Limit::ALL.iter().any(|limit| limit.drop_in() == name)
            && let Some(text) = read(&beside.join(name))
        {
            read_limits(&mut unit.limits, &String::from_utf8_lossy(&text));
        }
    }
    let runs = unit.state == UnitState::Active && unit.digest.is_some();
    if runs && detail == Detail::Plan {
        return Ok(Some(unit));
    }
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
    if !transient {
        unit.origin = UnitOrigin::File(file);
    }
    let fields = fields
        .iter()
        .filter_map(|field| std::str::from_utf8(field).ok());
    identify(&mut unit, fields);
    unit.facts = Some(UnitFacts {
        main_pid,
        result,
        restarts,
        active_since,
        drop_ins,
    });
    Ok(Some(unit))
}

/// Takes the unit's identity from its journal fields.
fn identify<'a>(unit: &mut Unit, fields: impl Iterator<Item = &'a str>) {
    for field in fields {
        match field.split_once('=') {
            Some(("NKUDO_DIGEST", digest)) => unit.digest = Some(digest.to_owned()),
            Some(("NKUDO_GENERATION", number)) => unit.generation = number.parse().ok(),
            _ => {}
        }
    }
}
