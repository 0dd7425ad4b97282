//! `[[vm.<id>.disk]]`.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::cursor::{Table, Value};
use super::device::elements;
use super::diagnostic::Place;
use super::disk_kind::{ImageUse, Keys, Kind, format_of};
use super::nearest::did_you_mean;
use super::unique::Unique;
use super::values;
use super::vm::Shared;
use crate::host::{
    AbsolutePath, Disk, DiskAccess, DiskFormat, DiskName, DiskOrigin, Image, ImageName, Rate,
    RateLimit, VmId,
};

/// Which VM uses a path as a disk, and how.
#[derive(Debug, Default)]
pub(super) struct DiskUses(BTreeMap<AbsolutePath, (Place, VmId, DiskAccess)>);

impl DiskUses {
    /// A path can be shared only while nobody writes.
    fn claim(&mut self, value: &Value<'_>, id: &VmId, path: &AbsolutePath, access: DiskAccess) {
        let Some((place, other, other_access)) = self.0.get(path) else {
            self.0
                .insert(path.clone(), (value.place.clone(), id.clone(), access));
            return;
        };
        if access == DiskAccess::ReadOnly && *other_access == DiskAccess::ReadOnly {
            return;
        }
        value.sink.report(
            value
                .diagnostic(format!("`{path}` is used as a disk twice"))
                .label(format!("used again by VM `{id}`"))
                .also(place.clone(), format!("used first by VM `{other}`"))
                .hint("two can share a disk only if each has it with `read-only = true`"),
        );
    }
}

pub(super) fn disks(value: &Value<'_>, id: &VmId, shared: &mut Shared<'_>) -> Option<Vec<Disk>> {
    let mut names = Unique::default();
    let read: Vec<Option<Disk>> = elements(value, id)?
        .iter()
        .enumerate()
        .map(|(index, element)| disk(element, id, index, &mut names, shared))
        .collect();
    read.into_iter().collect()
}

fn disk(
    value: &Value<'_>,
    id: &VmId,
    index: usize,
    names: &mut Unique<DiskName>,
    shared: &mut Shared<'_>,
) -> Option<Disk> {
    let mut table = value.table()?;
    let keys = Keys::take(&mut table);
    let rate_limit = table.read("rate-limit", RateLimit::default(), rate_limit);
    let access = keys.access();
    let kind = keys.kind(value, id, access);
    let name = name(value, id, index, &keys, kind.as_ref(), names);
    if let Some(name) = &name {
        table.derived("name", name);
    }
    if let Some(Kind::Existing(path_value)) = &kind
        && keys.format.is_none()
        && path_value.is_text()
        && let Some(format) = path_value.text().and_then(|path| format_of(path.into()))
    {
        table.derived("format", &format);
    }
    table.finish();
    let disk = match kind? {
        Kind::Existing(path_value) => {
            let path = values::path(path_value);
            if let (Some(path), Some(access)) = (&path, access) {
                shared.disks.claim(path_value, id, path, access);
            }
            let format = keys.format(path_value, path.as_ref());
            Disk {
                name: name?,
                path: path?,
                format: format?,
                access: access?,
                backing: None,
                origin: DiskOrigin::Existing,
                rate_limit: rate_limit?,
            }
        }
        Kind::OfImage(image_value, form) => {
            let size = keys.size();
            let found = image(image_value, shared);
            let (image, of) = found?;
            // An image that is wrong itself has been reported.
            let (image, of, size, name) = (image.clone(), of?, size?, name?);
            let source = of.disk.path(shared.state_dir);
            let (path, format, backing, origin) = match form {
                ImageUse::Itself => {
                    shared
                        .disks
                        .claim(image_value, id, &source, DiskAccess::ReadOnly);
                    (source, of.format, None, DiskOrigin::Image { image })
                }
                ImageUse::Clone => (
                    made(shared, id, &name, of.format),
                    of.format,
                    None,
                    DiskOrigin::Clone { image, size },
                ),
                ImageUse::Overlay => (
                    made(shared, id, &name, DiskFormat::Qcow2),
                    DiskFormat::Qcow2,
                    Some(source),
                    DiskOrigin::Overlay { image, size },
                ),
            };
            Disk {
                name,
                path,
                format,
                access: access?,
                backing,
                origin,
                rate_limit: rate_limit?,
            }
        }
        Kind::Volume => {
            let (size, filesystem) = (keys.size(), keys.filesystem());
            let label = keys.label(filesystem);
            let origin = keys.volume(value, id, size?, filesystem?, label?);
            let name = name?;
            Disk {
                path: made(shared, id, &name, DiskFormat::Raw),
                name,
                format: DiskFormat::Raw,
                access: access?,
                backing: None,
                origin: origin?,
                rate_limit: rate_limit?,
            }
        }
    };
    if disk.origin.is_made() {
        shared.disks.claim(value, id, &disk.path, disk.access);
    }
    Some(disk)
}

