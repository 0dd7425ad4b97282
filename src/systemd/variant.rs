//! A unit's properties as D-Bus variants. A spelling only: `unit` decided everything.

use zbus::Variant;

use crate::unit::{Property, Value};

/// The `a(sv)` of StartTransientUnit.
pub fn transient_properties(properties: Vec<Property>) -> Vec<(String, Variant<'static>)> {
    properties
        .into_iter()
        .map(|property| (property.name, variant(property.value)))
        .collect()
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
        Value::Pairs(pairs) => Variant::new(pairs),
        Value::Binds(binds) => Variant::new(binds),
        Value::Bytes(list) => Variant::new(list),
        Value::Addresses(list) => Variant::new(list),
    }
}
