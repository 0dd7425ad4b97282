//! Jobs: what systemd makes of a call, followed until it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use zbus::OwnedObjectPath;

use super::{ManagerProxy, is_named};

/// How a job ended, in systemd's own words (`job_result` of org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// What was asked is so. For a start with an unmet condition too, so look at the unit.
    Done,
    /// `failed`, `timeout`, `canceled`, `dependency` or another.
    Other(String),
}

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("the connection to D-Bus was lost while waiting for systemd")]
    BusLost,
    #[error("systemd did not say within {0:?} how the job ended")]
    Deadline(Duration),
    #[error("cannot follow systemd's jobs")]
    Subscribe(#[source] zbus::Error),
}

/// The jobs that ended since `Jobs::subscribe`.
///
/// It is made before the first call: the reply that names a job and the signal that ends it may be
/// handled in either order. Jobs are told apart by path; a unit's automatic restart has jobs of
/// its own for the same unit.
#[derive(Debug)]
pub struct Jobs {
    finished: Arc<Mutex<BTreeMap<String, JobResult>>>,
    changes: watch::Receiver<()>,
    drain: tokio::task::JoinHandle<()>,
}

impl Jobs {
    pub async fn subscribe(manager: &ManagerProxy<'_>) -> Result<Self, JobError> {
        let mut signals = manager
            .receive_job_removed()
            .await
            .map_err(JobError::Subscribe)?;
        match manager.subscribe().await {
            Ok(()) => {}
            Err(err) if is_named(&err, "org.freedesktop.systemd1.AlreadySubscribed") => {}
            Err(err) => return Err(JobError::Subscribe(err)),
        }
        let finished = Arc::new(Mutex::new(BTreeMap::new()));
        let (sender, changes) = watch::channel(());
        let ended = Arc::clone(&finished);
        // A task of its own: zbus stops reading the whole connection, replies too, once 64
        // messages wait in a stream that nobody polls.
        let drain = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                let Ok(job) = signal.args() else { continue };
                let result = match job.result.as_str() {
                    "done" => JobResult::Done,
                    other => JobResult::Other(other.to_owned()),
                };
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.insert(job.job.to_string(), result);
                drop(ended);
                sender.send_replace(());
            }
        });
        Ok(Self {
            finished,
            changes,
            drain,
        })
    }

    /// Waits until `job` is over. A job that has no word within `deadline` is an error, and goes on.
    pub async fn wait(
        &self,
        job: &OwnedObjectPath,
        deadline: Duration,
    ) -> Result<JobResult, JobError> {
        let mut changes = self.changes.clone();
        let ended = async {
            loop {
                changes.mark_unchanged();
                if let Some(result) = self.take(job) {
                    return Ok(result);
                }
                // The sender is dropped when the signals end, which they do with the connection.
                changes.changed().await.map_err(|_| JobError::BusLost)?;
            }
        };
        tokio::time::timeout(deadline, ended)
            .await
            .map_err(|_| JobError::Deadline(deadline))?
    }
}

impl Jobs {
    fn take(&self, job: &OwnedObjectPath) -> Option<JobResult> {
        self.finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(job.as_str())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.drain.abort();
    }
}
