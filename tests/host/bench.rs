//! `make bench`: what a switch costs with a thousand VMs, against floors that are measured in the same run.
//!
//! The VMs are of the stand-in, without NICs, so that the bare client sends the very same calls; what a NIC adds
//! is measured apart. `NKUDO_BENCH_VMS` says how many there are.

use std::process::ExitCode;

use serde_json::Value;

use super::bare;
use super::guest::{Guest, Then};
use super::host::{Host, LAN};
use super::machine::Networkd;

/// How many units a loop of systemd-run starts: it takes as long for each. So many VMs get a NIC.
const SOME: usize = 100;

/// Runs a command and prints what it took, as JSON.
const MEASURE: &str = "
import json, os, resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({'code': code, 'wall': time.monotonic() - begun,
    'cpu': used.ru_utime + used.ru_stime, 'mib': used.ru_maxrss / 1024}))
";

/// A few at a time: kernels 6.18 have locked up for good when hundreds of sandboxed processes ended at once.
const STOP_ALL: &str =
    "systemctl list-units --all --plain --no-legend 'nkudo-vm@*.service' | cut -d' ' -f1 |
    xargs -r -n 32 systemctl stop; rm -f /run/nkudo/held/*";

/// Who works while VMs start, by control group: its `cpu.stat` counts what has ended, too.
const WORKERS: [(&str, &str); 4] = [
    ("systemd", "init.scope"),
    ("D-Bus", "system.slice/dbus.service"),
    ("the journal", "system.slice/systemd-journald.service"),
    ("the units", "nkudo.slice"),
];

/// What a command took.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
    mib: f64,
    /// The CPU seconds of each of `WORKERS` meanwhile.
    others: [f64; WORKERS.len()],
}

impl Took {
    fn print(&self, who: &str) {
        let others = WORKERS.iter().zip(self.others);
        let others: Vec<String> = others
            .map(|((worker, _), cpu)| format!("{worker} {cpu:.2} s"))
            .collect();
        println!(
            "{who}: {:.2} s; CPU time: its own {:.2} s, {}",
            self.wall,
            self.cpu,
            others.join(", ")
        );
    }
}

struct Bench {
    host: Host,
    missed: Vec<String>,
}

pub(crate) fn run() -> ExitCode {
    let vms: usize = std::env::var("NKUDO_BENCH_VMS")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(1000);
    let host = Host::boot(Networkd::On);
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    for name in ["cloud-hypervisor", bare::NAME] {
        host.machine
            .write(&format!("/usr/local/bin/{name}"), &own, 0o755);
    }
    let guest = Guest {
        line: "hello",
        then: Then::PowerOffWhenAsked,
    };
    host.machine.write("/srv/guest", guest.elf(), 0o644);
    host.machine
        .write("/usr/local/lib/measure.py", MEASURE, 0o644);
    let mut bench = Bench {
        host,
        missed: Vec::new(),
    };
    let machine = [
        bench.host.machine.ok(&["uname", "-r"]),
        bench.host.machine.ok(&["systemctl", "--version"]),
        bench.host.machine.ok(&["nproc"]),
    ];
    let lines = machine.iter().map(|text| text.lines().next().unwrap_or(""));
    let machine: Vec<&str> = lines.collect();
    println!(
        "{vms} VMs; kernel {}, {}, {} CPUs",
        machine[0], machine[1], machine[2]
    );
    bench.starts(vms);
    bench.with_all(vms);
    bench.steps();
    for missed in &bench.missed {
        println!("MISSED: {missed}");
    }
    if bench.missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn toml(vms: usize, weight: &str) -> String {
    let one = |number: usize| {
        let memory = if number == 0 { weight } else { "64M" };
        format!("[vm.vm{number}]\nkernel = \"/srv/guest\"\nmemory = \"{memory}\"\n")
    };
    (0..vms).map(one).collect::<Vec<_>>().concat()
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Also where something failed half way: the machine's end kills all that is left at once.
        let _ = self.host.machine.run(&["sh", "-c", STOP_ALL]);
    }
}

impl Bench {
    fn took(&self, argv: &[&str]) -> Took {
        let mut all = vec!["python3", "/usr/local/lib/measure.py"];
        all.extend(argv);
        let before = self.worked();
        let measured: Value = serde_json::from_str(&self.host.machine.ok(&all)).unwrap();
        assert_eq!(measured["code"], 0, "{argv:?}: {measured}");
        let number = |key: &str| measured[key].as_f64().unwrap();
        let after = self.worked();
        Took {
            others: std::array::from_fn(|worker| after[worker] - before[worker]),
            wall: number("wall"),
            cpu: number("cpu"),
            mib: number("mib"),
        }
    }

    /// The CPU seconds of `WORKERS` so far. The slice of the VMs is there once the first has started.
    fn worked(&self) -> [f64; WORKERS.len()] {
        WORKERS.map(|(_, group)| {
            let path = format!("/sys/fs/cgroup/{group}/cpu.stat");
            let read = self
                .host
                .machine
                .run(&["sed", "-n", "s/^usage_usec //p", &path]);
            let text = String::from_utf8(read.stdout).unwrap();
            text.trim().parse().unwrap_or(0.0) / 1e6
        })
    }

    /// The time of the fastest of three runs, in seconds.
    fn least_wall(&self, argv: &[&str]) -> f64 {
        (0..3)
            .map(|_| self.took(argv).wall)
            .fold(f64::MAX, f64::min)
    }

    fn limit(&mut self, what: &str, is: f64, limit: f64, unit: &str) {
        println!("{what}: {is:.2} {unit} (at most {limit})");
        if is > limit {
            self.missed.push(what.to_owned());
        }
    }

    fn render(&self, toml: &str) {
        self.host.configure(toml);
        self.host.nkudo(&["render"]).done();
    }

    fn stop_all(&self) {
        self.host.machine.ok(&["sh", "-c", STOP_ALL]);
    }

    /// Starting them all: nkudo, a bare client, the other way round, a loop of systemd-run.
    fn starts(&mut self, vms: usize) {
        self.render(&toml(vms, "64M"));
        // What is read and made once in a boot is not what is compared.
        self.took(&["nkudo", "switch"]);
        let commands = [["nkudo", "switch"].as_slice(), &[bare::NAME]];
        let mut least: [Option<Took>; 2] = [None, None];
        // A machine that grows slower or faster meanwhile does that to both.
        for place in [0, 1, 1, 0] {
            self.stop_all();
            let took = self.took(commands[place]);
            let better = least[place].is_none_or(|other| took.wall < other.wall);
            if better {
                least[place] = Some(took);
            }
        }
        let [Some(nkudo), Some(bare)] = least else {
            unreachable!("both have run")
        };
        nkudo.print("start all, nkudo");
        bare.print("start all, a bare client");
        self.limit(
            "start all, against the bare client",
            nkudo.wall / bare.wall,
            1.10,
            "×",
        );
        self.limit("peak memory of the start", nkudo.mib, 40.0, "MiB");
        self.stop_all();
        let count = SOME.min(vms);
        let script = format!(
            "for n in $(seq 0 {}); do
                f=/var/lib/nkudo/current/units/nkudo-vm@vm$n.service
                set --
                while IFS= read -r line; do
                    case $line in
                        \\[*|''|Description=*|ExecStart=*) ;;
                        *) set -- \"$@\" -p \"$line\" ;;
                    esac
                done <$f
                systemd-run -q --unit nkudo-vm@vm$n.service \"$@\" cloud-hypervisor \
                    $(sed -n 's/^ExecStart=:[^ ]* //p' $f | tr -d '\"') || exit 1
            done",
            count - 1
        );
        let looped = self.took(&["bash", "-c", &script]);
        println!(
            "a loop of systemd-run: {:.1} ms a VM; nkudo: {:.1} ms",
            looped.wall * 1000.0 / float(count),
            nkudo.wall * 1000.0 / float(vms)
        );
        self.stop_all();
        self.with_nics(count);
        self.stop_all();
        self.render(&toml(vms, "64M"));
        self.took(&["nkudo", "switch"]);
    }

    /// What a NIC on a bridge adds to a start.
    fn with_nics(&self, count: usize) {
        let without = toml(count, "64M");
        let nics = (0..count).map(|number| format!("[[vm.vm{number}.nic]]\nnetwork = \"lan\"\n"));
        let with = format!("{LAN}{without}{}", nics.collect::<String>());
        let mut least = [f64::MAX; 2];
        for (toml, least) in [&without, &with].into_iter().zip(&mut least) {
            self.render(toml);
            self.took(&["nkudo", "switch"]);
            for _ in 0..2 {
                self.stop_all();
                *least = least.min(self.took(&["nkudo", "switch"]).wall);
            }
            self.stop_all();
        }
        let [without, with] = least.map(|wall| wall * 1000.0 / float(count));
        println!(
            "a NIC: a start of {count} takes {with:.1} ms a VM with one, {without:.1} ms without"
        );
    }

    /// With all of them running: nothing to do, and one that changed.
    fn with_all(&mut self, vms: usize) {
        let runs: Vec<Took> = (0..5).map(|_| self.took(&["nkudo", "switch"])).collect();
        let least = |of: fn(&Took) -> f64| runs.iter().map(of).fold(f64::MAX, f64::min);
        println!(
            "nothing to do: {:.0} ms of time",
            least(|took| took.wall) * 1000.0
        );
        self.limit(
            "nothing to do, own CPU",
            least(|took| took.cpu) * 1000.0,
            150.0,
            "ms",
        );
        self.limit(
            "peak memory with nothing to do",
            least(|took| took.mib),
            40.0,
            "MiB",
        );
        self.host.no_nkudo_runs();
        let status = self.least_wall(&["nkudo", "status"]);
        self.limit("status", status * 1000.0, 300.0, "ms");
        let diff = self.least_wall(&["nkudo", "diff"]);
        println!("diff: {:.0} ms", diff * 1000.0);
        let pids = self.pids();
        let changed = self.one_changes(vms);
        let others = self
            .pids()
            .into_iter()
            .filter(|pid| pids.contains(pid))
            .count();
        assert_eq!(others, vms - 1, "another VM was touched");
        self.stop_all();
        // The same alone: a host with one VM, which has to stop and start as well.
        self.render(&toml(1, "64M"));
        self.took(&["nkudo", "switch"]);
        let alone = self.one_changes(1);
        changed.print(&format!("one changed among {vms}"));
        alone.print("one changed alone");
        self.limit(
            "one changed, against one alone",
            changed.wall / alone.wall,
            2.0,
            "×",
        );
    }

    /// The fastest of three switches that change one VM.
    fn one_changes(&self, vms: usize) -> Took {
        let switches = ["128M", "192M", "256M"].map(|memory| {
            self.render(&toml(vms, memory));
            self.took(&["nkudo", "switch"])
        });
        let least = switches
            .into_iter()
            .min_by(|a, b| a.wall.total_cmp(&b.wall));
        least.unwrap()
    }

    fn pids(&self) -> Vec<String> {
        let argv = [
            "sh",
            "-c",
            "systemctl show -P MainPID 'nkudo-vm@*' | grep .",
        ];
        self.host
            .machine
            .ok(&argv)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The steps of a unit, each run by hand as systemd runs them.
    fn steps(&mut self) {
        let pid = self.host.main_pid("vm0");
        let pid = format!("MAINPID={pid}");
        let environment = [
            "env",
            "RUNTIME_DIRECTORY=/run/nkudo/vms/vm0",
            &pid,
            "SERVICE_RESULT=success",
            "EXIT_CODE=exited",
            "EXIT_STATUS=0",
        ];
        for (name, step) in [
            ("ready", ["nkudo", "unit", "ready", "vm0"].as_slice()),
            ("post", &["nkudo", "unit", "post", "vm0"]),
            ("stop", &["nkudo", "unit", "stop", "vm0", "--timeout=10s"]),
        ] {
            let argv = [environment.as_slice(), step].concat();
            let times = if name == "stop" { 1 } else { 5 };
            let least = (0..times)
                .map(|_| self.took(&argv).cpu)
                .fold(f64::MAX, f64::min);
            self.limit(&format!("unit {name}, CPU"), least * 1000.0, 5.0, "ms");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is a number of VMs")]
fn float(number: usize) -> f64 {
    number as f64
}
