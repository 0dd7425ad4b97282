//! Finds the programs that VMs' units run.

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use crate::host::HypervisorName;
use crate::hypervisor::Version;
use crate::observe::{self, Hypervisor};
use crate::unit::Programs;

/// The programs by absolute path, symbolic links resolved: the sandbox has only the file itself,
/// and a profile's link may be gone when a VM restarts.
pub(super) async fn programs(name: &HypervisorName) -> anyhow::Result<Programs> {
    let found = match name {
        HypervisorName::Absolute(path) => path.as_path().to_owned(),
        HypervisorName::OnPath(name) => crate::programs::find(name).with_context(|| {
            format!(
                "there is no `{name}` in PATH; install it, or name it under `[host] hypervisor`"
            )
        })?,
    };
    let hypervisor = found
        .canonicalize_utf8()
        .with_context(|| format!("cannot find the hypervisor {found}"))?;
    let hypervisor_version = match observe::hypervisor(&hypervisor).await {
        Hypervisor::Found(version) if version < Version::MINIMUM => bail!(
            "{hypervisor} is version {version}, and nkudo needs {} or newer",
            Version::MINIMUM
        ),
        Hypervisor::Found(version) => version,
        Hypervisor::Unusable(why) => bail!("cannot run {hypervisor}: {why}"),
    };
    Ok(Programs {
        hypervisor,
        hypervisor_version,
        nkudo: nkudo()?,
    })
}

/// This program, which is what the unit's steps are.
pub(super) fn nkudo() -> anyhow::Result<Utf8PathBuf> {
    let path = std::env::current_exe().context("cannot tell where nkudo itself is")?;
    let path = Utf8PathBuf::from_path_buf(path)
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))?;
    if path.as_str().ends_with(" (deleted)") {
        bail!("{path}: nkudo was replaced while it ran; run it again");
    }
    Ok(path)
}
