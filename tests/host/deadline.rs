//! A case has an end, whatever hangs in it: first its machines go, then the run.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Many times what the longest case takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// How long a case may take to fail once its machines are gone.
const GRACE: Duration = Duration::from_secs(60);

static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    case: &'static str,
    thread: ThreadId,
    since: Instant,
    /// PID 1 of each machine that the case has booted.
    leaders: Vec<u32>,
}

/// Runs a case, which the watch knows of meanwhile.
pub(crate) fn run(name: &'static str, case: fn()) {
    let thread = std::thread::current().id();
    running().push(Running {
        case: name,
        thread,
        since: Instant::now(),
        leaders: Vec::new(),
    });
    // Also when it panics: the run goes on with the next case.
    let _over = Over(thread);
    case();
}

/// Notes that the case on this thread has booted a machine.
pub(crate) fn booted(leader: u32) {
    let thread = std::thread::current().id();
    if let Some(case) = running().iter_mut().find(|case| case.thread == thread) {
        case.leaders.push(leader);
    }
}

/// Notes that a machine has ended, whose number may be somebody else's by now.
pub(crate) fn ended(leader: u32) {
    for case in running().iter_mut() {
        case.leaders.retain(|other| *other != leader);
    }
}

/// Begins to look after the cases, for as long as the run takes.
pub(crate) fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            for case in running().iter_mut() {
                look_after(case);
            }
        }
    });
}

fn look_after(case: &mut Running) {
    let age = case.since.elapsed();
    if age < LIMIT {
        return;
    }
    for leader in case.leaders.drain(..) {
        eprintln!(
            "host: {} runs for {LIMIT:?}: its machine is killed",
            case.case
        );
        // With PID 1 the kernel ends everything in its PID namespace, and so what the case waits for.
        let _ = Command::new("kill")
            .args(["-KILL", &leader.to_string()])
            .output();
    }
    if age > LIMIT + GRACE {
        eprintln!(
            "host: {} does not end though its machines are killed: the run is given up. A process that cannot be \
             killed (state D in ps) is the kernel's fault, and is gone after a reboot.",
            case.case
        );
        std::process::abort();
    }
}

struct Over(ThreadId);

impl Drop for Over {
    fn drop(&mut self) {
        running().retain(|case| case.thread != self.0);
    }
}

fn running() -> MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
