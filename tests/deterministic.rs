//! The same configuration renders to the same bytes, whoever renders it, when and where.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What differs from one render to the next.
struct Surroundings {
    locale: &'static str,
    time_zone: &'static str,
    umask: &'static str,
    directory: &'static str,
    user: &'static str,
}

const ONE: Surroundings = Surroundings {
    locale: "C",
    time_zone: "UTC",
    umask: "0022",
    directory: "/",
    user: "ada",
};
const OTHER: Surroundings = Surroundings {
    // Where the upper case of `i` is not `I`, and a comma stands in numbers.
    locale: "tr_TR.UTF-8",
    time_zone: "Pacific/Kiritimati",
    umask: "0177",
    directory: "/usr",
    user: "root",
};

/// The mode and the bytes of each file of the generation that a render makes.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn render(files: &[PathBuf], state_dir: &Path, around: &Surroundings) -> Tree {
    let nkudo = env!("CARGO_BIN_EXE_nkudo");
    let output = Command::new("sh")
        .args(["-c", "umask \"$1\" && shift && exec \"$@\"", "sh"])
        .args([around.umask, nkudo, "render", "--state-dir"])
        .arg(state_dir)
        .args(files)
        .current_dir(around.directory)
        .env("LC_ALL", around.locale)
        .env("LANG", around.locale)
        .env("TZ", around.time_zone)
        .env("USER", around.user)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut tree = Tree::new();
    collect(&state_dir.join("generations/1"), Path::new(""), &mut tree);
    // When it was rendered and by whom is in this one, and not in the generation's id.
    assert!(tree.remove(Path::new("rendered.json")).is_some());
    tree
}

fn collect(root: &Path, below: &Path, tree: &mut Tree) {
    let path = root.join(below);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    if path.is_dir() {
        tree.insert(below.to_owned(), (mode, Vec::new()));
        for entry in fs::read_dir(path).unwrap() {
            collect(root, &below.join(entry.unwrap().file_name()), tree);
        }
    } else {
        tree.insert(below.to_owned(), (mode, fs::read(path).unwrap()));
    }
}

/// Puts the golden configuration into `directory` under a name of the test's, with a hypervisor that is there.
fn configuration(directory: &Path, name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let case = golden.join("every_key_of_a_vm_reaches_its_unit/nkudo.toml");
    let hypervisor = directory.join("cloud-hypervisor");
    fs::write(&hypervisor, "#!/bin/sh\necho cloud-hypervisor v53.0\n").unwrap();
    fs::set_permissions(&hypervisor, fs::Permissions::from_mode(0o755)).unwrap();
    // A guest says that it is ready on x86_64 alone.
    let text = fs::read_to_string(case)
        .unwrap()
        .replace("ready = { when = \"guest\"", "ready = { when = \"vmm\"");
    let file = directory.join(name);
    assert!(!text.contains("[host]"));
    fs::write(
        &file,
        format!("[host]\nhypervisor = \"{}\"\n{text}", hypervisor.display()),
    )
    .unwrap();
    file
}

#[test]
fn a_generation_is_the_same_in_any_locale_umask_time_zone_and_directory() {
    let place = tempfile::tempdir().unwrap();
    let files = [configuration(place.path(), "nkudo.toml")];
    let one = render(&files, &place.path().join("one"), &ONE);
    let other = render(&files, &place.path().join("other"), &OTHER);
    assert!(one.len() > 5, "{:?}", one.keys());
    for (path, (mode, _)) in &one {
        assert_eq!(mode & 0o077, 0, "{} is not private", path.display());
    }
    assert_eq!(
        one.keys().collect::<Vec<_>>(),
        other.keys().collect::<Vec<_>>()
    );
    for (path, file) in &one {
        assert!(file == &other[path], "{} differs", path.display());
    }
}
