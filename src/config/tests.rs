use super::*;
use crate::host::*;

const FULL: &str = r#"
[host]
hypervisor = "/opt/ch/cloud-hypervisor"
state-dir = "/srv/nkudo"
network-backend = "netlink"

[image.debian]
source = "https://images.example/debian.vhdx.xz"
sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
convert = "raw"
kernel = "/srv/vmlinuz"
initrd = { source = "http://images.example/initrd", sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }
cmdline = "root=/dev/vda1"

[image.tool]
source = "/srv/tool.img"
format = "qcow2"
compression = "none"

[network.lan]
bridge = "br0"
address = ["192.168.100.1/24", "fd00:100::1/64"]

[network.wan]

[vm.db]
firmware = "/boot/CLOUDHV.fd"

[vm.image]
[[vm.image.disk]]
image = "debian"

[vm.web]
vcpus = { boot = 2, max = 8 }
memory = { size = "1G", max = "2G", hugepages = "2M", shared = true, balloon = { size = "256M", free-page-reporting = false, deflate-on-oom = false } }
kernel = "/boot/vmlinuz"
initrd = "/boot/initrd"
cmdline = "console=ttyS0"
autostart = false
restart = "always"
on-change = "defer"
start-timeout = "30s"
stop-timeout = "1min"
after = ["db"]
ready = { when = "vmm", on-timeout = "fail" }
vsock-cid = 3
[[vm.web.disk]]
path = "/srv/web.qcow2"
[[vm.web.disk]]
path = "/dev/vg/data"
name = "data"
format = "raw"
read-only = true
[[vm.web.disk]]
name = "root"
image = "debian"
size = "20G"
rate-limit = { bandwidth = "100M", bandwidth-burst = "1G", iops = 1000, iops-burst = 5000 }
[[vm.web.disk]]
name = "tool"
image = "tool"
read-only = true
[[vm.web.disk]]
name = "scratch"
image = "tool"
overlay = true
[[vm.web.disk]]
name = "volume"
size = "100G"
filesystem = "xfs"
label = "data"
[[vm.web.nic]]
network = "lan"
mac = "02:00:00:00:00:01"
[[vm.web.nic]]
network = "wan"
[vm.web.limits]
cpu-weight = 200
cpu-quota = "150%"
memory-high = "2G"
memory-max = "3G"
io-weight = 100
tasks-max = 512
"#;

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn good(sources: &[Source]) -> Host {
    let outcome = load(sources);
    assert_eq!(render(&outcome.diagnostics, sources), "");
    outcome.host.unwrap()
}

#[test]
fn no_file_is_a_host_without_vms() {
    let host = good(&[]);
    assert_eq!(
        host.hypervisor,
        ProgramName::OnPath("cloud-hypervisor".into())
    );
    assert_eq!(host.state_dir.as_str(), "/var/lib/nkudo");
    assert_eq!(host.network_backend, NetworkBackend::Auto);
    assert!(host.vms.is_empty() && host.networks.is_empty());
}

