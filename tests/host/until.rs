//! Waiting for what comes by itself.

use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);

/// Looks again and again until it is there; fails with what was seen last.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(LIMIT, what, look)
}

/// The same with another limit.
#[track_caller]
pub(crate) fn within<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) if Instant::now() > end => {
                panic!("waited {limit:?} in vain until {what}; last seen:\n{last}")
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
