//! The stand-in VMM: what the host tests run where there is no cloud-hypervisor, or no KVM for it.
//!
//! It is the test binary itself, under the name `cloud-hypervisor`. It takes the command line that
//! nkudo writes for release 53 and refuses what that refuses, in its words; opens the files and the
//! TAPs; serves the API; and carries out the few instructions that `guest` assembles. An option that
//! nkudo does not write yet is refused, so that nobody forgets to teach it here.

mod api;
mod cpu;
mod devices;
mod keys;
mod options;
mod serial;
pub(crate) mod snapshot;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use api::{Api, Asked};
use cpu::{Cpu, Event};
use options::Options;
use serial::Serial;

/// The name under which the test binary is the stand-in.
pub(crate) const NAME: &str = "cloud-hypervisor";
const VERSION: &str = "v53.0 (stand-in)";
/// How long a guest's reset takes.
const RESET: Duration = Duration::from_millis(20);

/// Why the VMM ends with 1: what happened, then what was the cause of that, and so on.
#[derive(Debug)]
struct Chain(Vec<String>);

impl Chain {
    fn of<S: Into<String>>(links: impl IntoIterator<Item = S>) -> Self {
        Self(links.into_iter().map(Into::into).collect())
    }

    /// What cloud-hypervisor says before all that concerns the VM.
    fn boot<S: Into<String>>(links: impl IntoIterator<Item = S>) -> Self {
        let mut chain = Self::of(["Error booting VM", "The VM could not boot"]);
        chain.0.extend(links.into_iter().map(Into::into));
        chain
    }
}

/// Runs the stand-in; returns its exit code.
pub(crate) fn main() -> u8 {
    let parsed = Options::parse(std::env::args_os()).and_then(|options| match &options.restore {
        Some(restore) => snapshot::options(restore, &options).map_err(options::Refusal::Config),
        None => Ok(options),
    });
    let options = match parsed {
        Ok(options) => options,
        Err(options::Refusal::Usage(err)) => {
            let _ = err.print();
            return u8::try_from(err.exit_code()).unwrap_or(2);
        }
        Err(options::Refusal::Config(chain)) => return refuse(&chain, None),
    };
    let mut log = match &options.log_file {
        Some(path) => match File::create(path) {
            Ok(log) => Some(log),
            Err(err) => {
                return refuse(
                    &Chain::of(["Error creating log file".to_owned(), err.to_string()]),
                    None,
                );
            }
        },
        None => None,
    };
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Chain::of([err.to_string()]))
        .and_then(|runtime| runtime.block_on(run(&options, log.as_mut())));
    match ended {
        Ok(()) => 0,
        Err(chain) => refuse(&chain, log.as_mut()),
    }
}

/// Says why, as cloud-hypervisor does: the chain to standard error, a line to the log.
fn refuse(chain: &Chain, log: Option<&mut File>) -> u8 {
    let fatal = format!("cloud-hypervisor: <main> ERROR -- Fatal error: {chain:?}\n");
    let _ = match log {
        Some(log) => log.write_all(fatal.as_bytes()),
        None => io::stderr().write_all(fatal.as_bytes()),
    };
    let mut text =
        "Error: Cloud Hypervisor exited with the following chain of errors:\n".to_owned();
    for (depth, link) in chain.0.iter().enumerate() {
        let _ = writeln!(text, "  {depth}: {link}");
    }
    let _ = io::stderr().write_all(text.as_bytes());
    1
}

/// The VM's life, until the guest powers off or somebody ends the VMM.
async fn run(options: &Options, mut log: Option<&mut File>) -> Result<(), Chain> {
    let lost = |err: io::Error| Chain::of([err.to_string()]);
    let mut terminate = signal(SignalKind::terminate()).map_err(lost)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(lost)?;
    let mut api = Api::serve(options.api_socket.as_deref(), options.sizes)?;
    api.configured(options);
    let image = devices::kernel(options)?;
    for disk in &options.disks {
        api.disk(disk.clone(), devices::disk(disk)?);
    }
    let _devices = devices::open(options)?;
    let mut served = devices::connect(options)?;
    let mut paused = options.restore.is_some();
    let mut cpu = match &options.restore {
        Some(restore) => snapshot::cpu(restore)?,
        None => Cpu::boot(&image)?,
    };
    let (mut serial, mut typed) = Serial::to(options.serial.as_deref())?;
    let mut events = Events::to(options.events.as_deref())?;
    if paused {
        api.still(&cpu);
        api.state("Paused");
        events.tell("vm", "restoring");
        events.tell("vm", "restored");
    } else {
        api.state("Running");
        events.tell("vm", "booting");
        events.tell("vm", "booted");
    }
    loop {
        let event = if paused {
            Event::Idle
        } else {
            cpu.run(&mut serial)
        };
        let mut idle = std::pin::pin!(async {
            match event {
                Event::Reset => tokio::time::sleep(RESET).await,
                _ => std::future::pending().await,
            }
        });
        match event {
            Event::PoweredOff => return Ok(()),
            // As the real one: the end looks like a power-off, but for this line.
            Event::Failed => {
                let line = "cloud-hypervisor: <vcpu0> ERROR -- VCPU generated error: Err(RunVcpu(InternalError))\n";
                let _ = match &mut log {
                    Some(log) => log.write_all(line.as_bytes()),
                    None => io::stderr().write_all(line.as_bytes()),
                };
                return Ok(());
            }
            Event::Panicked => {
                // Without the device there is nobody to tell.
                if options.pvpanic {
                    events.tell("guest", "panic");
                }
                continue;
            }
            Event::Reset | Event::Idle => {}
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = &mut idle => {
                // They serve one connection each.
                served.clear();
                served.extend(devices::connect(options)?);
                cpu = Cpu::boot(&image)?;
                events.tell("vm", "rebooting");
                events.tell("vm", "rebooted");
            }
            Some(keys) = typed.recv() => if cpu.echoes() {
                let _ = serial.write_all(&keys);
            },
            asked = api.asked() => match asked {
                Asked::PowerButton => cpu.press_power_button(),
                Asked::Pause => {
                    paused = true;
                    api.still(&cpu);
                    api.state("Paused");
                    events.tell("vm", "paused");
                }
                Asked::Resume => {
                    paused = false;
                    api.state("Running");
                    events.tell("vm", "resumed");
                }
                Asked::VmShutdown => {
                    // The VM is gone, and the VMM stays to be told to end.
                    api.state("Created");
                    cpu = Cpu::absent();
                }
                Asked::VmmShutdown => return Ok(()),
            },
        }
    }
}

/// The file of `--event-monitor`.
#[derive(Debug)]
struct Events(Option<File>);

impl Events {
    fn to(path: Option<&Path>) -> Result<Self, Chain> {
        let file = path.map(File::create).transpose();
        file.map(Self).map_err(|err| {
            Chain::of(["Failed to set up event monitor".to_owned(), err.to_string()])
        })
    }

    fn tell(&mut self, source: &str, event: &str) {
        let Some(file) = &mut self.0 else { return };
        let event = format!(
            "{{\n  \"timestamp\": {{\n    \"secs\": 0,\n    \"nanos\": 0\n  }},\n  \"source\": \"{source}\",\n  \
             \"event\": \"{event}\",\n  \"properties\": null\n}}\n\n"
        );
        let _ = file.write_all(event.as_bytes());
    }
}
