//! What stands in the file reaches the hypervisor byte for byte, through the systemd that is there: at the
//! first start, and at the restart after a daemon-reload, when systemd has read the unit from its own text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::host::Host;
use super::machine::Networkd;
use super::until::until;

cases![any_text_reaches_the_hypervisor_byte_for_byte];

/// Stands for the hypervisor: it is there, and its arguments can be read.
const PROGRAM: &str = "#!/usr/bin/sh\n\
    [ \"$1\" = --version ] && echo cloud-hypervisor v53.0 && exit\n\
    while :; do sleep 1000; done\n";
const PROGRAM_PATH: &str = "/usr/local/bin/keeps-its-arguments";
const VMS: usize = 36;

/// Texts in which systemd, a shell, cloud-hypervisor or TOML may see more than text.
const SPECIAL: [&str; 16] = [
    "$HOME", "${HOME}", "$$", "%n", "%%", "%", "\\", "\\x41", "\\n", "\"", "'", ";", "#", "~", "*",
    "`id`",
];

#[derive(Debug)]
struct Texts {
    id: String,
    kernel: String,
    initrd: String,
    cmdline: String,
    disk: String,
}

/// A part of a path that is not refused: anything but what `AbsolutePath` refuses.
fn path() -> impl Strategy<Value = String> {
    let special = SPECIAL
        .into_iter()
        .filter(|text| !text.contains(['"', '\'', '\\']))
        .collect::<Vec<_>>();
    let piece = proptest::prop_oneof![
        proptest::sample::select(special).prop_map(str::to_owned),
        "[a-zA-Z0-9.,=+@!?<>(){}\\[\\]|&^_-]{1,12}",
        "[äßжé日本語🦀]{1,4}",
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn cmdline() -> impl Strategy<Value = String> {
    let piece = proptest::prop_oneof![
        proptest::sample::select(&SPECIAL[..]).prop_map(str::to_owned),
        "[ -~]{1,40}",
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn texts() -> Vec<Texts> {
    let mut runner = TestRunner::deterministic();
    let mut draw = |strategy: &dyn Fn(&mut TestRunner) -> String| strategy(&mut runner);
    (0..VMS)
        .map(|number| {
            let below = |name: String| format!("/srv/escapes/{number}-{name}");
            let a_path = |runner: &mut TestRunner| path().new_tree(runner).unwrap().current();
            let a_line = |runner: &mut TestRunner| cmdline().new_tree(runner).unwrap().current();
            let an_id = |runner: &mut TestRunner| {
                "[a-z0-9-]{0,50}[a-z]".new_tree(runner).unwrap().current()
            };
            Texts {
                id: format!("v{number}{}", draw(&an_id)),
                kernel: below(draw(&a_path)),
                initrd: below(draw(&a_path)),
                cmdline: draw(&a_line),
                disk: below(draw(&a_path)),
            }
        })
        .collect()
}

fn configuration(all: &[Texts]) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut toml = format!("[host]\nhypervisor = \"{PROGRAM_PATH}\"\n");
    for one in all {
        let id = &one.id;
        write!(
            toml,
            "[vm.{id}]\nkernel = {}\ninitrd = {}\ncmdline = {}\nstart-timeout = \"1s\"\n\
             [[vm.{id}.disk]]\npath = {}\nformat = \"raw\"\n",
            quoted(&one.kernel),
            quoted(&one.initrd),
            quoted(&one.cmdline),
            quoted(&one.disk),
        )
        .unwrap();
    }
    toml
}

/// The values of an option of a process.
fn option<'a>(arguments: &'a [String], name: &str) -> &'a str {
    let at = arguments.iter().position(|one| one == name).unwrap();
    &arguments[at + 1]
}

/// cloud-hypervisor's own reading of a `path=` that begins an option (option_parser).
fn path_of(option: &str) -> String {
    let value = option.strip_prefix("path=").unwrap();
    let Some(quoted) = value.strip_prefix('"') else {
        return value.split(',').next().unwrap().to_owned();
    };
    let mut path = String::new();
    let mut chars = quoted.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '"' && chars.next_if_eq(&'"').is_none() {
            break;
        }
        path.push(c);
    }
    path
}

/// Main process and arguments of each VM's unit, asked for all at once.
fn processes(host: &Host, all: &[Texts]) -> BTreeMap<String, (u32, Vec<String>)> {
    let script = "for id; do \
        pid=$(systemctl show --value -p MainPID nkudo-vm@$id.service); \
        printf '%s %s ' \"$id\" \"$pid\"; \
        if [ \"$pid\" != 0 ]; then od -An -v -tx1 \"/proc/$pid/cmdline\" | tr -d ' \\n'; fi; \
        echo; done";
    let mut argv = vec!["sh", "-c", script, "sh"];
    argv.extend(all.iter().map(|one| one.id.as_str()));
    let found = host.machine.ok(&argv);
    found
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (id, pid) = (words.next().unwrap(), words.next().unwrap());
            let bytes = words.next().unwrap().as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes: Vec<u8> = bytes.map(byte).collect();
            let arguments = bytes.split(|byte| *byte == 0);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (
                id.to_owned(),
                (pid.parse().unwrap(), arguments.map(text).collect()),
            )
        })
        .collect()
}

#[track_caller]
fn assert_arrived(one: &Texts, arguments: &[String]) {
    let begin = ["/usr/bin/sh", PROGRAM_PATH];
    assert_eq!(arguments[..2], begin, "{one:?}");
    assert_eq!(option(arguments, "--kernel"), one.kernel, "{one:?}");
    assert_eq!(option(arguments, "--initramfs"), one.initrd, "{one:?}");
    assert_eq!(option(arguments, "--cmdline"), one.cmdline, "{one:?}");
    assert_eq!(path_of(option(arguments, "--disk")), one.disk, "{one:?}");
}

fn any_text_reaches_the_hypervisor_byte_for_byte() {
    let host = Host::boot(Networkd::On);
    host.machine.write(PROGRAM_PATH, PROGRAM, 0o755);
    let all = texts();
    for one in &all {
        for path in [&one.kernel, &one.initrd, &one.disk] {
            host.machine.write(path, "", 0o644);
        }
    }
    host.switch_to(&configuration(&all)).done();
    let first = processes(&host, &all);
    for one in &all {
        assert_arrived(one, &first[&one.id].1);
    }

    host.machine.ok(&["systemctl", "daemon-reload"]);
    let mut kill = vec!["kill".to_owned(), "-KILL".to_owned()];
    kill.extend(first.values().map(|(pid, _)| pid.to_string()));
    host.machine.ok(&kill);
    let again = until("every VM runs again", || {
        let now = processes(&host, &all);
        let old = |id: &String, pid: u32| pid == 0 || pid == first[id].0;
        // What systemd has forked is systemd's own program at first.
        let waiting: Vec<&String> = now
            .iter()
            .filter(|(id, (pid, arguments))| old(id, *pid) || arguments[0] != "/usr/bin/sh")
            .map(|(id, _)| id)
            .collect();
        if waiting.is_empty() {
            Ok(now)
        } else {
            Err(format!("{waiting:?} do not"))
        }
    });
    for one in &all {
        assert_arrived(one, &again[&one.id].1);
        assert_eq!(first[&one.id].1, again[&one.id].1, "{one:?}");
    }
}
