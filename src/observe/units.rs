//! VMs' units, as systemd has them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zbus::wire::ObjectPath;
use zbus::{Connection, OwnedVariant};

use super::running::{Known, Running, is_administrators};
use super::{Detail, Unit, UnitFacts, UnitOrigin, UnitState};
use crate::files;
use crate::host::VmId;
use crate::systemd::{Interface, ManagerProxy, UnitListing, is_answer, property};
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
        .list_units_by_patterns(&[], &["nkudo-vm@*.service", "nkudo-ready@*.service"])
        .await?;
    let not_ready: BTreeSet<VmId> = listed
        .iter()
        .filter(|listing| state(&listing.3) == UnitState::Activating)
        .filter_map(|listing| {
            let id = listing.0.strip_prefix("nkudo-ready@")?;
            id.strip_suffix(".service")?.parse().ok()
        })
        .collect();
    let loaded = listed.into_iter().filter_map(|listing| {
        let id = listing
            .0
            .strip_prefix("nkudo-vm@")?
            .strip_suffix(".service")?
            .parse::<VmId>()
            .ok()?;
        let mut listing = listing;
        // What is waited for besides is a part of its start.
        if not_ready.contains(&id) && state(&listing.3) == UnitState::Active {
            "activating".clone_into(&mut listing.3);
            "not-ready".clone_into(&mut listing.4);
        }
        // `not-found`: only named by another unit's dependency.
        (listing.2 != "not-found").then_some((id, listing))
    });
    let running = &Running::look();
    let units = stream::iter(loaded)
        .map(|(id, listing)| async move {
            let unit = unit(connection, &id, listing, running, detail).await?;
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
    running: &Running,
    detail: Detail,
) -> zbus::Result<Option<Unit>> {
    let mut unit = Unit {
        state: state(&listing.3),
        sub_state: listing.4,
        origin: UnitOrigin::Transient,
        digest: None,
        generation: None,
        limits: LimitValues::new(),
        drop_ins: Vec::new(),
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
    let path = listing.6.as_ref();
    if unit.state == UnitState::Active && unit.digest.is_some() {
        let asked = async {
            let drop_ins = async {
                if running.may_have_drop_ins(id) {
                    drop_ins(connection, &path).await
                } else {
                    Ok(Vec::new())
                }
            };
            let facts = async {
                match detail {
                    Detail::Plan => Ok(None),
                    Detail::Status | Detail::Networks => {
                        facts(connection, &path, running.known(id)).await.map(Some)
                    }
                }
            };
            tokio::try_join!(drop_ins, facts)
        };
        (unit.drop_ins, unit.facts) = match asked.await {
            Ok(asked) => asked,
            Err(err) if is_answer(&err) => return Ok(None),
            Err(err) => return Err(err),
        };
        return Ok(Some(unit));
    }
    let read = async {
        tokio::try_join!(
            property::<bool>(connection, &path, Interface::Unit, "Transient"),
            property::<String>(connection, &path, Interface::Unit, "FragmentPath"),
            property::<Vec<Vec<u8>>>(connection, &path, Interface::Service, "LogExtraFields"),
            property::<String>(connection, &path, Interface::Service, "Result"),
            facts(connection, &path, Known::default()),
            drop_ins(connection, &path),
        )
    };
    let (transient, file, fields, result, facts, drop_ins) = match read.await {
        Ok(properties) => properties,
        // It was unloaded in between: a transient unit that has ended is gone.
        Err(err) if is_answer(&err) => return Ok(None),
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
    unit.facts = Some(UnitFacts { result, ..facts });
    unit.drop_ins = drop_ins;
    Ok(Some(unit))
}

/// Asks systemd for what is not known without it.
async fn facts(
    connection: &Connection,
    path: &ObjectPath<'_>,
    known: Known,
) -> zbus::Result<UnitFacts> {
    let (main_pid, since, restarts) = tokio::try_join!(
        or_ask(
            known.main_pid,
            connection,
            path,
            Interface::Service,
            "MainPID"
        ),
        or_ask(
            known.since,
            connection,
            path,
            Interface::Unit,
            "InactiveExitTimestamp"
        ),
        or_ask(
            known.restarts,
            connection,
            path,
            Interface::Service,
            "NRestarts"
        ),
    )?;
    Ok(UnitFacts {
        main_pid,
        result: "success".to_owned(),
        restarts,
        since,
    })
}

/// Asks for the administrator's drop-ins.
async fn drop_ins(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<Vec<String>> {
    let mut drop_ins: Vec<String> =
        property(connection, path, Interface::Unit, "DropInPaths").await?;
    // What SetUnitProperties keeps beside a transient unit is nkudo's own.
    drop_ins.retain(|path| is_administrators(path));
    Ok(drop_ins)
}

async fn or_ask<T>(
    known: Option<T>,
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: Interface,
    name: &str,
) -> zbus::Result<T>
where
    T: TryFrom<OwnedVariant>,
    T::Error: Into<zbus::Error>,
{
    match known {
        Some(known) => Ok(known),
        None => property(connection, path, interface, name).await,
    }
}

/// `ActiveState`, out of a listing.
pub(super) fn state(word: &str) -> UnitState {
    match word {
        "active" | "reloading" | "refreshing" => UnitState::Active,
        "activating" => UnitState::Activating,
        "deactivating" => UnitState::Deactivating,
        "failed" => UnitState::Failed,
        _ => UnitState::Inactive,
    }
}

/// The journal fields in systemd's file of a transient unit; none where there is no such file.
pub(super) fn fields_of_transient(unit: &str) -> Vec<String> {
    let text = files::read(&Utf8Path::new(TRANSIENT).join(unit));
    let text = text.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("LogExtraFields=")?.to_owned()))
        .collect()
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
