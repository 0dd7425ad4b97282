//! `[image.<name>]`.

use super::cursor::{Table, Value};
use super::values;
use crate::host::{
    CmdLine, Compression, DiskFormat, ForeignFormat, Form, Image, ImageBoot, ImageFile, InsideWord,
    Location, Sha256, StoredFile, Url,
};

pub(super) fn image(value: &Value<'_>) -> Option<Image> {
    let mut table = value.table()?;
    let source = source(value, &mut table, "image");
    let format = table.optional("format", |value| {
        values::choice(
            value,
            &[
                ("raw", Format::Raw),
                ("qcow2", Format::Foreign(ForeignFormat::Qcow2)),
                ("vmdk", Format::Foreign(ForeignFormat::Vmdk)),
                ("vhdx", Format::Foreign(ForeignFormat::Vhdx)),
                ("vhd", Format::Foreign(ForeignFormat::Vhd)),
                ("vdi", Format::Foreign(ForeignFormat::Vdi)),
            ],
        )
    });
    let compression = table.optional("compression", |value| {
        values::choice(
            value,
            &[
                ("none", Compression::None),
                ("gz", Compression::Gz),
                ("xz", Compression::Xz),
                ("zstd", Compression::Zstd),
            ],
        )
    });
    let convert_value = table.take("convert");
    let convert = match &convert_value {
        Some(value) => values::choice(value, &[("raw", Convert::ToRaw)]),
        None => Some(Convert::No),
    };
    let boot = boot(&mut table, source.as_ref());
    table.finish();

    let (place, format, compression, convert) = (source?, format?, compression?, convert?);
    let (by_name, named_format) = suffixes(place.file_name());
    let compression = compression.unwrap_or(by_name);
    let Some(format) = format.or(named_format) else {
        place.value.error_with_hint(
            format!("the name of `{}` does not tell its format", place.from),
            "add `format = \"qcow2\"`, or what else it is; an `.img` may be either",
        );
        return None;
    };
    let form = match (format, convert) {
        (Format::Raw, Convert::No) => Form::Raw,
        (Format::Raw, Convert::ToRaw) => {
            convert_value
                .as_ref()?
                .error("the image is raw already: there is nothing to convert");
            return None;
        }
        (Format::Foreign(format), Convert::ToRaw) => Form::ToRaw(format),
        (Format::Foreign(ForeignFormat::Qcow2), Convert::No) => Form::Qcow2,
        (Format::Foreign(format), Convert::No) => {
            place.value.error_with_hint(
                format!("VMs cannot use a {} image as it is", format.word()),
                "add `convert = \"raw\"`",
            );
            return None;
        }
    };
    let disk = place.file(compression, form)?;
    Some(Image {
        disk,
        format: match form {
            Form::Qcow2 => DiskFormat::Qcow2,
            Form::Raw | Form::ToRaw(_) | Form::Boot => DiskFormat::Raw,
        },
        boot: boot?,
    })
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Raw,
    Foreign(ForeignFormat),
}

#[derive(Debug, Clone, Copy)]
enum Convert {
    No,
    ToRaw,
}

/// Where a file comes from, and its checksum.
struct Place<'a> {
    /// The value of `source`.
    value: Value<'a>,
    from: Location,
    sha256: Option<Sha256>,
}

impl Place<'_> {
    fn file_name(&self) -> &str {
        match &self.from {
            Location::Url(url) => url.file_name(),
            Location::Path(path) => path.as_path().file_name().unwrap_or(""),
        }
    }

    /// As it is where it can be, else by way of the store.
    fn file(self, compression: Compression, form: Form) -> Option<ImageFile> {
        let as_it_is = compression == Compression::None && !matches!(form, Form::ToRaw(_));
        match (self.from, self.sha256) {
            (Location::Path(path), sha256) if as_it_is => Some(ImageFile::Here { path, sha256 }),
            (from, Some(sha256)) => Some(ImageFile::Stored(StoredFile {
                from,
                sha256,
                compression,
                form,
            })),
            (Location::Path(path), None) => {
                self.value.error_with_hint(
                    "an image that is decompressed or converted needs its `sha256`",
                    format!(
                        "the result is kept by that: `sha256sum {path}` says it, and an image that \
                         changes is noticed"
                    ),
                );
                None
            }
            (Location::Url(url), None) => {
                self.value.error_with_hint(
                    format!("`{url}` needs a `sha256`"),
                    "its publisher gives one beside it (SHA256SUMS), and only that file is used",
                );
                None
            }
        }
    }
}

/// `source` and `sha256` of a table.
fn source<'a>(table_value: &Value<'a>, table: &mut Table<'a>, what: &str) -> Option<Place<'a>> {
    let source_value = table.take("source");
    let sha256 = table.optional("sha256", |value| {
        values::parsed(
            value,
            "a SHA-256 checksum",
            Some("`sha256sum FILE` prints one"),
        )
    });
    let Some(value) = source_value else {
        let message = format!("this {what} has no `source`");
        table_value.sink.report_absence(
            super::diagnostic::Diagnostic::new(table_value.key_place.clone(), message)
                .hint("write an absolute path, or a URL and its `sha256`"),
        );
        return None;
    };
    let from = location(&value);
    Some(Place {
        from: from?,
        sha256: sha256?,
        value,
    })
}

