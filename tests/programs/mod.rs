//! The programs of the hosts that golden files and plans are for.

use nkudo::hypervisor::Version;
use nkudo::unit::Programs;

pub(crate) fn programs() -> Programs {
    Programs {
        hypervisor: "/usr/bin/cloud-hypervisor".into(),
        hypervisor_version: Version {
            major: 53,
            minor: 0,
        },
        nkudo: "/usr/bin/nkudo".into(),
        virtiofsd: Some("/usr/libexec/virtiofsd".into()),
        swtpm: Some("/usr/bin/swtpm".into()),
    }
}
