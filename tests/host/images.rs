//! Images from a server and from other formats, as a switch gets them.

use std::time::Instant;

use super::guest::Then;
use super::host::{Host, vm_alone};
use super::machine::Networkd;
use super::until::until;

cases![
    an_image_is_fetched_by_the_switch_that_needs_it,
    every_format_is_converted_to_the_same_bytes,
    a_converter_sees_nothing_but_its_image,
    a_fetch_killed_at_any_moment_is_finished_by_the_next,
    a_vm_boots_the_kernel_of_its_image,
    image_gc_keeps_what_is_used_and_refuses_when_it_cannot_tell,
    an_overlay_whose_image_was_written_to_is_not_started,
    an_image_over_https_is_verified_by_the_hosts_certificates,
];

const SERVED: &str = "/srv/served";

/// A host that serves a directory to itself.
fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.guest("web", Then::PowerOffWhenAsked);
    let script = format!(
        "set -e; ip link set lo up; mkdir -p {SERVED}; cd {SERVED}; truncate -s 64M image.raw; \
         dd if=/dev/urandom of=image.raw bs=1M seek=3 count=5 conv=notrunc status=none; \
         systemd-run -q --unit=server --working-directory={SERVED} python3 -m http.server 8000"
    );
    host.machine.ok(&["sh", "-c", &script]);
    until("the server answers", || {
        let asked = host.machine.run(&[
            "python3",
            "-c",
            "import socket; socket.create_connection(('127.0.0.1', 8000))",
        ]);
        if asked.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    host
}

impl Host {
    fn sha256(&self, file: &str) -> String {
        let printed = self.machine.ok(&["sha256sum", file]);
        printed.split_whitespace().next().unwrap().to_owned()
    }

    /// A configuration with a served image and a VM of it.
    fn served(&self, file: &str, more: &str, disk: &str) -> String {
        let sha256 = self.sha256(&format!("{SERVED}/{file}"));
        format!(
            "[image.base]\nsource = \"http://127.0.0.1:8000/{file}\"\nsha256 = \"{sha256}\"\n{more}\n{}\
             [[vm.web.disk]]\nname = \"root\"\nimage = \"base\"\n{disk}\n",
            vm_alone("web", "")
        )
    }
}

const ROOT: &str = "/var/lib/nkudo/vms/web/root.raw";
const IMAGES: &str = "/var/lib/nkudo/images";

fn an_image_is_fetched_by_the_switch_that_needs_it() {
    let host = host();
    let config = host.served("image.raw", "", "");
    host.switch_to(&config)
        .done()
        .says("image base: fetch http://127.0.0.1:8000/image.raw, for web")
        .says("got image base from http://127.0.0.1:8000/image.raw");
    let raw = host.sha256(&format!("{SERVED}/image.raw"));
    assert_eq!(host.sha256(ROOT), raw);
    assert_eq!(
        host.machine.ok(&["ls", "-A", IMAGES]),
        format!("{raw}.raw\n")
    );
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.nkudo(&["switch"]).done().says("nothing to do");
    // Nothing is asked of the server again.
    host.machine.ok(&["systemctl", "stop", "server"]);
    host.nkudo(&["image", "pull", "--all"]).done();
    host.machine.ok(&["rm", "-r", "/var/lib/nkudo/vms"]);
    host.nkudo(&["restart", "web"]).done();
    // A VM whose image cannot be had does not hold up the others, and runs on as it was.
    let pid = host.main_pid("web");
    let other = "[image.other]\nsource = \"http://127.0.0.1:8000/other.raw\"\nsha256 = \
         \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    let more = "[[vm.web.disk]]\nname = \"other\"\nimage = \"other\"\n";
    host.guest("second", Then::PowerOffWhenAsked);
    let second = vm_alone("second", "");
    host.switch_to(&format!("{other}{config}{more}{second}"))
        .ended(4)
        .says("VM web: cannot get image other: cannot fetch http://127.0.0.1:8000/other.raw");
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.property("second", "ActiveState"), "active");
}