#[test]
fn every_key_is_read() {
    let host = good(&[source("nkudo.toml", FULL)]);
    assert_eq!(
        host.hypervisor,
        ProgramName::Absolute("/opt/ch/cloud-hypervisor".parse().unwrap())
    );
    assert_eq!(host.state_dir.as_str(), "/srv/nkudo");
    assert_eq!(host.network_backend, NetworkBackend::Netlink);
    let lan = &host.networks[&"lan".parse::<NetworkName>().unwrap()];
    let lan = lan.own().unwrap();
    assert_eq!(lan.name.as_str(), "br0");
    assert_eq!(lan.address[0].to_string(), "192.168.100.1/24");
    let wan = &host.networks[&"wan".parse::<NetworkName>().unwrap()];
    let wan = wan.own().unwrap();
    assert_eq!((wan.name.as_str(), wan.address.len()), ("nk-wan", 0));

    let web = &host.vms[&"web".parse::<VmId>().unwrap()];
    assert_eq!((web.vcpus.boot.get(), web.vcpus.max.get()), (2, 8));
    assert_eq!(
        web.memory,
        Memory {
            size: Size::from_mib(1024),
            max: Size::from_mib(2048),
            hugepages: HugePages::Of(Size::from_mib(2)),
            sharing: Sharing::Shared,
            balloon: Some(Balloon {
                size: Size::from_mib(256),
                free_pages: FreePages::Kept,
                on_oom: OnOom::Keep,
            }),
        }
    );
    assert_eq!(
        web.boot,
        Boot::Kernel {
            kernel: "/boot/vmlinuz".parse().unwrap(),
            initrd: Some("/boot/initrd".parse().unwrap()),
            cmdline: Some("console=ttyS0".parse().unwrap()),
        }
    );
    assert_eq!(
        (web.autostart, web.restart, web.on_change),
        (Autostart::No, Restart::Always, OnChange::Defer)
    );
    assert_eq!(web.start_timeout, TimeSpan::from_secs(30));
    assert_eq!(web.stop_timeout, TimeSpan::from_secs(60));
    assert_eq!(
        web.ready,
        Ready::Vmm {
            on_timeout: OnTimeout::Fail
        }
    );
    assert_eq!(
        web.after.iter().map(VmId::as_str).collect::<Vec<_>>(),
        ["db"]
    );
    assert_eq!(web.vsock_cid.unwrap().get(), 3);
    assert_eq!(web.disks[0].name.as_str(), "disk0");
    assert_eq!(web.disks[0].format, DiskFormat::Qcow2);
    assert_eq!(web.disks[0].access, DiskAccess::ReadWrite);
    assert_eq!(web.disks[1].name.as_str(), "data");
    assert_eq!(web.disks[1].format, DiskFormat::Raw);
    assert_eq!(web.disks[1].access, DiskAccess::ReadOnly);
    assert_eq!(web.nics[0].mac.to_string(), "02:00:00:00:00:01");
    assert_eq!(web.nics[1].mac, Mac::derived("vm", "web/1"));
    assert_eq!(web.nics[1].tap.as_str(), "nkt-web-1");
    assert_eq!(web.limits.cpu_quota.unwrap().to_string(), "150%");
    assert_eq!(web.limits.cpu_weight.unwrap().get(), 200);
    assert_eq!(web.limits.io_weight.unwrap().get(), 100);
    assert_eq!(web.limits.memory_high, Some(Size::from_mib(2048)));
    assert_eq!(web.limits.memory_max, Some(Size::from_mib(3072)));
    assert_eq!(web.limits.tasks_max.unwrap().get(), 512);

    let db = &host.vms[&"db".parse::<VmId>().unwrap()];
    assert_eq!((db.vcpus.boot.get(), db.vcpus.max.get()), (1, 1));
    assert_eq!(db.memory.size, Size::from_mib(512));
    assert_eq!(db.autostart, Autostart::Yes);
    assert_eq!(db.start_timeout, TimeSpan::from_secs(120));
    assert_eq!(
        db.ready,
        Ready::Vmm {
            on_timeout: OnTimeout::Continue
        }
    );
}