fn location(value: &Value<'_>) -> Option<Location> {
    if value.text()?.contains("://") {
        let url: Url = values::parsed(value, "a URL that can be fetched", None)?;
        return Some(Location::Url(url));
    }
    values::path(value).map(Location::Path)
}

/// What a file's name tells of its compression and its format.
fn suffixes(name: &str) -> (Compression, Option<Format>) {
    let compressions = [
        (".gz", Compression::Gz),
        (".xz", Compression::Xz),
        (".zst", Compression::Zstd),
        (".zstd", Compression::Zstd),
    ];
    let (stem, compression) = compressions
        .into_iter()
        .find_map(|(suffix, compression)| Some((name.strip_suffix(suffix)?, compression)))
        .unwrap_or((name, Compression::None));
    let format = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("raw") => Some(Format::Raw),
        Some("qcow2") => Some(Format::Foreign(ForeignFormat::Qcow2)),
        Some("vmdk") => Some(Format::Foreign(ForeignFormat::Vmdk)),
        Some("vhdx") => Some(Format::Foreign(ForeignFormat::Vhdx)),
        Some("vhd") => Some(Format::Foreign(ForeignFormat::Vhd)),
        Some("vdi") => Some(Format::Foreign(ForeignFormat::Vdi)),
        _ => None,
    };
    (compression, format)
}

/// The word that stands for the kernel in the image's own filesystem.
const INSIDE: &str = "inside";

/// `kernel`, `initrd` and `cmdline` of an image.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn boot(table: &mut Table<'_>, source: Option<&Place<'_>>) -> Option<Option<ImageBoot>> {
    let kernel_value = table.take("kernel");
    let initrd_value = table.take("initrd");
    let cmdline_value = table.take("cmdline");
    if let Some(kernel) = &kernel_value
        && kernel.is_text()
        && kernel.text()? == INSIDE
    {
        return inside(
            kernel,
            initrd_value.as_ref(),
            cmdline_value.as_ref(),
            source,
        );
    }
    let kernel = kernel_value.as_ref().map(boot_file);
    let initrd = initrd_value.as_ref().map(boot_file);
    let cmdline = cmdline_value
        .as_ref()
        .map(|value| values::parsed(value, "a kernel command line", None));
    let Some(kernel) = kernel else {
        let extra: Vec<_> = [&initrd_value, &cmdline_value]
            .into_iter()
            .flatten()
            .collect();
        for value in &extra {
            value.error(format!(
                "`{}` needs a `kernel`, and the image has none",
                value.key
            ));
        }
        return extra.is_empty().then_some(None);
    };
    let present = |read: Option<Option<ImageFile>>| read.map_or(Some(None), |file| file.map(Some));
    let (kernel, initrd) = (kernel, present(initrd));
    let cmdline = cmdline.map_or(Some(None), |cmdline| cmdline.map(Some));
    Some(Some(ImageBoot::Beside {
        kernel: kernel?,
        initrd: initrd?,
        cmdline: cmdline?,
    }))
}

/// What is taken out of the image itself.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether the file is good here"
)]
fn inside(
    kernel: &Value<'_>,
    initrd: Option<&Value<'_>>,
    cmdline: Option<&Value<'_>>,
    source: Option<&Place<'_>>,
) -> Option<Option<ImageBoot>> {
    let cmdline = match cmdline {
        Some(value) => Some(half_a_cmdline(value)?),
        None => None,
    };
    if let Some(initrd) = initrd {
        initrd.error_with_hint(
            "the kernel inside an image is booted with the `initrd` that is there too",
            "leave it out",
        );
        return None;
    }
    if source.is_some_and(|place| place.sha256.is_none()) {
        kernel.error_with_hint(
            "the kernel inside an image needs the image's `sha256`",
            "what is taken out is kept by that, and an image that changes is noticed",
        );
        return None;
    }
    Some(Some(ImageBoot::Inside {
        kernel: InsideWord::Inside,
        cmdline,
    }))
}

/// A command line to which that of an image's own kernel is added.
pub(super) fn half_a_cmdline(value: &Value<'_>) -> Option<CmdLine> {
    let cmdline: CmdLine = values::parsed(value, "a kernel command line", None)?;
    let length = cmdline.as_str().len();
    if length > CmdLine::HALF {
        value.error(format!(
            "`cmdline` is {length} bytes long; with the kernel inside an image it has at most {}, since the image \
             has its own as well",
            CmdLine::HALF
        ));
        return None;
    }
    Some(cmdline)
}

/// A path, or a table with a source and its checksum.
fn boot_file(value: &Value<'_>) -> Option<ImageFile> {
    if value.is_text() {
        let place = Place {
            from: location(value)?,
            sha256: None,
            value: value.clone(),
        };
        return place.file(Compression::None, Form::Boot);
    }
    if !value.is_table() {
        value.wrong_type("a path, or a table with `source` and `sha256`");
        return None;
    }
    let mut table = value.table()?;
    let place = source(value, &mut table, value.key);
    table.finish();
    place?.file(Compression::None, Form::Boot)
}
