//! Which kind of disk a `[[vm.<id>.disk]]` is, by the keys that it has.

use camino::Utf8Path;

use super::cursor::{Table, Value};
use super::values;
use crate::host::{
    AbsolutePath, DiskAccess, DiskFormat, DiskOrigin, Filesystem, Label, Size, VmId,
};

/// What a disk is, by the keys that it has.
#[derive(Debug)]
pub(super) enum Kind<'k, 'a> {
    Existing(&'k Value<'a>),
    OfImage(&'k Value<'a>, ImageUse),
    Volume,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum ImageUse {
    Itself,
    Clone,
    Overlay,
}

#[derive(Debug)]
pub(super) struct Keys<'a> {
    pub(super) path: Option<Value<'a>>,
    pub(super) image: Option<Value<'a>>,
    pub(super) name: Option<Value<'a>>,
    pub(super) format: Option<Value<'a>>,
    pub(super) read_only: Option<Value<'a>>,
    pub(super) size: Option<Value<'a>>,
    pub(super) overlay: Option<Value<'a>>,
    pub(super) filesystem: Option<Value<'a>>,
    pub(super) label: Option<Value<'a>>,
}

impl<'a> Keys<'a> {
    pub(super) fn take(table: &mut Table<'a>) -> Self {
        Self {
            path: table.take("path"),
            image: table.take("image"),
            name: table.take("name"),
            format: table.take("format"),
            read_only: table.take("read-only"),
            size: table.take("size"),
            overlay: table.take("overlay"),
            filesystem: table.take("filesystem"),
            label: table.take("label"),
        }
    }

    pub(super) fn access(&self) -> Option<DiskAccess> {
        let read_only = match &self.read_only {
            Some(value) => value.boolean()?,
            None => false,
        };
        Some(if read_only {
            DiskAccess::ReadOnly
        } else {
            DiskAccess::ReadWrite
        })
    }

    /// What the disk is; all keys that do not go with that are reported.
    pub(super) fn kind(
        &self,
        value: &Value<'_>,
        id: &VmId,
        access: Option<DiskAccess>,
    ) -> Option<Kind<'_, 'a>> {
        let read_only = access == Some(DiskAccess::ReadOnly);
        let overlay = match &self.overlay {
            Some(value) => value.boolean()?,
            None => false,
        };
        // `false` is what it is anyway.
        let asked = self.overlay.clone().filter(|_| overlay);
        if let Some(path) = &self.path {
            let others = [
                &self.image,
                &self.size,
                &asked,
                &self.filesystem,
                &self.label,
            ];
            let good = refuse(
                others,
                "the disk has a `path`: it is there already, and nkudo makes nothing",
            );
            return good.then_some(Kind::Existing(path));
        }
        let mut good = true;
        if let Some(image) = &self.image {
            good &= refuse(
                [&self.format, &self.filesystem, &self.label],
                "the disk is made from an image, which has all of that already",
            );
            let form = if read_only {
                good &= refuse(
                    [&self.size, &asked],
                    "the disk is read-only, so it is the image itself",
                );
                ImageUse::Itself
            } else if overlay {
                ImageUse::Overlay
            } else {
                ImageUse::Clone
            };
            return good.then_some(Kind::OfImage(image, form));
        }
        if self.size.is_none() && self.filesystem.is_none() {
            let message = format!("this disk of VM `{id}` has no `path`, `image` or `size`");
            value.sink.report_absence(value.diagnostic(message).hint(
                "`path` is for one that is there, `image` for one made from an image, `size` for an \
                 empty one",
            ));
            return None;
        }
        good &= refuse([&asked], "only a disk of an `image` can be one");
        good &= refuse([&self.format], "nkudo makes empty disks raw");
        if let Some(value) = self.read_only.as_ref().filter(|_| read_only) {
            value.error("an empty disk that is read-only would stay empty");
            good = false;
        }
        good.then_some(Kind::Volume)
    }

