//! What a switch is measured against: a client that does no more than send the same StartTransientUnit
//! calls and wait for their jobs. It is the test binary itself, under another name.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use nkudo::booted::Booted;
use nkudo::systemd::{JobResult, Jobs, ManagerProxy, transient_properties};
use nkudo::unit::Unit;

/// The name under which the test binary is the client.
pub(crate) const NAME: &str = "bare-client";
/// As nkudo has them.
const IN_FLIGHT: usize = 16;

/// Starts the units of all specifications that there are.
pub(crate) fn main() -> ExitCode {
    let units: Vec<Unit> = fs::read_dir("/run/nkudo/booted")
        .unwrap()
        .map(|entry| {
            let json = fs::read(entry.unwrap().path()).unwrap();
            Booted::from_json(&json).unwrap().to_unit()
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let failed = runtime.block_on(async {
        let bus = zbus::Connection::system().await.unwrap();
        let manager = ManagerProxy::new(&bus).await.unwrap();
        let jobs = Jobs::subscribe(&manager).await.unwrap();
        let (manager, jobs) = (&manager, &jobs);
        let starts = units.iter().map(|unit| async move {
            let properties = transient_properties(unit.properties(), Vec::new());
            let job = manager
                .start_transient_unit(&unit.name, "fail", &properties, &[])
                .await
                .unwrap();
            jobs.wait(&job, Duration::from_secs(600)).await.unwrap()
        });
        let ended = stream::iter(starts).buffer_unordered(IN_FLIGHT);
        let failed = ended.filter(|result| std::future::ready(*result != JobResult::Done));
        failed.count().await
    });
    assert_eq!(failed, 0, "{failed} units did not start");
    ExitCode::SUCCESS
}
