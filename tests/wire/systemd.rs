//! org.freedesktop.systemd1.Manager, as far as nkudo calls it, and as bad as a case wants it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nkudo::connections::Connections;
use nkudo::link::Netlink;
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::wire::OwnedObjectPath;
use zbus::{Connection, Guid, OwnedVariant, fdo};

const MANAGER: &str = "/org/freedesktop/systemd1";

/// What becomes of a start, by unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Done,
    /// A property is refused.
    Refused,
    /// The job ends with this.
    Ends(&'static str),
    /// The bus dies before the call is answered.
    BusDies,
}

/// What it was asked for, and what it does then.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) starts: BTreeMap<String, Start>,
    /// The calls, in their order: the method, and the unit.
    pub(crate) calls: Vec<String>,
    /// The names of the properties that units were started with.
    pub(crate) properties: BTreeMap<String, Vec<String>>,
    units: BTreeMap<String, OwnedObjectPath>,
    jobs: u32,
    /// Its end of the wire.
    connection: Option<Connection>,
}

pub(crate) type Shared = Arc<Mutex<State>>;

pub(crate) fn locked(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// nkudo's connections to a systemd that does this with starts.
pub(crate) async fn connect(starts: &[(&str, Start)]) -> (Connections, Shared) {
    let state = Shared::default();
    for (id, start) in starts {
        let unit = format!("nkudo-vm@{id}.service");
        locked(&state).starts.insert(unit, *start);
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).unwrap();
    }

    let manager = Manager {
        state: Arc::clone(&state),
    };
    let server = Builder::unix_stream(theirs)
        .server(Guid::generate())
        .p2p()
        .serve_at(MANAGER, manager)
        .build();
    let client = Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::try_join!(server, client).unwrap();
    locked(&state).connection = Some(server);
    let connections = Connections::over(client, Netlink::connect().unwrap())
        .await
        .unwrap();
    (connections, state)
}

struct Manager {
    state: Shared,
}

impl Manager {
    /// Makes a job, which ends a moment after the answer that names it.
    fn job(
        &self,
        unit: &str,
        result: &'static str,
        emitter: &SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        let number = {
            let mut state = locked(&self.state);
            state.jobs += 1;
            state.jobs
        };
        let path = OwnedObjectPath::try_from(format!("{MANAGER}/job/{number}")).unwrap();
        let (job, unit, emitter) = (path.clone(), unit.to_owned(), emitter.to_owned());
        tokio::spawn(async move {
            // Of somebody else's, for the same unit: jobs are told apart by their paths.
            let other = OwnedObjectPath::try_from(format!("{MANAGER}/job/9{number}")).unwrap();
            let _ = Self::job_removed(&emitter, 9, other, unit.clone(), "failed".into()).await;
            let _ = Self::job_removed(&emitter, number, job, unit, result.into()).await;
        });
        path
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {
        locked(&self.state).calls.push("subscribe".to_owned());
    }

    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Vec<(String, OwnedVariant)>,
        aux: Vec<(String, Vec<(String, OwnedVariant)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        assert_eq!((mode.as_str(), aux.len()), ("fail", 0));
        let (start, connection) = {
            let mut state = locked(&self.state);
            state.calls.push(format!("start {name}"));
            let names = properties.into_iter().map(|(name, _)| name);
            state.properties.insert(name.clone(), names.collect());
            let start = state.starts.get(&name).copied().unwrap_or(Start::Done);
            (start, state.connection.clone())
        };
        match start {
            Start::Refused => Err(fdo::Error::PropertyReadOnly(
                "Cannot set property MemoryHigh, or unknown property.".to_owned(),
            )),
            Start::BusDies => {
                if let Some(connection) = connection {
                    let _ = connection.close().await;
                }
                std::future::pending().await
            }
            Start::Done | Start::Ends(_) => {
                let path = format!("{MANAGER}/unit/{}", locked(&self.state).jobs);
                let path = OwnedObjectPath::try_from(path).unwrap();
                locked(&self.state).units.insert(name.clone(), path);
                let result = match start {
                    Start::Ends(result) => result,
                    _ => "done",
                };
                Ok(self.job(&name, result, &emitter))
            }
        }
    }

    fn stop_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        let mut state = locked(&self.state);
        state.calls.push(format!("stop {name}"));
        state.units.remove(&name);
        drop(state);
        self.job(&name, "done", &emitter)
    }

    fn reset_failed_unit(&self, name: String) {
        locked(&self.state).calls.push(format!("reset {name}"));
    }

    fn get_unit(&self, name: String) -> Result<OwnedObjectPath, NoSuchUnit> {
        let state = locked(&self.state);
        let unit = state.units.get(&name).cloned();
        unit.ok_or_else(|| NoSuchUnit::NoSuchUnit(format!("Unit {name} not loaded.")))
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum NoSuchUnit {
    NoSuchUnit(String),
    #[zbus(error)]
    ZBus(zbus::Error),
}
