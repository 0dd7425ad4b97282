//! The booted specifications of VMs, as they are in /run/nkudo.

use std::io;

use camino::Utf8PathBuf;

use super::Specification;
use crate::booted::Booted;
use crate::files;
use crate::host::VmId;

/// Why it is not known what a VM was started from.
#[derive(Debug, thiserror::Error)]
pub enum BootedError {
    #[error("the VM's specification {0} is gone")]
    Absent(Utf8PathBuf),
    #[error("cannot read the VM's specification {path}")]
    Io {
        path: Utf8PathBuf,
        source: io::Error,
    },
    #[error("cannot make out the VM's specification {path}")]
    Format {
        path: Utf8PathBuf,
        source: serde_json::Error,
    },
    #[error("{path} is the specification of {found}, not of {id}")]
    OfAnother {
        path: Utf8PathBuf,
        found: VmId,
        id: VmId,
    },
}

/// The VMs that have a file of theirs, whatever is in it.
pub fn booted_ids() -> io::Result<Vec<VmId>> {
    let names = files::names(&Booted::directory())?;
    let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
    Ok(ids.filter_map(|id| id.parse().ok()).collect())
}

/// What a VM was started from.
pub fn booted(id: &VmId) -> Result<Booted, BootedError> {
    let path = Booted::path(id);
    let json = match files::read(&path) {
        Ok(Some(json)) => json,
        Ok(None) => return Err(BootedError::Absent(path)),
        Err(source) => return Err(BootedError::Io { path, source }),
    };
    let booted = match Booted::from_json(&json) {
        Ok(booted) => booted,
        Err(source) => return Err(BootedError::Format { path, source }),
    };
    if booted.id != *id {
        return Err(BootedError::OfAnother {
            path,
            found: booted.id,
            id: id.clone(),
        });
    }
    Ok(booted)
}

/// The same for whoever goes on without it.
pub fn specification(id: &VmId) -> Result<Specification, BootedError> {
    match booted(id) {
        Ok(booted) => Ok(Specification::Known(Box::new(booted))),
        Err(BootedError::Absent(_)) => Ok(Specification::Absent),
        Err(BootedError::Format { .. } | BootedError::OfAnother { .. }) => {
            Ok(Specification::Unreadable)
        }
        Err(err @ BootedError::Io { .. }) => Err(err),
    }
}
