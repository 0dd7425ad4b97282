//! Whatever is in a file, reading it ends, and what is said about it points into the file.

use std::fmt::Write as _;

use answered::{is_answered, read};
use proptest::prelude::*;

mod answered;

/// Lines of which files of nkudo's shape are made: good ones, bad ones, halves of them.
const LINES: [&str; 44] = [
    "[host]",
    "[host",
    "hypervisor = \"cloud-hypervisor\"",
    "state-dir = \"/srv/nkudo\"",
    "network-backend = \"networkd\"",
    "[network.lan]",
    "[network.\"l a n\"]",
    "bridge = \"br0\"",
    "bridge = \"nkt-a-very-long-name\"",
    "address = [\"192.168.1.1/24\", \"fd00::1/64\"]",
    "address = [\"192.168.1.0/24\"]",
    "address = \"10.0.0.1\"",
    "nat = true",
    "dhcp = { range = \"192.168.1.2-9\" }",
    "[vm]",
    "[vm.web]",
    "[vm.db]",
    "[vm.\"\"]",
    "vcpus = 2",
    "vcpus = { boot = 4, max = 2 }",
    "memory = \"512M\"",
    "memory = 512",
    "memory = { size = \"1G\", max = \"1M\", hugepages = \"2M\", mergeable = true, shared = true }",
    "kernel = \"/boot/vmlinux\"",
    "kernel = \"vmlinux\"",
    "firmware = \"/usr/share/CLOUDHV.fd\"",
    "cmdline = \"\"\"a\nb\"\"\"",
    "restart = \"allways\"",
    "after = [\"db\", \"web\", \"none\"]",
    "start-timeout = \"2min\"",
    "stop-timeout = 90",
    "limits = { cpu-quota = \"150%\", memory-max = \"1G\", tasks-max = 0 }",
    "[[vm.web.disk]]",
    "[[vm.web.nic]]",
    "path = \"/srv/web.raw\"",
    "path = \"/srv/päth with spaces.raw\"",
    "network = \"lan\"",
    "network = \"lna\"",
    "mac = \"52:54:00:00:00:01\"",
    "mac = \"ff:ff:ff:ff:ff:ff\"",
    "\"\u{1f600}\" = \u{202e}",
    "\t= = \"",
    "# \u{7f}",
    "memory.size = \"1G\"",
];

fn text_of_nkudos_shape() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        12 => prop::sample::select(&LINES[..]).prop_map(str::to_owned),
        1 => "\\PC{0,20}",
    ];
    (
        prop::collection::vec(line, 0..24),
        prop::sample::select(&["\n", "\r\n"][..]),
    )
        .prop_map(|(lines, end)| lines.join(end))
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        is_answered(&[text]);
    }

    #[test]
    fn text_of_nkudos_shape_is_answered(texts in prop::collection::vec(text_of_nkudos_shape(), 1..3)) {
        is_answered(&texts);
    }

    /// What is resolved means the same when it is read back from a generation's manifest.
    #[test]
    fn a_host_is_read_back_as_it_was(text in text_of_nkudos_shape()) {
        if let Some(host) = read(&[text]).1.host {
            let json = serde_json::to_string(&host).unwrap();
            prop_assert_eq!(serde_json::from_str::<nkudo::host::Host>(&json).unwrap(), host);
        }
    }
}

#[test]
fn deep_nesting_ends() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let depth = 10_000;
        is_answered(&[format!(
            "a = {}1{}",
            open.repeat(depth),
            close.repeat(depth)
        )]);
    }
    is_answered(&[format!("[{}]", vec!["a"; 10_000].join("."))]);
}

#[test]
fn ten_thousand_vms_and_ten_megabytes_are_read() {
    let mut text = String::new();
    for number in 0..10_000 {
        let _ = write!(
            text,
            "[network.n{number}]\naddress = [\"10.{}.{}.1/30\"]\n[vm.v{number}]\nkernel = \"/srv/k\"\n\
             [[vm.v{number}.nic]]\nnetwork = \"n{number}\"\n# {}\n",
            number / 250,
            number % 250,
            "x".repeat(900)
        );
    }
    assert!(text.len() > 10_000_000);
    let (_, outcome) = read(&[text]);
    assert_eq!(outcome.host.unwrap().vms.len(), 10_000);
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    is_answered(&["\u{feff}[vm.web]\nkernel = \"/srv/k\"\n".to_owned()]);
    let (_, outcome) = read(&["\u{feff}[vm.web]\nkernel = \"/srv/k\"\n".to_owned()]);
    assert!(outcome.host.is_some(), "{:?}", outcome.diagnostics);
}
