//! The sections of all files together, as one host.

use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeTable;

use super::cursor::{Table, Value};
use super::diagnostic::{Diagnostic, Place};
use super::image::image;
use super::network::{Networks, network};
use super::sink::Sink;
use super::vm::{Shared, vm};
use super::{forward, order, tuning, values};
use crate::host::{
    AbsolutePath, BadIdentifier, Host, Image, ImageName, NetworkBackend, NetworkName, OnOff,
    ProgramName, Tuning, VmId,
};
use crate::seed::FirstBoot;

/// All `[image.*]`, all `[network.*]` or all `[vm.*]` of all files.
type Section<'a, N> = BTreeMap<N, Value<'a>>;

pub(super) fn host(sink: &Sink, roots: &[Spanned<DeTable<'_>>]) -> Option<(Host, FirstBoots)> {
    let mut hosts = Vec::new();
    let mut images = Vec::new();
    let mut networks = Vec::new();
    let mut vms = Vec::new();
    for (source, root) in roots.iter().enumerate() {
        let mut table = Table::root(sink, source, root.get_ref());
        hosts.extend(table.take("host"));
        images.extend(table.take("image"));
        networks.extend(table.take("network"));
        vms.extend(table.take("vm"));
        table.finish();
    }
    let settings = settings(sink, &hosts);
    let images: Section<'_, ImageName> = section(sink, "image", &images);
    let networks: Section<'_, NetworkName> = section(sink, "network", &networks);
    let vms: Section<'_, VmId> = section(sink, "VM", &vms);

    let mut known = Networks::default();
    let mut lowered_networks = BTreeMap::new();
    // In the order of the files, so that of two in conflict the later one is blamed.
    for (name, value) in by_place(&networks) {
        if let Some(network) = network(value, name, &mut known) {
            lowered_networks.insert(name.clone(), network);
        }
    }
    let lowered_images: BTreeMap<ImageName, Option<Image>> = images
        .iter()
        .map(|(name, value)| (name.clone(), image(value)))
        .collect();
    // Where it is wrong, that is reported, and no path with it gets anywhere.
    let fallback = AbsolutePath::default_state_dir();
    let state_dir = settings
        .as_ref()
        .map_or(&fallback, |settings| &settings.state_dir);
    let mut shared = Shared::new(
        networks.keys(),
        &lowered_networks,
        &lowered_images,
        state_dir,
    );
    let mut lowered_vms = BTreeMap::new();
    for (id, value) in by_place(&vms) {
        if let Some(vm) = vm(value, id, &mut shared) {
            lowered_vms.insert(id.clone(), vm);
        }
    }
    order::check(sink, &vms.keys().collect(), &shared.after);
    let ids: Vec<&VmId> = vms.keys().collect();
    let first_boots = shared.first_boots;
    forward::check(sink, &known, &ids, &lowered_vms, &lowered_networks);

    let Settings {
        hypervisor,
        virtiofsd,
        swtpm,
        state_dir,
        network_backend,
        machined,
        tuning,
    } = settings?;
    for vm in lowered_vms.values_mut() {
        vm.machined = machined;
    }
    let images = lowered_images.into_iter();
    let host = Host {
        hypervisor,
        virtiofsd,
        swtpm,
        state_dir,
        network_backend,
        tuning,
        images: images
            .filter_map(|(name, image)| image.map(|image| (name, image)))
            .collect(),
        networks: lowered_networks,
        vms: lowered_vms,
    };
    Some((host, first_boots))
}

type FirstBoots = BTreeMap<VmId, FirstBoot>;

struct Settings {
    hypervisor: ProgramName,
    virtiofsd: ProgramName,
    swtpm: ProgramName,
    state_dir: AbsolutePath,
    network_backend: NetworkBackend,
    machined: OnOff,
    tuning: Tuning,
}

/// `[host]`.
fn settings(sink: &Sink, hosts: &[Value<'_>]) -> Option<Settings> {
    for second in hosts.iter().skip(1) {
        twice(sink, "`[host]`", &second.key_place, &hosts[0].key_place);
    }
    let mut hypervisor = Some(ProgramName::OnPath("cloud-hypervisor".to_owned()));
    let mut virtiofsd = Some(ProgramName::virtiofsd());
    let mut swtpm = Some(ProgramName::swtpm());
    let mut state_dir = Some(AbsolutePath::default_state_dir());
    let mut backend = Some(NetworkBackend::Auto);
    let mut machined = Some(OnOff::Off);
    let mut tuning = Some(Tuning::default());
    // A second one is wrong as a whole, but what is in it may be wrong as well.
    for host in hosts {
        let mut table = host.table()?;
        if let Some(value) = table.take("hypervisor") {
            hypervisor = values::program(&value);
        }
        if let Some(value) = table.take("virtiofsd") {
            virtiofsd = values::program(&value);
        }
        if let Some(value) = table.take("swtpm") {
            swtpm = values::program(&value);
        }
        if let Some(value) = table.take("state-dir") {
            state_dir = values::path(&value);
        }
        if let Some(value) = table.take("network-backend") {
            backend = values::choice(
                &value,
                &[
                    ("auto", NetworkBackend::Auto),
                    ("networkd", NetworkBackend::Networkd),
                    ("netlink", NetworkBackend::Netlink),
                ],
            );
        }
        if let Some(value) = table.take("machined") {
            machined = value.boolean().map(OnOff::of);
        }
        if let Some(value) = table.take("tuning") {
            tuning = tuning::tuning(&value);
        }
        table.finish();
    }
    Some(Settings {
        hypervisor: hypervisor?,
        virtiofsd: virtiofsd?,
        swtpm: swtpm?,
        state_dir: state_dir?,
        network_backend: backend?,
        machined: machined?,
        tuning: tuning?,
    })
}

/// Gathers what is under `[image]`, `[network]` or `[vm]` in all files.
fn section<'a, N>(sink: &'a Sink, what: &str, parts: &[Value<'a>]) -> Section<'a, N>
where
    N: FromStr<Err = BadIdentifier> + Ord,
{
    let mut section = Section::<N>::new();
    for entry in parts
        .iter()
        .filter_map(Value::table)
        .flat_map(Table::into_entries)
    {
        let name: N = match entry.key.parse() {
            Ok(name) => name,
            Err(error) => {
                let message = format!(
                    "`{}` cannot be the name of a {what}: {error}",
                    values::shown(entry.key)
                );
                sink.report(Diagnostic::new(entry.key_place.clone(), message));
                continue;
            }
        };
        if let Some(first) = section.get(&name) {
            let title = format!("{what} `{}`", entry.key);
            twice(sink, &title, &entry.key_place, &first.key_place);
        } else {
            sink.declared(entry.path.as_deref(), &entry.key_place);
            section.insert(name, entry);
        }
    }
    section
}

fn twice(sink: &Sink, what: &str, second: &Place, first: &Place) {
    let diagnostic = Diagnostic::new(second.clone(), format!("{what} is defined twice"))
        .label("defined again here")
        .also(first.clone(), "defined first here");
    sink.report(diagnostic);
}

fn by_place<'s, 'a, N>(section: &'s Section<'a, N>) -> Vec<(&'s N, &'s Value<'a>)> {
    let mut entries: Vec<_> = section.iter().collect();
    entries.sort_by_key(|(_, value)| (value.key_place.source, value.key_place.span.start));
    entries
}
