//! Why a VM ended, out of what systemd, the VMM's log and the unit's own steps say.

#![deny(clippy::disallowed_methods)]

use std::fmt;

use crate::hypervisor::events::{Boot, Events, Guest};

/// What is known when the VMM has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `$SERVICE_RESULT` (systemd.exec(5)).
    pub service_result: String,
    pub vmm: VmmExit,
    /// Whether somebody asked for the stop before the VMM ended.
    pub stop: Stop,
    /// Whether the VMM's log has a failed vCPU. cloud-hypervisor ends with 0 on that.
    pub vcpus: Vcpus,
    /// What the VMM's events say.
    pub events: Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Asked,
    /// The guest was asked, and did not react within its `stop-timeout`.
    TimedOut,
    /// Its readiness unit asked, since it was not ready in time.
    NotReady,
    NotAsked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vcpus {
    Failed,
    Fine,
}

/// `$EXIT_CODE` and `$EXIT_STATUS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmmExit {
    Exited(String),
    Killed(String),
    Dumped(String),
    /// It never ran.
    None,
}

/// Why the VM ended: `NKUDO_EXIT` in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The guest powered off by itself.
    PoweredOff,
    /// Somebody asked for it.
    Stopped,
    /// Somebody asked for it, and the guest did not react to its power button in time.
    StopTimedOut,
    /// Somebody asked for it, and the VMM had to be killed.
    StoppedByKill,
    /// The guest said that it panicked, and ended.
    Panicked,
    /// A vCPU failed.
    Crashed,
    /// The VMM ended with an error before there was a guest: it does not take what it was given.
    VmmRefused(String),
    /// The VMM ended with an error.
    VmmFailed(String),
    /// The VMM was killed because it made a system call that it may not make.
    Seccomp,
    /// The VMM was killed by a signal that nobody asked for.
    VmmKilled(String),
    OutOfMemory,
    /// It was not up in time.
    StartTimedOut,
    /// Its guest was not ready in time, and `ready` says to fail then.
    NotReady,
    /// The VMM never ran: systemd says why.
    NotStarted(String),
}

/// What is written into the journal, and what the step's exit code makes systemd do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As somebody wished.
    Clean,
    /// systemd knows that it is one.
    Failure,
    /// systemd takes it for a clean exit: the step has to fail, so that `Restart=on-failure` acts.
    HiddenFailure,
}

impl Ending {
    pub fn verdict(&self) -> Verdict {
        if self.service_result == "oom-kill" {
            return Verdict::OutOfMemory;
        }
        match (&self.vmm, self.stop) {
            // What kills it is not always whoever asked.
            (VmmExit::Killed(signal) | VmmExit::Dumped(signal), _) if signal == "SYS" => {
                Verdict::Seccomp
            }
            (_, Stop::NotReady) => Verdict::NotReady,
            (VmmExit::Killed(_) | VmmExit::Dumped(_), Stop::Asked | Stop::TimedOut) => {
                Verdict::StoppedByKill
            }
            (_, Stop::Asked) => Verdict::Stopped,
            (_, Stop::TimedOut) => Verdict::StopTimedOut,
            (VmmExit::None, Stop::NotAsked) => Verdict::NotStarted(self.service_result.clone()),
            (_, Stop::NotAsked) if self.service_result == "timeout" => Verdict::StartTimedOut,
            // `machinectl poweroff`: the unit of a VM that machined knows takes this signal for a wish.
            (VmmExit::Killed(signal), Stop::NotAsked)
                if signal == "RTMIN+4" && self.service_result == "success" =>
            {
                Verdict::StoppedByKill
            }
            (VmmExit::Killed(signal) | VmmExit::Dumped(signal), Stop::NotAsked) => {
                Verdict::VmmKilled(signal.clone())
            }
            (VmmExit::Exited(_), Stop::NotAsked) if self.events.guest == Guest::Panicked => {
                Verdict::Panicked
            }
            (VmmExit::Exited(_), Stop::NotAsked) if self.vcpus == Vcpus::Failed => Verdict::Crashed,
            (VmmExit::Exited(status), Stop::NotAsked) if status == "0" => Verdict::PoweredOff,
            (VmmExit::Exited(status), Stop::NotAsked) if is_systemds(status) => {
                Verdict::NotStarted(format!("exit code {status}"))
            }
            (VmmExit::Exited(status), Stop::NotAsked) if self.events.boot == Boot::Never => {
                Verdict::VmmRefused(status.clone())
            }
            (VmmExit::Exited(status), Stop::NotAsked) => Verdict::VmmFailed(status.clone()),
        }
    }

