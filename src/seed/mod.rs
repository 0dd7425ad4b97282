//! The seed: what cloud-init in a guest finds at its boot, as files and as the volume that holds them.
//!
//! cloud-init's data source is NoCloud: a volume labelled CIDATA with `meta-data`, `user-data`,
//! `vendor-data` and `network-config`. All of it is a function of its input, to the byte.

#![deny(clippy::disallowed_methods)]

mod first_boot;
mod mime;
mod module_keys;
mod network_config;
mod user_data;
mod volume;
mod yaml;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

pub use first_boot::{BadSshKey, FirstBoot, RunCommand, SshKey, Sudo, User, WriteFile};
pub use user_data::{BadUserData, UserData};
pub use volume::{VolumeError, volume};

use crate::host::{
    CloudInit, Disk, DiskAccess, DiskFormat, DiskOrigin, Network, NetworkName, Nic, RateLimit, Vm,
    VmId,
};
use crate::unit::RUNTIME_ROOT;
use yaml::Yaml;

/// The name of the disk that the volume is.
pub const NAME: &str = "cidata";

/// The names of a seed's files, as the data source NoCloud knows them.
pub const FILES: [&str; 4] = ["meta-data", "network-config", "user-data", "vendor-data"];

/// Where the volumes are.
pub fn directory_of_volumes() -> Utf8PathBuf {
    Utf8Path::new(RUNTIME_ROOT).join("seeds")
}

/// The volume as a disk of the VM's, which has it after its own ones.
pub fn disk(id: &VmId, vm: &Vm) -> Option<Disk> {
    vm.cloud_init.as_ref()?;
    Some(Disk {
        name: NAME.parse().ok()?,
        path: format!("{}/{id}.img", directory_of_volumes())
            .parse()
            .ok()?,
        format: DiskFormat::Raw,
        access: DiskAccess::ReadOnly,
        backing: None,
        origin: DiskOrigin::Existing,
        rate_limit: RateLimit::default(),
    })
}

/// Where the files of a VM's seed are in a generation.
pub fn directory(id: &VmId) -> Utf8PathBuf {
    Utf8Path::new("seeds").join(id.as_str())
}

/// The files of one VM's seed, by the names of [`FILES`].
pub fn files(
    cloud_init: &CloudInit,
    first_boot: &FirstBoot,
    nics: &[Nic],
    networks: &BTreeMap<NetworkName, Network>,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("meta-data", meta_data(cloud_init, first_boot)),
        (
            "network-config",
            network_config::network_config(nics, networks),
        ),
        ("user-data", user_data(first_boot)),
        ("vendor-data", vendor_data()),
    ])
}

fn meta_data(cloud_init: &CloudInit, first_boot: &FirstBoot) -> String {
    let mut entries = vec![
        ("instance-id", Yaml::text(cloud_init.instance_id.as_str())),
        ("local-hostname", Yaml::text(first_boot.hostname.as_str())),
    ];
    if !first_boot.ssh_authorized_keys.is_empty() {
        entries.push(("public-keys", Yaml::texts(&first_boot.ssh_authorized_keys)));
    }
    let owned = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Yaml::Map(owned.collect()).document()
}

/// The file's own user-data as it is; nkudo's keys as a cloud-config; both as a MIME message of the
/// two, of which cloud-init appends the second one's lists to the first one's.
fn user_data(first_boot: &FirstBoot) -> String {
    let keys = first_boot.cloud_config();
    let typed = |yaml: &Yaml| format!("#cloud-config\n{}", yaml.document());
    match &first_boot.user_data {
        None => typed(&keys),
        Some(whole) if first_boot.has_config() => mime::joined(whole, &typed(&keys)),
        Some(whole) => whole.text().to_owned(),
    }
}

/// Has the guest read its network configuration at each boot, not only at the first: an address that
/// changed in the file is the guest's at its next start, and nothing else of first boot runs again.
fn vendor_data() -> String {
    let when = Yaml::texts(["boot-new-instance", "boot"]);
    let updates = Yaml::map([("network", Yaml::map([("when", when)]))]);
    let config = Yaml::map([("updates", updates)]);
    format!("#cloud-config\n{}", config.document())
}
