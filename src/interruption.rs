//! Where a run can be killed for a test: after each effect on the host.
//!
//! Only in builds with debug assertions, which the tests run; a release has no code for it. The
//! variable is read by the process that was started with it, and not by a VM's unit.

/// Marks that an effect is done. With `NKUDO_KILL_AFTER=N` the process is killed after the Nth one.
#[cfg(debug_assertions)]
pub fn effect() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static DONE: AtomicU32 = AtomicU32::new(0);
    static LAST: LazyLock<Option<u32>> = LazyLock::new(|| {
        let number = std::env::var("NKUDO_KILL_AFTER").ok()?;
        number.parse().ok()
    });
    let done = DONE.fetch_add(1, Ordering::Relaxed) + 1;
    if *LAST == Some(done) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn effect() {}
