//! A unit's properties as D-Bus variants. A spelling only: `unit` decided everything.

use std::os::fd::OwnedFd;

use zbus::{Fd, Variant};

use crate::unit::{Property, Value};

/// A file descriptor for the unit's `ExtraFileDescriptors`, and the name it has there.
#[derive(Debug)]
pub struct ExtraFd {
    pub fd: OwnedFd,
    pub name: String,
}

/// The `a(sv)` of StartTransientUnit. The descriptors are passed to the unit as 3 and up, in their
/// order; systemd keeps a copy for as long as the unit is loaded, and ours is closed with what
/// this returns.
pub fn transient_properties(
    properties: Vec<Property>,
    extra: Vec<ExtraFd>,
) -> Vec<(String, Variant<'static>)> {
    let mut all: Vec<(String, Variant<'static>)> = properties
        .into_iter()
        .map(|property| (property.name, variant(property.value)))
        .collect();
    if !extra.is_empty() {
        let extra: Vec<(Fd<'static>, String)> = extra
            .into_iter()
            .map(|extra| (extra.fd.into(), extra.name))
            .collect();
        // a(hs); no unit file can say it, which is why a generation's text has no such line.
        all.push(("ExtraFileDescriptors".to_owned(), Variant::new(extra)));
    }
    all
}

fn variant(value: Value) -> Variant<'static> {
    match value {
        Value::Str(text) => Variant::new(text),
        Value::Bool(flag) => Variant::new(flag),
        Value::U64(number) => Variant::new(number),
        Value::U32(number) => Variant::new(number),
        Value::Strs(texts) => Variant::new(texts),
        Value::Execs(execs) => Variant::new(execs),
        Value::Filter(allow, names) => Variant::new((allow, names)),
        Value::ExitStatuses(statuses, signals) => Variant::new((statuses, signals)),
        Value::Pairs(pairs) => Variant::new(pairs),
        Value::Binds(binds) => Variant::new(binds),
        Value::Bytes(list) => Variant::new(list),
        Value::Addresses(list) => Variant::new(list),
    }
}
