//! How long the copy of a sparse image of 20 GiB takes, and what it takes of the disk, against
//! `cp --reflink=auto --sparse=always` in the same run and place. `make bench` prints it.
//!
//! It fails where the copy is not sparse, or takes 10 s or more. `NKUDO_BENCH_DIR` is where: by default cargo's
//! directory for tests, on a real filesystem.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that cannot run fails by panicking, and prints what it found"
)]

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const SIZE: u64 = 20 << 30;
/// A piece of data of 1 MiB every so many bytes: 256 pieces.
const STEP: u64 = SIZE / 256;
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let place = std::env::var_os("NKUDO_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let place = tempfile::tempdir_in(place).unwrap();
    let path = |name: &str| place.path().join(name);
    let image = File::create_new(path("image")).unwrap();
    image.set_len(SIZE).unwrap();
    let data: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    for at in (0..SIZE).step_by(usize::try_from(STEP).unwrap()) {
        image.write_all_at(&data, at).unwrap();
    }
    image.sync_all().unwrap();
    println!("{:>8} {:>12} {:>12}  how", "", "wall clock", "allocated");
    let mut good = true;
    // The first run of each warms the caches for the other.
    for round in 0..2 {
        let begun = Instant::now();
        let (from, to) = (
            File::open(path("image")).unwrap(),
            File::create(path("nkudo")).unwrap(),
        );
        let copied = nkudo::disk::copy(&from, &to).unwrap();
        to.sync_all().unwrap();
        let took = begun.elapsed();
        good &= said("nkudo", took, &path("nkudo"), &format!("{copied:?}"));

        let begun = Instant::now();
        let cp = Command::new("cp")
            .args(["--reflink=auto", "--sparse=always"])
            .args([path("image"), path("cp")])
            .status();
        assert!(cp.unwrap().success());
        File::open(path("cp")).unwrap().sync_all().unwrap();
        said(
            "cp",
            begun.elapsed(),
            &path("cp"),
            "--reflink=auto --sparse=always",
        );
        if round == 0 {
            std::fs::remove_file(path("nkudo")).unwrap();
            std::fs::remove_file(path("cp")).unwrap();
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a copy's figures; whether they are good.
fn said(who: &str, took: Duration, file: &Path, how: &str) -> bool {
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), SIZE);
    let allocated = metadata.blocks() * 512;
    println!("{who:>8} {took:>12.1?} {:>8} MiB  {how}", allocated >> 20);
    took < LIMIT && allocated < 512 << 20
}
