//! The programs under test, as a layer that every machine has below its own files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::vmm::Vmm;
use super::{network_manager, stand_in};

static LAYER: Mutex<Option<TempDir>> = Mutex::new(None);

/// The layer: nkudo, the VMM, and the units that nkudo ships as files. Made once in a run.
pub(crate) fn layer() -> PathBuf {
    let mut layer = LAYER.lock().unwrap_or_else(PoisonError::into_inner);
    layer.get_or_insert_with(make).path().to_owned()
}

/// Removes it: what is static is not dropped.
pub(crate) fn remove() {
    drop(LAYER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn make() -> TempDir {
    let layer = tempfile::Builder::new()
        .prefix("host-programs-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let bin = layer.path().join("usr/local/bin");
    fs::create_dir_all(&bin).unwrap();
    put(Path::new(env!("CARGO_BIN_EXE_nkudo")), &bin.join("nkudo"));
    put(&Vmm::chosen().file(), &bin.join(stand_in::NAME));
    put(
        &std::env::current_exe().unwrap(),
        &bin.join(network_manager::NAME),
    );
    // For what the real one can do only where there is hardware for it.
    let stand_in = layer.path().join("usr/local/lib/stand-in");
    fs::create_dir_all(&stand_in).unwrap();
    put(
        &std::env::current_exe().unwrap(),
        &stand_in.join(stand_in::NAME),
    );
    let units = layer.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/units")).unwrap() {
        let unit = unit.unwrap();
        fs::copy(unit.path(), units.join(unit.file_name())).unwrap();
    }
    layer
}

/// A hard link where that can be, since the programs of a debug build are large.
fn put(from: &Path, to: &Path) {
    let done = fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()));
    done.unwrap_or_else(|err: io::Error| panic!("{}: {err}", from.display()));
}