fn every_format_is_converted_to_the_same_bytes() {
    let host = host();
    let raw = host.sha256(&format!("{SERVED}/image.raw"));
    for (format, qemu) in [
        ("qcow2", "qcow2"),
        ("vmdk", "vmdk"),
        ("vhdx", "vhdx"),
        ("vhd", "vpc"),
        ("vdi", "vdi"),
    ] {
        let script =
            format!("cd {SERVED} && qemu-img convert -f raw -O {qemu} image.raw image.{format}");
        host.machine.ok(&["sh", "-c", &script]);
        let config = host.served(
            &format!("image.{format}"),
            "convert = \"raw\"",
            "read-only = true",
        );
        host.switch_to(&config).done();
        let names = host.machine.ok(&["ls", "-A", IMAGES]);
        let name = names
            .lines()
            .find(|name| name.ends_with(&format!("-{qemu}.raw")));
        let name = name.unwrap_or_else(|| panic!("{format}: {names}"));
        // VHD counts in cylinders, and may end in zeros.
        let script = format!("head -c $((64 << 20)) {IMAGES}/{name} | sha256sum | cut -d' ' -f1");
        assert_eq!(
            host.machine.ok(&["sh", "-c", &script]).trim(),
            raw,
            "{format}"
        );
        let allocated = host
            .machine
            .ok(&["stat", "-c", "%b %a", &format!("{IMAGES}/{name}")]);
        let (blocks, mode) = allocated.trim().split_once(' ').unwrap();
        assert!(
            blocks.parse::<u64>().unwrap() * 512 < 12 << 20,
            "{format}: {blocks}"
        );
        assert_eq!(mode, "444");
    }
    for (program, suffix) in [("xz", "xz"), ("zstd", "zst"), ("gzip", "gz")] {
        let script =
            format!("cd {SERVED} && {program} -q -k -f image.raw && ls image.raw.{suffix}");
        host.machine.ok(&["sh", "-c", &script]);
        host.nkudo(&["stop", "web"]).done();
        host.machine.ok(&["rm", "-rf", "/var/lib/nkudo/vms"]);
        host.switch_to(&host.served(&format!("image.raw.{suffix}"), "", ""))
            .done();
        host.nkudo(&["start", "web"]).done();
        assert_eq!(host.sha256(ROOT), raw, "{suffix}");
    }
    let hidden = host.machine.ok(&["find", IMAGES, "-name", ".*"]);
    assert_eq!(hidden, "", "left behind");
}

fn a_converter_sees_nothing_but_its_image() {
    let host = host();
    // A descriptor that is text names the files of its extents: one of the host's here.
    host.machine.ok(&[
        "sh",
        "-c",
        "head -c 1M /dev/urandom > /srv/secret; chmod 644 /srv/secret",
    ]);
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\nRW 2048 FLAT \"/srv/secret\" 0\n";
    host.machine
        .write(&format!("{SERVED}/evil.vmdk"), descriptor, 0o644);
    host.switch_to(&host.served("evil.vmdk", "convert = \"raw\"", ""))
        .ended(4)
        .says("qemu-img failed");
    let qcow2 = format!(
        "cd {SERVED} && qemu-img create -q -u -f qcow2 -F raw -b /srv/secret evil.qcow2 1M"
    );
    host.machine.ok(&["sh", "-c", &qcow2]);
    for more in ["convert = \"raw\"", ""] {
        host.switch_to(&host.served("evil.qcow2", more, ""))
            .ended(4)
            .says("it refers to another file (a backing file)");
    }
    assert_eq!(
        host.machine
            .ok(&["find", IMAGES, "!", "-name", ".*.partial", "-type", "f"]),
        ""
    );
    // systemd-run's, in which images are read.
    assert_eq!(
        host.units("run-*.service"),
        "",
        "a converter was left behind"
    );
}