#[test]
fn every_kind_of_disk_is_read() {
    let host = good(&[source("nkudo.toml", FULL)]);
    let web = &host.vms[&"web".parse::<VmId>().unwrap()];
    let disk = |index: usize| &web.disks[index];
    let debian: ImageName = "debian".parse().unwrap();
    let tool: ImageName = "tool".parse().unwrap();
    assert_eq!(disk(2).path.as_str(), "/srv/nkudo/vms/web/root.raw");
    assert_eq!(
        disk(2).origin,
        DiskOrigin::Clone {
            image: debian.clone(),
            size: Some(Size::from_mib(20 << 10)),
        }
    );
    let rate = |rate: u64, burst: u64| Rate {
        rate: rate.try_into().unwrap(),
        burst: Some(burst.try_into().unwrap()),
    };
    assert_eq!(
        disk(2).rate_limit,
        RateLimit {
            bandwidth: Some(rate(100 << 20, 1 << 30)),
            iops: Some(rate(1000, 5000)),
        }
    );
    assert_eq!(disk(3).path.as_str(), "/srv/tool.img");
    assert_eq!(disk(3).format, DiskFormat::Qcow2);
    assert_eq!(
        disk(3).origin,
        DiskOrigin::Image {
            image: tool.clone()
        }
    );
    assert_eq!(disk(4).path.as_str(), "/srv/nkudo/vms/web/scratch.qcow2");
    assert_eq!(disk(4).backing.as_ref().unwrap().as_str(), "/srv/tool.img");
    assert_eq!(
        disk(4).origin,
        DiskOrigin::Overlay {
            image: tool,
            size: None
        }
    );
    assert_eq!(disk(5).path.as_str(), "/srv/nkudo/vms/web/volume.raw");
    assert_eq!(
        disk(5).origin,
        DiskOrigin::Volume {
            size: Size::from_mib(100 << 10),
            filesystem: Some(Filesystem::Xfs),
            label: Some("data".parse().unwrap()),
        }
    );

    let image = &host.images[&debian];
    let ImageFile::Stored(file) = &image.disk else {
        panic!("{image:?}")
    };
    assert_eq!(file.compression, Compression::Xz);
    assert_eq!(file.form, Form::ToRaw(ForeignFormat::Vhdx));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(file.sha256.as_str(), empty);
    assert_eq!(
        host.vms[&"image".parse::<VmId>().unwrap()].boot,
        Boot::Kernel {
            kernel: "/srv/vmlinuz".parse().unwrap(),
            initrd: Some(format!("/srv/nkudo/images/{empty}.boot").parse().unwrap()),
            cmdline: Some("root=/dev/vda1".parse().unwrap()),
        }
    );
}

#[test]
fn several_files_are_one_host() {
    let host = good(&[
        source("a.toml", "[network.lan]\n"),
        source(
            "b.toml",
            "[vm.web]\nfirmware = '/fw'\n[[vm.web.nic]]\nnetwork = 'lan'\n",
        ),
    ]);
    assert_eq!(host.vms.len(), 1);
}

#[test]
fn a_second_definition_in_another_file_points_at_both() {
    let sources = [
        source(
            "a.toml",
            "[host]\n[vm.web]\nfirmware = '/fw'\n[network.lan]\n",
        ),
        source(
            "b.toml",
            "[host]\n[vm.web]\nfirmware = '/fw'\n[network.lan]\n",
        ),
    ];
    let outcome = load(&sources);
    assert_eq!(outcome.host, None);
    assert_eq!(outcome.diagnostics.len(), 3);
    let text = render(&outcome.diagnostics, &sources);
    for expected in [
        "--> b.toml:2:5",
        "::: a.toml:2:5",
        "VM `web` is defined twice",
        "`[host]`",
    ] {
        assert!(
            text.to_lowercase().contains(&expected.to_lowercase()),
            "{expected}:\n{text}"
        );
    }
}

#[test]
fn read_only_disks_are_shared() {
    let vm = |id| format!("[vm.{id}]\nfirmware='/fw'\ndisk=[{{path='/a.img', read-only=true}}]\n");
    good(&[source("a.toml", &format!("{}{}", vm("a"), vm("b")))]);
}

#[test]
fn cut_off_files_do_not_panic() {
    let chars: Vec<usize> = FULL.char_indices().map(|(at, _)| at).collect();
    for at in chars {
        let sources = [source("cut.toml", &FULL[..at])];
        let outcome = load(&sources);
        assert_eq!(outcome.host.is_some(), outcome.diagnostics.is_empty());
        render(&outcome.diagnostics, &sources);
    }
}