    pub fn kind(&self) -> Kind {
        match self.verdict() {
            Verdict::PoweredOff
            | Verdict::Stopped
            | Verdict::StopTimedOut
            | Verdict::StoppedByKill => Kind::Clean,
            Verdict::Crashed | Verdict::Panicked | Verdict::NotReady
                if self.service_result == "success" =>
            {
                Kind::HiddenFailure
            }
            _ => Kind::Failure,
        }
    }
}

/// Whether an exit code is systemd's own, from before there was a VMM ("Process Exit Codes" of
/// systemd.exec(5)).
fn is_systemds(status: &str) -> bool {
    status
        .parse::<u8>()
        .is_ok_and(|status| (200..=245).contains(&status))
}

impl Verdict {
    /// The word for machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PoweredOff => "powered-off",
            Self::Stopped => "stopped",
            Self::StopTimedOut => "stop-timed-out",
            Self::StoppedByKill => "stopped-by-kill",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
            Self::VmmRefused(_) => "vmm-refused",
            Self::VmmFailed(_) => "vmm-failed",
            Self::Seccomp => "seccomp",
            Self::VmmKilled(_) => "vmm-killed",
            Self::OutOfMemory => "out-of-memory",
            Self::StartTimedOut => "start-timed-out",
            Self::NotReady => "not-ready",
            Self::NotStarted(_) => "not-started",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::Stopped => f.write_str("it was stopped"),
            Self::StoppedByKill => f.write_str("it was stopped, and its VMM had to be killed"),
            Self::StopTimedOut => f.write_str(
                "it was stopped, and its guest did not react to the power button within `stop-timeout`",
            ),
            Self::Panicked => f.write_str("the guest panicked"),
            Self::Crashed => f.write_str("a vCPU failed: the guest crashed"),
            Self::VmmRefused(status) => write!(
                f,
                "the VMM did not take what it was given, and ended with exit code {status}"
            ),
            Self::Seccomp => {
                f.write_str("the VMM was killed by SIGSYS: it made a system call that it may not make")
            }
            Self::VmmFailed(status) => write!(f, "the VMM failed with exit code {status}"),
            Self::VmmKilled(signal) => write!(f, "the VMM was killed by SIG{signal}"),
            Self::OutOfMemory => {
                f.write_str("the VMM ran out of memory (of the host, or of `memory-max`)")
            }
            Self::StartTimedOut => f.write_str("it was not up in time"),
            Self::NotReady => f.write_str(
                "its guest was not ready within `start-timeout`, and `ready` says to fail then",
            ),
            Self::NotStarted(result) => write!(f, "the VMM was not started ({result})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(result: &str, vmm: VmmExit, stop: Stop, vcpus: Vcpus) -> (String, Kind) {
        // Of a VM that ran.
        told(
            result,
            vmm,
            stop,
            vcpus,
            Events {
                boot: Boot::Once,
                guest: Guest::Fine,
            },
        )
    }

    fn told(
        result: &str,
        vmm: VmmExit,
        stop: Stop,
        vcpus: Vcpus,
        events: Events,
    ) -> (String, Kind) {
        let ending = Ending {
            service_result: result.to_owned(),
            vmm,
            stop,
            vcpus,
            events,
        };
        (ending.verdict().word().to_owned(), ending.kind())
    }

