//! Finds the programs that VMs' units run.

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;

use super::host_files;
use crate::host::{Host, ProgramName, VmId};
use crate::hypervisor::Version;
use crate::observe::{self, Hypervisor, Observed};
use crate::unit::Programs;

/// The programs by absolute path, symbolic links resolved: the sandbox has only the file itself,
/// and a profile's link may be gone when a VM restarts.
pub(super) async fn programs(host: &Host) -> anyhow::Result<Programs> {
    if let Some(why) = host_files::unheard(host, std::env::consts::ARCH) {
        bail!(why);
    }
    let name = &host.hypervisor;
    let found = match name {
        ProgramName::Absolute(path) => path.as_path().to_owned(),
        ProgramName::OnPath(name) => crate::programs::find(name).with_context(|| {
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
        virtiofsd: match host.vms.iter().find(|(_, vm)| !vm.shares.is_empty()) {
            Some((id, _)) => Some(companion(&host.virtiofsd, "virtiofsd", id, "shares")?),
            None => None,
        },
        swtpm: match host.vms.iter().find(|(_, vm)| vm.tpm.is_some()) {
            Some((id, _)) => Some(companion(&host.swtpm, "swtpm", id, "a TPM")?),
            None => None,
        },
    })
}

/// Where distributions put a virtiofsd that is on nobody's PATH.
const BESIDE_PATH: [&str; 3] = ["/usr/libexec", "/usr/lib", "/usr/lib/qemu"];

fn companion(name: &ProgramName, key: &str, id: &VmId, what: &str) -> anyhow::Result<Utf8PathBuf> {
    let found = match name {
        ProgramName::Absolute(path) => path.as_path().to_owned(),
        ProgramName::OnPath(name) => {
            let beside = BESIDE_PATH
                .iter()
                .map(|directory| Utf8PathBuf::from(*directory).join(name));
            crate::programs::find(name)
                .or_else(|| beside.into_iter().find(|file| file.is_file()))
                .with_context(|| {
                    format!(
                        "VM {id} has {what}, and there is no `{name}` on PATH; install it, or name it \
                         under `[host] {key}`"
                    )
                })?
        }
    };
    found
        .canonicalize_utf8()
        .with_context(|| format!("VM {id} has {what}, and {found} is not there"))
}

/// What VMs that start now are started with: this nkudo, and the hypervisor as it is by now.
pub(super) fn as_now(programs: &mut Programs, observed: &Observed) {
    // Without an answer, a generation's own word is the best that there is.
    if let Ok(nkudo) = nkudo() {
        programs.nkudo = nkudo;
    }
    if let Hypervisor::Found(version) = observed.hypervisor {
        programs.hypervisor_version = version;
    }
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