/// Where nkudo makes a disk.
fn made(shared: &Shared<'_>, id: &VmId, name: &DiskName, format: DiskFormat) -> AbsolutePath {
    let file = format!("{name}.{format}");
    shared.state_dir.join(&["vms", id.as_str(), &file])
}

fn name(
    value: &Value<'_>,
    id: &VmId,
    index: usize,
    keys: &Keys<'_>,
    kind: Option<&Kind<'_, '_>>,
    names: &mut Unique<DiskName>,
) -> Option<DiskName> {
    let made = matches!(
        kind,
        Some(Kind::Volume | Kind::OfImage(_, ImageUse::Clone | ImageUse::Overlay))
    );
    let name: Option<DiskName> = match &keys.name {
        Some(value) => values::parsed(value, "the name of a disk", None),
        None if made && index > 0 => {
            // Its file is named by it: with names by position, removing one disk would give its
            // place, and so its name, to the next one's.
            let message = format!("this disk of VM `{id}` has no `name`");
            value.sink.report_absence(value.diagnostic(message).hint(
                "its file is named by it; only the first disk can do without, and is `disk0`",
            ));
            None
        }
        None => format!("disk{index}").parse().ok(),
    };
    if let Some(name) = &name {
        let place = keys
            .name
            .as_ref()
            .map_or(&value.place, |value| &value.place);
        names.claim(value.sink, name.clone(), place, "this disk", || {
            format!("two disks of VM `{id}` have the name `{name}`")
        });
    }
    name
}

/// The image that a disk names; its second part is absent where that is wrong itself.
fn image<'s>(value: &Value<'_>, shared: &Shared<'s>) -> Option<(&'s ImageName, Option<&'s Image>)> {
    let name: ImageName = values::parsed(value, "the name of an image", None)?;
    if let Some((name, image)) = shared.images.get_key_value(&name) {
        return Some((name, image.as_ref()));
    }
    let names: Vec<&str> = shared.images.keys().map(ImageName::as_str).collect();
    let hint = did_you_mean(name.as_str(), names.iter().copied()).unwrap_or_else(|| {
        match names.as_slice() {
            [] => "no image is declared: add an `[image.<name>]`".to_owned(),
            [one] => format!("the declared image is `{one}`"),
            _ => format!("the declared images are `{}`", names.join("`, `")),
        }
    });
    value.sink.report_absence(
        value
            .diagnostic(format!("image `{name}` is not declared"))
            .hint(hint),
    );
    None
}

fn rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    let mut table = value.table()?;
    let bandwidth = rate(&mut table, "bandwidth", "bandwidth-burst", |value| {
        let size = values::size(value)?;
        let bytes = NonZeroU64::new(size.bytes());
        if bytes.is_none() {
            value.error("with a limit of 0 the disk could not be used");
        }
        bytes
    });
    let iops = rate(&mut table, "iops", "iops-burst", |value| {
        NonZeroU64::new(u64::try_from(value.integer(1, i64::from(u32::MAX))?).ok()?)
    });
    table.finish();
    Some(RateLimit {
        bandwidth: bandwidth?,
        iops: iops?,
    })
}

#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn rate<'a>(
    table: &mut Table<'a>,
    key: &'static str,
    burst_key: &'static str,
    read: impl Fn(&Value<'a>) -> Option<NonZeroU64>,
) -> Option<Option<Rate>> {
    let rate = table.optional(key, &read);
    let burst_value = table.take(burst_key);
    let burst = burst_value
        .as_ref()
        .map_or(Some(None), |value| read(value).map(Some));
    let (rate, burst) = (rate?, burst?);
    match (rate, burst_value) {
        (Some(rate), _) => Some(Some(Rate { rate, burst })),
        (None, None) => Some(None),
        (None, Some(value)) => {
            value.error(format!("`{burst_key}` needs `{key}` beside it"));
            None
        }
    }
}
