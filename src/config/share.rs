//! `[[vm.<id>.share]]`.

use super::cursor::Value;
use super::device::elements;
use super::unique::Unique;
use super::values;
use crate::host::{DiskAccess, Share, ShareTag, VmId};

pub(super) fn shares(value: &Value<'_>, id: &VmId) -> Option<Vec<Share>> {
    let mut tags = Unique::default();
    let read: Vec<Option<Share>> = elements(value, id)?
        .iter()
        .map(|element| share(element, id, &mut tags))
        .collect();
    read.into_iter().collect()
}

fn share(value: &Value<'_>, id: &VmId, tags: &mut Unique<ShareTag>) -> Option<Share> {
    let mut table = value.table()?;
    let tag_value = table.take("tag");
    let source_value = table.take("source");
    let access = table.read("read-only", DiskAccess::ReadWrite, |value| {
        Some(if value.boolean()? {
            DiskAccess::ReadOnly
        } else {
            DiskAccess::ReadWrite
        })
    });
    for (key, found) in [("tag", &tag_value), ("source", &source_value)] {
        if found.is_none() {
            let message = format!("this share of VM `{id}` has no `{key}`");
            value.sink.report_absence(value.diagnostic(message));
        }
    }
    let tag = tag_value
        .as_ref()
        .and_then(|value| values::parsed::<ShareTag>(value, "the tag of a share", None));
    if let (Some(value), Some(tag)) = (&tag_value, &tag) {
        tags.claim(value.sink, tag.clone(), &value.place, "this share", || {
            format!("two shares of VM `{id}` have the tag `{tag}`")
        });
    }
    let source = source_value.as_ref().and_then(values::path);
    table.finish();
    Some(Share {
        tag: tag?,
        source: source?,
        access: access?,
    })
}