fn a_fetch_killed_at_any_moment_is_finished_by_the_next() {
    let host = host();
    let script = format!(
        "cd {SERVED} && dd if=/dev/urandom of=image.raw bs=1M count=60 conv=notrunc status=none && qemu-img convert -f raw -O qcow2 image.raw image.qcow2"
    );
    host.machine.ok(&["sh", "-c", &script]);
    let raw = host.sha256(&format!("{SERVED}/image.raw"));
    host.configure(&host.served("image.qcow2", "convert = \"raw\"", ""));
    // How long a whole one takes here, so that kills fall into it on any machine.
    let began = Instant::now();
    host.nkudo(&["image", "pull"]).done();
    let whole = began.elapsed();
    host.machine.ok(&["rm", "-r", IMAGES]);
    let (mut interrupted, mut partial, mut converting) = (0, 0, 0);
    for eighths in 1..=8 {
        let delay = (whole * eighths / 8).as_millis();
        let after = format!("{}.{:03}", delay / 1000, delay % 1000);
        let killed = host
            .machine
            .run(&["timeout", "-s", "KILL", &after, "nkudo", "image", "pull"]);
        if killed.status.success() {
            host.machine.ok(&["rm", "-r", IMAGES]);
            continue;
        }
        interrupted += 1;
        let left = host.machine.run(&["ls", "-A", IMAGES]);
        let left = String::from_utf8_lossy(&left.stdout).into_owned();
        partial += usize::from(left.contains(".partial"));
        converting += usize::from(left.contains(".nkudo-"));
        host.nkudo(&["image", "pull"]).done();
        let there = host.machine.ok(&["ls", "-A", IMAGES]);
        let name = there.trim_end().to_owned();
        assert!(
            name.ends_with("-qcow2.raw") && !name.contains('\n'),
            "killed after {delay} ms: {there}"
        );
        assert_eq!(
            host.sha256(&format!("{IMAGES}/{name}")),
            raw,
            "killed after {delay} ms"
        );
        host.machine.ok(&["rm", "-r", IMAGES]);
    }
    assert!(
        interrupted >= 3 && partial >= 1,
        "{interrupted} were killed, {partial} with a partial file, {converting} while converting"
    );
}

fn a_vm_boots_the_kernel_of_its_image() {
    let host = host();
    host.machine
        .ok(&["sh", "-c", &format!("cp /srv/guests/web {SERVED}/kernel")]);
    let kernel = host.sha256(&format!("{SERVED}/kernel"));
    let beside = format!(
        "kernel = {{ source = \"http://127.0.0.1:8000/kernel\", sha256 = \"{kernel}\" }}\ncmdline = \"console=ttyS0\""
    );
    let config = host
        .served("image.raw", &beside, "")
        .replace("kernel = \"/srv/guests/web\"\n", "");
    host.switch_to(&config).done();
    host.printed("web", 1);
    let argv = host.property("web", "ExecStart");
    assert!(argv.contains(&format!("{IMAGES}/{kernel}.boot")), "{argv}");
    host.nkudo(&["switch"]).done().says("nothing to do");

    // A newer image has a newer kernel; the disk that is there keeps its own.
    host.machine.ok(&["sh", "-c", &format!("cd {SERVED}; printf more >> kernel; printf new | dd of=image.raw conv=notrunc status=none")]);
    let newer = host.sha256(&format!("{SERVED}/kernel"));
    let beside = beside.replace(&kernel, &newer);
    let config = host
        .served("image.raw", &beside, "")
        .replace("kernel = \"/srv/guests/web\"\n", "");
    let pid = host.main_pid("web");
    host.switch_to(&config)
        .done()
        .says("disk root of web: keep it");
    assert_eq!(host.main_pid("web"), pid);
    host.nkudo(&["restart", "web"]).done();
    assert!(host.property("web", "ExecStart").contains(&kernel));
    host.nkudo(&["recreate", "web", "--yes"]).done();
    assert!(host.property("web", "ExecStart").contains(&newer));
}

