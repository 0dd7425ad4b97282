//! `[host.tuning]`.

use std::collections::BTreeMap;

use super::cursor::{Table, Value};
use super::values;
use crate::host::{Governor, KsmRun, Size, SysctlName, SysctlValue, TimeSpan, Tuning};

/// What the kernel can count of them is far more than memory can hold.
const MOST_PAGES: i64 = 1 << 30;

pub(super) fn tuning(value: &Value<'_>) -> Option<Tuning> {
    let mut table = value.table()?;
    let hugepages = table.read("hugepages", BTreeMap::new(), hugepages);
    let ksm = table.read("ksm", Ksm::default(), ksm);
    let cpu_governor = table.optional("cpu-governor", governor);
    let sysctl = table.read("sysctl", BTreeMap::new(), sysctl);
    if let Some(sysctl) = &sysctl {
        // In the words of the file it is a table of its own.
        table.derived("sysctl", &shown(sysctl));
    }
    table.finish();
    let ksm = ksm?;
    Some(Tuning {
        hugepages: hugepages?,
        ksm: ksm.run,
        ksm_pages_to_scan: ksm.pages_to_scan,
        ksm_sleep: ksm.sleep,
        cpu_governor: cpu_governor?,
        sysctl: sysctl?,
    })
}

fn hugepages(value: &Value<'_>) -> Option<BTreeMap<Size, u32>> {
    let mut table = value.table()?;
    let mut pages = BTreeMap::new();
    let mut good = true;
    for (key, size) in [("2M", Size::from_mib(2)), ("1G", Size::from_mib(1024))] {
        match table.optional(key, count) {
            Some(Some(count)) => {
                pages.insert(size, count);
            }
            Some(None) => {}
            None => good = false,
        }
    }
    table.finish();
    good.then_some(pages)
}

fn count(value: &Value<'_>) -> Option<u32> {
    u32::try_from(value.integer(0, MOST_PAGES)?).ok()
}

#[derive(Default)]
struct Ksm {
    run: Option<KsmRun>,
    pages_to_scan: Option<std::num::NonZeroU32>,
    sleep: Option<TimeSpan>,
}

fn ksm(value: &Value<'_>) -> Option<Ksm> {
    let mut table = value.table()?;
    let run = table.optional("run", |value| {
        Some(if value.boolean()? {
            KsmRun::On
        } else {
            KsmRun::Off
        })
    });
    let pages_to_scan = table.optional("pages-to-scan", values::positive);
    let sleep = table.optional("sleep", sleep);
    table.finish();
    Some(Ksm {
        run: run?,
        pages_to_scan: pages_to_scan?,
        sleep: sleep?,
    })
}

fn sleep(value: &Value<'_>) -> Option<TimeSpan> {
    let span = values::time_span(value)?;
    if u32::try_from(span.duration().as_millis()).is_err() {
        value.error_with_hint(
            "KSM cannot sleep for more than 49 days",
            "`20ms` is what Linux has by itself",
        );
        return None;
    }
    Some(span)
}

fn governor(value: &Value<'_>) -> Option<Governor> {
    let governors = [
        Governor::Performance,
        Governor::Powersave,
        Governor::Ondemand,
        Governor::Conservative,
        Governor::Schedutil,
    ];
    values::choice(
        value,
        &governors.map(|governor| (governor.as_str(), governor)),
    )
}

fn sysctl(value: &Value<'_>) -> Option<BTreeMap<SysctlName, SysctlValue>> {
    let mut settings: BTreeMap<SysctlName, (SysctlValue, Value<'_>)> = BTreeMap::new();
    let mut good = true;
    let entries = value.table().map(Table::into_entries)?;
    for entry in entries {
        let (name, value) = (name(&entry), setting(&entry));
        let (Some(name), Some(value)) = (name, value) else {
            good = false;
            continue;
        };
        if let Some((_, first)) = settings.get(&name) {
            let diagnostic =
                super::Diagnostic::new(entry.key_place.clone(), format!("`{name}` is set twice"))
                    .label("again here, in another notation")
                    .also(first.key_place.clone(), "first here");
            entry.sink.report(diagnostic);
            good = false;
            continue;
        }
        settings.insert(name, (value, entry));
    }
    let settings = settings.into_iter();
    good.then(|| settings.map(|(name, (value, _))| (name, value)).collect())
}

fn name(entry: &Value<'_>) -> Option<SysctlName> {
    match entry.key.parse::<SysctlName>() {
        Ok(name) => Some(name),
        Err(error) => {
            let key = values::shown(entry.key);
            let diagnostic = super::Diagnostic::new(
                entry.key_place.clone(),
                format!("`{key}` cannot be set here: {error}"),
            );
            let dotted = entry
                .is_table()
                .then(|| format!("a name with dots is written in quotes: `\"{key}.…\" = 1`"));
            entry.sink.report(diagnostic.maybe_hint(dotted));
            None
        }
    }
}

fn setting(entry: &Value<'_>) -> Option<SysctlValue> {
    if entry.is_integer() {
        return entry.integer(i64::MIN, i64::MAX)?.to_string().parse().ok();
    }
    if entry.is_table() {
        // It is said of its key.
        return None;
    }
    if !entry.is_text() {
        entry.wrong_type("an integer or a string");
        return None;
    }
    values::parsed(entry, "a value that the kernel could have", None)
}

/// As TOML has them.
fn shown(settings: &BTreeMap<SysctlName, SysctlValue>) -> BTreeMap<String, String> {
    settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_str().to_owned()))
        .collect()
}
