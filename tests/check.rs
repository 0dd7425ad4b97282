//! `nkudo check` as a user runs it: the built binary, its streams and its exit codes.

use std::process::{Command, Output};

fn check(files: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nkudo"));
    command
        .arg("check")
        .args(files)
        .stdin(std::process::Stdio::null());
    command.output().expect("nkudo runs")
}

fn said(output: &Output) -> String {
    assert!(
        output.stdout.is_empty(),
        "check has no data for standard output"
    );
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn a_good_file_is_said_to_be_good() {
    let output = check(&["--elsewhere", "examples/hello.toml"]);
    assert_eq!(said(&output), "1 VM, 1 network: no mistakes\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn mistakes_are_told_with_their_places_and_exit_3() {
    let output = check(&["tests/diagnostics/after-names-no-vm.toml"]);
    assert!(
        said(&output).contains("after-names-no-vm.toml:5:10"),
        "{}",
        said(&output)
    );
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_is_no_file_is_an_error_and_not_a_wait() {
    for (path, why) in [
        ("/nowhere.toml", "No such file"),
        ("src", "not a regular file"),
    ] {
        let output = check(&[path]);
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_warning_is_no_mistake_unless_it_is_to_be_strict() {
    let file = "tests/diagnostics/warnings/a-network-has-no-vm.toml";
    let output = check(&["--elsewhere", file]);
    let text = said(&output);
    assert!(
        text.starts_with("warning: no VM is on network `spare`"),
        "{text}"
    );
    assert!(
        text.ends_with("1 VM, 2 networks: no mistakes, 1 warning\n"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(0));

    let output = check(&["--strict", file]);
    let text = said(&output);
    assert!(
        text.starts_with("error: no VM is on network `spare`"),
        "{text}"
    );
    assert!(!text.contains("no mistakes"), "{text}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_file_that_is_on_another_host_is_no_mistake_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("nkudo.toml");
    let toml = "[vm.web]\nkernel = \"/srv/vmlinux\"\nmemory = { size = \"999T\", hugepages = \"2M\" }\n\
                [vm.web.cloud-init]\nuser-data-file = \"/nowhere/user-data\"\n";
    std::fs::write(&file, toml).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let output = check(&[file]);
    assert!(said(&output).contains("cannot read `/nowhere/user-data`"));
    assert_eq!(output.status.code(), Some(3));

    // Nor is what this host has.
    let output = check(&["--elsewhere", file]);
    assert_eq!(said(&output), "1 VM, 0 networks: no mistakes\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_kernel_that_cannot_be_booted_here_and_files_that_are_missing_are_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    // An ELF file of RISC-V, for which there is no nkudo.
    let mut elf = vec![0; 64];
    elf[..4].copy_from_slice(b"\x7fELF");
    elf[18] = 243;
    std::fs::write(path("riscv"), elf).expect("a file");
    std::fs::write(path("text"), "no kernel").expect("a file");
    let toml = format!(
        "[vm.a]\nkernel = \"{0}\"\n[vm.b]\nkernel = \"{1}\"\n[vm.c]\nfirmware = \"{0}\"\n\
         [vm.d]\nfirmware = \"{1}\"\ndisk = [{{ path = \"/nowhere/d.raw\" }}]\n\
         [vm.e]\nfirmware = \"/nowhere/fw\"\n[image.i]\nsource = \"/nowhere/i.raw\"\n",
        path("riscv"),
        path("text"),
    );
    std::fs::write(path("nkudo.toml"), toml).expect("a file");
    let output = check(&[&path("nkudo.toml")]);
    let text = said(&output);
    for expected in [
        format!("VM a cannot boot {}: it is for riscv64", path("riscv")),
        format!("VM b cannot boot {}: it is no kernel", path("text")),
        format!("VM c cannot boot {}: it is for riscv64", path("riscv")),
        "VM d: cannot find its disk /nowhere/d.raw".to_owned(),
        "VM e cannot boot /nowhere/fw: No such file".to_owned(),
        "image i: cannot find /nowhere/i.raw".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert!(!text.contains("VM d cannot boot"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_disk_of_another_format_is_warned_of() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for (name, first) in [
        ("vmlinux", &b"\x7fELF\x02\x01\x01\0"[..]),
        ("cloud.raw", b"QFI\xfb\0\0\0\x03"),
        ("packed.raw", b"\xfd7zXZ\0"),
        ("plain.raw", b"\xeb\x63\x90"),
    ] {
        let mut bytes = first.to_vec();
        // x86_64 (ELF's e_machine).
        bytes.resize(18, 0);
        bytes.extend([62, 0]);
        bytes.resize(4096, 0);
        std::fs::write(file(name), bytes).unwrap();
    }
    let kernel = file("vmlinux");
    let disks: String = ["cloud.raw", "packed.raw", "plain.raw"]
        .map(|name| format!("[[vm.web.disk]]\npath = \"{}\"\n", file(name)))
        .concat();
    let toml = file("nkudo.toml");
    std::fs::write(&toml, format!("[vm.web]\nkernel = \"{kernel}\"\n{disks}")).unwrap();
    let output = check(&[&toml]);
    let said = said(&output);
    assert!(said.contains("it is a qcow2 file"), "{said}");
    assert!(
        said.contains("packed.raw of VM web is compressed (xz)"),
        "{said}"
    );
    assert!(!said.contains("plain.raw"), "{said}");
    assert!(said.contains("no mistakes, 2 warnings"), "{said}");
    assert!(output.status.success(), "{said}");
    assert_eq!(check(&["--strict", &toml]).status.code(), Some(1));
    let elsewhere = check(&["--strict", "--elsewhere", &toml]);
    assert!(elsewhere.status.success());
}