    /// The format of a disk that is there already.
    pub(super) fn format(
        &self,
        path_value: &Value<'_>,
        path: Option<&AbsolutePath>,
    ) -> Option<DiskFormat> {
        if let Some(value) = &self.format {
            let words = [("raw", DiskFormat::Raw), ("qcow2", DiskFormat::Qcow2)];
            return values::choice(value, &words);
        }
        let path = path?;
        let format = format_of(path.as_path());
        if format.is_none() {
            // Never guessed from the content: a guest that writes a qcow2 header to a raw disk
            // would choose which of the host's files it reads.
            path_value.error_with_hint(
                format!("the name of `{path}` does not tell its format"),
                "add `format = \"raw\"` or `format = \"qcow2\"`",
            );
        }
        format
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is whether the file is good here"
    )]
    pub(super) fn size(&self) -> Option<Option<Size>> {
        let Some(value) = &self.size else {
            return Some(None);
        };
        let size = values::size(value)?;
        if size < Size::from_mib(1) {
            value.error(format!("`{size}` is too small for a disk: the least is 1M"));
            return None;
        }
        // Guests see sectors; many filesystems want pages.
        if !size.is_multiple_of(Size::from_bytes(4096)) {
            value.error(format!("`{size}` is not a multiple of 4K"));
            return None;
        }
        if size > LARGEST {
            value.error(format!(
                "`{size}` is too large for a disk: the most is {LARGEST}"
            ));
            return None;
        }
        Some(Some(size))
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is whether the file is good here"
    )]
    pub(super) fn filesystem(&self) -> Option<Option<Filesystem>> {
        let Some(value) = &self.filesystem else {
            return Some(None);
        };
        let words = [
            Filesystem::Ext4,
            Filesystem::Xfs,
            Filesystem::Btrfs,
            Filesystem::Vfat,
        ]
        .map(|filesystem| (filesystem.as_str(), filesystem));
        values::choice(value, &words).map(Some)
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is whether the file is good here"
    )]
    pub(super) fn label(&self, filesystem: Option<Option<Filesystem>>) -> Option<Option<Label>> {
        let Some(value) = &self.label else {
            return Some(None);
        };
        let label: Label = values::parsed(value, "a filesystem's label", None)?;
        let Some(filesystem) = filesystem? else {
            value.error_with_hint(
                "a `label` is a filesystem's, and the disk has none",
                "add `filesystem = \"ext4\"`",
            );
            return None;
        };
        let longest = filesystem.longest_label();
        if label.as_str().len() > longest {
            value.error(format!(
                "`{label}` is {} bytes long; the longest label of {filesystem} has {longest}",
                label.as_str().len()
            ));
            return None;
        }
        Some(Some(label))
    }

    pub(super) fn volume(
        &self,
        value: &Value<'_>,
        id: &VmId,
        size: Option<Size>,
        filesystem: Option<Filesystem>,
        label: Option<Label>,
    ) -> Option<DiskOrigin> {
        let Some(size) = size else {
            let message = format!("this empty disk of VM `{id}` has no `size`");
            value.sink.report_absence(value.diagnostic(message));
            return None;
        };
        if let Some(filesystem) = filesystem
            && size < filesystem.least_size()
        {
            self.size.as_ref()?.error(format!(
                "`{size}` is too small for {filesystem}: the least is {}",
                filesystem.least_size()
            ));
            return None;
        }
        Some(DiskOrigin::Volume {
            size,
            filesystem,
            label,
        })
    }
}

/// The format that a path's extension tells.
pub(super) fn format_of(path: &Utf8Path) -> Option<DiskFormat> {
    match path.extension() {
        Some("qcow2") => Some(DiskFormat::Qcow2),
        Some("raw" | "img") => Some(DiskFormat::Raw),
        _ => None,
    }
}

/// What a file can be at most on ext4 with blocks of 4 KiB is just below 16 TiB; xfs and btrfs hold
/// more, and this.
const LARGEST: Size = Size::from_mib(1 << 30);

/// Reports those of the keys that are there; whether there are none.
fn refuse<'v, 'a: 'v, const N: usize>(keys: [&'v Option<Value<'a>>; N], why: &str) -> bool {
    let mut good = true;
    for value in keys.into_iter().flatten() {
        let message = format!("`{}` cannot be here: {why}", value.key);
        value.sink.report(super::diagnostic::Diagnostic::new(
            value.key_place.clone(),
            message,
        ));
        good = false;
    }
    good
}