    const NOT_ASKED: Stop = Stop::NotAsked;
    const FINE: Vcpus = Vcpus::Fine;

    fn exited(status: &str) -> VmmExit {
        VmmExit::Exited(status.to_owned())
    }

    fn killed(signal: &str) -> VmmExit {
        VmmExit::Killed(signal.to_owned())
    }

    fn is(ending: &(String, Kind), word: &str, kind: Kind) {
        assert_eq!(*ending, (word.to_owned(), kind));
    }

    #[test]
    fn what_somebody_wished_is_clean_however_the_vmm_ended() {
        let clean = |result, vmm, stop, vcpus, word| {
            is(&ending(result, vmm, stop, vcpus), word, Kind::Clean);
        };
        let (asked, late) = (Stop::Asked, Stop::TimedOut);
        clean("success", exited("0"), NOT_ASKED, FINE, "powered-off");
        clean("success", exited("0"), asked, FINE, "stopped");
        clean("success", exited("0"), late, FINE, "stop-timed-out");
        clean("success", killed("TERM"), asked, FINE, "stopped-by-kill");
        clean("timeout", killed("KILL"), late, FINE, "stopped-by-kill");
        clean(
            "success",
            killed("RTMIN+4"),
            NOT_ASKED,
            FINE,
            "stopped-by-kill",
        );
        // A crash while it was being stopped has led to what was asked for.
        clean("success", exited("0"), asked, Vcpus::Failed, "stopped");
    }

    #[test]
    fn a_failure_that_systemd_takes_for_a_clean_exit_is_made_one() {
        let crash = ending("success", exited("0"), NOT_ASKED, Vcpus::Failed);
        is(&crash, "crashed", Kind::HiddenFailure);
        // The same where systemd has seen another failure: it needs no second one.
        let crash = ending("exit-code", exited("0"), NOT_ASKED, Vcpus::Failed);
        is(&crash, "crashed", Kind::Failure);
        // A guest that panics and then powers off, or fails its vCPU.
        let panicked = Events {
            boot: Boot::Once,
            guest: Guest::Panicked,
        };
        for vcpus in [Vcpus::Fine, Vcpus::Failed] {
            let panic = told("success", exited("0"), NOT_ASKED, vcpus, panicked);
            is(&panic, "panicked", Kind::HiddenFailure);
            let stopped = told("success", exited("0"), Stop::Asked, vcpus, panicked);
            is(&stopped, "stopped", Kind::Clean);
        }
    }

    #[test]
    fn a_guest_that_was_not_ready_has_failed_however_it_ended() {
        let not_ready = |result, vmm| ending(result, vmm, Stop::NotReady, Vcpus::Fine);
        let clean = not_ready("success", exited("0"));
        is(&clean, "not-ready", Kind::HiddenFailure);
        is(
            &not_ready("timeout", killed("KILL")),
            "not-ready",
            Kind::Failure,
        );
    }

    #[test]
    fn failures_are_told_apart() {
        let failure =
            |result, vmm, word| is(&ending(result, vmm, NOT_ASKED, FINE), word, Kind::Failure);
        failure("exit-code", exited("1"), "vmm-failed");
        failure("signal", killed("KILL"), "vmm-killed");
        // Where machined does not know it, that is no wish of anybody's.
        failure("signal", killed("RTMIN+4"), "vmm-killed");
        failure("core-dump", VmmExit::Dumped("SYS".to_owned()), "seccomp");
        failure("oom-kill", killed("KILL"), "out-of-memory");
        failure("timeout", killed("TERM"), "start-timed-out");
        failure("resources", VmmExit::None, "not-started");
        failure("exit-code", exited("203"), "not-started");
        let refused = told("exit-code", exited("1"), NOT_ASKED, FINE, Events::default());
        is(&refused, "vmm-refused", Kind::Failure);
    }
}
