//! Whatever is in place of the file, `nkudo check` ends in a clear error or a result, soon and in bounded
//! memory.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Checks what is at `path`, with 1 GiB of memory and five minutes, which are for machines that do much
/// else: it takes seconds.
fn check(path: &str, stdin: Stdio) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -v 1048576; exec timeout 300 \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_nkudo"), "check", "--elsewhere", path])
        .stdin(stdin)
        .output()
        .unwrap()
}

fn check_bytes(bytes: &[u8]) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    check(file.path().to_str().unwrap(), Stdio::null())
}

/// It ended with this exit code, and said this.
fn assert_said(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let shown: String = said.chars().take(2000).collect();
    assert_eq!(output.status.code(), Some(code), "{shown}");
    assert!(said.contains(words), "{words:?} is not in:\n{shown}");
    assert!(!said.contains("panicked"), "{shown}");
    assert!(said.len() < 200_000, "{} bytes are said", said.len());
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let fifo = place.path().join("nkudo.toml");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for path in [fifo.to_str().unwrap(), "/dev/zero", "/"] {
        let output = check(path, Stdio::null());
        assert_said(
            &output,
            1,
            &format!("cannot read {path}: it is not a regular file"),
        );
    }
    let output = check("/nowhere/nkudo.toml", Stdio::null());
    assert_said(&output, 1, "cannot read /nowhere/nkudo.toml: No such file");
}

#[test]
fn a_file_without_end_is_refused() {
    let zero = fs::File::open("/dev/zero").unwrap();
    let output = check("-", zero.into());
    assert_said(
        &output,
        1,
        "cannot read <standard input>: it is larger than 16 MiB",
    );
    let place = tempfile::tempdir().unwrap();
    let sparse = place.path().join("nkudo.toml");
    fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    let output = check(sparse.to_str().unwrap(), Stdio::null());
    assert_said(&output, 1, "it is larger than 16 MiB");
}

#[test]
fn what_is_not_utf_8_is_refused_with_the_place() {
    let output = check_bytes(b"[vm.web]\n# \xff\n");
    assert_said(&output, 1, "it is not UTF-8");
    assert_said(&output, 1, "index 11");
}

#[test]
fn an_empty_file_is_a_host_without_vms() {
    assert_said(&check_bytes(b""), 0, "0 VMs, 0 networks: no mistakes");
}

const TEN_MEGABYTES: usize = 10_000_000;

#[test]
fn ten_megabytes_that_are_no_toml_are_answered() {
    for (pattern, size) in [
        ("= =\n", TEN_MEGABYTES),
        ("x", TEN_MEGABYTES),
        ("a = 1\n", TEN_MEGABYTES / 8),
        ("[vm.web]\n", TEN_MEGABYTES / 8),
        ("a.", TEN_MEGABYTES / 8),
    ] {
        let text = pattern.repeat(size / pattern.len());
        assert_said(&check_bytes(text.as_bytes()), 3, "error: ");
    }
}

#[test]
fn nesting_without_end_is_answered() {
    for (before, pattern) in [("a = ", "["), ("a = ", "{a="), ("[", "a."), ("", "[[")] {
        let text = format!("{before}{}", pattern.repeat(1_000_000));
        assert_said(&check_bytes(text.as_bytes()), 3, "error: ");
    }
}

#[test]
fn many_mistakes_are_counted_and_not_all_shown() {
    let mut text = String::new();
    for number in 0..100_000 {
        writeln!(text, "[vm.V{number}]\nvcpu = 1").unwrap();
    }
    let output = check_bytes(text.as_bytes());
    assert_said(&output, 3, "`V0` cannot be the name of a VM");
    assert_said(&output, 3, "and 99800 more");
    let text = format!("[vm.web]\nafter = [{}]\n", "\"db\", ".repeat(100_000));
    assert_said(&check_bytes(text.as_bytes()), 3, "VM `db` is not declared");
}

#[test]
fn ten_thousand_vms_are_a_result() {
    assert!(Path::new("/proc/meminfo").exists());
    let mut text = String::new();
    for number in 0..10_000 {
        writeln!(text, "[vm.v{number}]\nkernel = \"/srv/vmlinux\"").unwrap();
    }
    assert_said(
        &check_bytes(text.as_bytes()),
        0,
        "10000 VMs, 0 networks: no mistakes",
    );
}
