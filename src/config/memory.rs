//! `memory` of a VM.

use super::cursor::Value;
use super::diagnostic::Diagnostic;
use super::values;
use crate::host::{Balloon, FreePages, HugePages, Memory, OnOom, Share, Sharing, Size};

const DEFAULT_SIZE: Size = Size::from_mib(512);
const LEAST_SIZE: Size = Size::from_mib(16);
/// What a virtio-mem region is a multiple of; cloud-hypervisor refuses any other.
const HOTPLUG_BLOCK: Size = Size::from_mib(128);

/// Where the file says nothing of it.
pub(super) fn default() -> Memory {
    of_size(DEFAULT_SIZE)
}

fn of_size(size: Size) -> Memory {
    Memory {
        size,
        max: size,
        hugepages: HugePages::Off,
        sharing: Sharing::Private,
        balloon: None,
    }
}

fn guest_size(value: &Value<'_>) -> Option<Size> {
    let size = values::size(value)?;
    if size < LEAST_SIZE {
        value.error(format!(
            "`{size}` is too little memory: the least is {LEAST_SIZE}"
        ));
        return None;
    }
    whole(value, size, Size::from_mib(1), "")
}

/// The size, if it is so many whole pages.
fn whole(value: &Value<'_>, size: Size, page: Size, what: &str) -> Option<Size> {
    if size.is_multiple_of(page) {
        return Some(size);
    }
    value.error(format!("`{size}` is not a multiple of {page}{what}"));
    None
}

pub(super) fn memory(value: &Value<'_>) -> Option<Memory> {
    if value.is_text() {
        return guest_size(value).map(of_size);
    }
    if !value.is_table() {
        if value.is_integer() {
            value.error_with_hint(
                "`memory`: expected a string or a table, found an integer",
                "write the size with its unit, as a string: `\"512M\"`",
            );
        } else {
            value.wrong_type("a string or a table");
        }
        return None;
    }
    let mut table = value.table()?;
    let size_value = table.take("size");
    let max_value = table.take("max");
    let pages_value = table.take("hugepages");
    let mergeable_value = table.take("mergeable");
    let shared = table.read("shared", false, Value::boolean);
    let balloon_value = table.take("balloon");
    let size = size_value.as_ref().map_or(Some(DEFAULT_SIZE), guest_size);
    if let Some(size) = size {
        table.derived("max", &size);
    }
    table.finish();

    let max = max_value.as_ref().map_or(size, guest_size);
    let hugepages = pages_value.as_ref().map_or(Some(HugePages::Off), hugepages);
    let mergeable = mergeable_value.as_ref().map_or(Some(false), Value::boolean);
    let (size, max, hugepages) = (size?, max?, hugepages?);
    let balloon = match &balloon_value {
        Some(value) if !value.is_boolean() => balloon(value, size).map(Some),
        Some(value) => value
            .boolean()
            .map(|wanted| wanted.then_some(Balloon::EMPTY)),
        None => Some(None),
    };
    let (mergeable, shared, balloon) = (mergeable?, shared?, balloon?);

    let mut good = true;
    if let Some(max_value) = max_value.as_ref().filter(|_| max < size) {
        max_value.error(format!(
            "`max` is {max}, which is less than the size, {size}"
        ));
        good = false;
    }
    if let Some(max_value) = max_value.as_ref().filter(|_| max > size) {
        let more = Size::from_bytes(max.bytes() - size.bytes());
        if !more.is_multiple_of(HOTPLUG_BLOCK) {
            max_value.error_with_hint(
                format!("`max` is {more} more than the size, and that is not a multiple of {HOTPLUG_BLOCK}"),
                "the guest gets more memory in Linux's blocks, which are of that size",
            );
            good = false;
        }
    }
    if let HugePages::Of(page) = hugepages {
        // The value that is wrong, or the page size where the memory's size is the default.
        let blamed = size_value.as_ref().or(pages_value.as_ref())?;
        let what = ", the size of its huge pages";
        good &= whole(blamed, size, page, what).is_some();
        if let Some(max_value) = &max_value {
            good &= whole(max_value, max, page, what).is_some();
        }
    }
    if let Some(value) = mergeable_value.filter(|_| mergeable) {
        if shared {
            value.error("memory cannot be both `mergeable` and `shared`");
            good = false;
        }
        if hugepages != HugePages::Off {
            value.error_with_hint(
                "memory of huge pages cannot be `mergeable`",
                "the kernel merges only pages of the ordinary size",
            );
            good = false;
        }
    }
    let sharing = match (shared, mergeable) {
        (true, _) => Sharing::Shared,
        (false, true) => Sharing::Mergeable,
        (false, false) => Sharing::Private,
    };
    good.then_some(Memory {
        size,
        max,
        hugepages,
        sharing,
        balloon,
    })
}

/// A balloon in a memory of this size.
fn balloon(value: &Value<'_>, memory: Size) -> Option<Balloon> {
    if !value.is_table() {
        value.wrong_type("a boolean or a table");
        return None;
    }
    let mut table = value.table()?;
    let size = table.read("size", Balloon::EMPTY.size, |value| {
        let size = values::size(value)?;
        if size >= memory {
            value.error_with_hint(
                format!("the balloon's size is {size}, and that of the memory {memory}"),
                "it is what the guest is to do without: it has to be less than the memory",
            );
            return None;
        }
        whole(value, size, Size::from_mib(1), "")
    });
    let reported = table.read("free-page-reporting", true, Value::boolean);
    let deflates = table.read("deflate-on-oom", true, Value::boolean);
    table.finish();
    Some(Balloon {
        size: size?,
        free_pages: if reported? {
            FreePages::Reported
        } else {
            FreePages::Kept
        },
        on_oom: if deflates? {
            OnOom::Deflate
        } else {
            OnOom::Keep
        },
    })
}

/// The memory of a VM with these shares: a vhost-user device needs it mapped shared, which huge pages are
/// anyway.
pub(super) fn shared(
    memory: Option<Memory>,
    value: Option<&Value<'_>>,
    shares: Option<&[Share]>,
) -> Option<Memory> {
    let mut memory = memory?;
    if shares.is_none_or(<[Share]>::is_empty) || memory.hugepages != HugePages::Off {
        return Some(memory);
    }
    if memory.sharing == Sharing::Mergeable {
        let value = value?;
        value.sink.report(
            Diagnostic::new(
                value.key_place.clone(),
                "a VM with shares cannot have `mergeable` memory",
            )
            .hint("virtiofsd needs the memory mapped shared, and such pages are not merged"),
        );
        return None;
    }
    memory.sharing = Sharing::Shared;
    Some(memory)
}

fn hugepages(value: &Value<'_>) -> Option<HugePages> {
    if value.is_boolean() {
        return Some(if value.boolean()? {
            HugePages::Default
        } else {
            HugePages::Off
        });
    }
    if !value.is_text() {
        value.wrong_type("`true`, `false` or a size");
        return None;
    }
    let size = values::size(value)?;
    if size != Size::from_mib(2) && size != Size::from_mib(1024) {
        value.error_with_hint(
            format!("huge pages cannot be of `{size}`"),
            "they are of `2M` or `1G`; `true` takes the host's default",
        );
        return None;
    }
    Some(HugePages::Of(size))
}