fn image_gc_keeps_what_is_used_and_refuses_when_it_cannot_tell() {
    let host = host();
    let over = host.served("image.raw", "", "overlay = true");
    host.switch_to(&over).done();
    let raw = format!(
        "{IMAGES}/{}.raw",
        host.sha256(&format!("{SERVED}/image.raw"))
    );
    let listed = host.nkudo(&["image", "list"]).done().stdout;
    assert!(
        listed.contains("base")
            && listed.contains("disk web/root")
            && listed.contains("generation 1"),
        "{listed}"
    );
    host.machine.ok(&[
        "sh",
        "-c",
        &format!("echo x > {IMAGES}/.{}.partial", "a".repeat(64)),
    ]);
    host.switch_to("").done();
    host.nkudo(&["gc", "--keep", "1"]).done();
    // The disk that nobody declares any more lies over it.
    let removed = host.nkudo(&["image", "gc"]).done().stdout;
    assert!(
        removed.contains(".partial") && !removed.contains(&raw),
        "{removed}"
    );
    host.nkudo(&["purge", "web", "--yes"]).done();
    host.machine.ok(&["mkdir", "/var/lib/nkudo/generations/9"]);
    host.machine
        .write("/var/lib/nkudo/generations/9/manifest.json", "{", 0o600);
    host.nkudo(&["image", "gc"])
        .ended(1)
        .says("nothing was removed");
    assert!(host.exists(&raw));
    host.machine
        .ok(&["rm", "-r", "/var/lib/nkudo/generations/9"]);
    let removed = host.nkudo(&["image", "gc", "--dry-run"]).done().stdout;
    assert_eq!(removed, format!("{raw}\n"));
    assert!(host.exists(&raw));
    host.nkudo(&["image", "gc"]).done();
    assert_eq!(host.machine.ok(&["ls", "-A", IMAGES]), "");
}

fn an_overlay_whose_image_was_written_to_is_not_started() {
    let host = host();
    host.machine
        .ok(&["cp", &format!("{SERVED}/image.raw"), "/srv/image.raw"]);
    let config = format!(
        "[image.base]\nsource = \"/srv/image.raw\"\n{}[[vm.web.disk]]\nname = \"root\"\nimage = \"base\"\noverlay = true\n",
        vm_alone("web", "")
    );
    host.switch_to(&config).done();
    host.nkudo(&["stop", "web"]).done();
    host.machine.ok(&[
        "sh",
        "-c",
        "printf other | dd of=/srv/image.raw conv=notrunc status=none",
    ]);
    host.nkudo(&["start", "web"])
        .ended(1)
        .says("disk root of VM web lies over the image /srv/image.raw, which was written to since");
}

fn an_image_over_https_is_verified_by_the_hosts_certificates() {
    let host = host();
    let (authority, server) = certificates();
    host.machine.write("/srv/server.pem", server, 0o600);
    let serve = "import http.server, ssl\n\
         context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
         context.load_cert_chain('/srv/server.pem')\n\
         server = http.server.HTTPServer(('127.0.0.1', 8443), http.server.SimpleHTTPRequestHandler)\n\
         server.socket = context.wrap_socket(server.socket, server_side=True)\n\
         server.serve_forever()\n";
    host.machine.write("/srv/serve.py", serve, 0o644);
    let unit =
        format!("systemd-run -q --unit=secure --working-directory={SERVED} python3 /srv/serve.py");
    host.machine.ok(&["sh", "-c", &unit]);
    until("the server listens", || {
        let connect = "import socket; socket.create_connection(('127.0.0.1', 8443))";
        let asked = host.machine.run(&["python3", "-c", connect]);
        if asked.status.success() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    let config = host
        .served("image.raw", "", "")
        .replace("http://127.0.0.1:8000", "https://localhost:8443");
    host.machine.ok(&["rm", "-rf", "/etc/ssl/certs"]);
    host.switch_to(&config)
        .ended(4)
        .says("this host has no CA certificates");
    host.machine.ok(&["mkdir", "-p", "/etc/ssl/certs"]);
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    host.machine.write(bundle, certificates().0, 0o644);
    host.nkudo(&["switch"])
        .ended(4)
        .says("the certificate of localhost is not taken");
    host.machine.write(bundle, authority, 0o644);
    host.nkudo(&["switch"]).done();
    host.printed("web", 1);
}

/// An authority of its own each time, and a certificate of a server with its key, as PEM.
fn certificates() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let server = params.signed_by(&key, &authority).unwrap();
    (authority.pem(), server.pem() + &key.serialize_pem())
}
