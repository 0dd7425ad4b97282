//! NetworkManager, as far as nkudo has something to tell it.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;

use super::Apply;
use crate::files;
use crate::network::NETWORK_MANAGER_FILE;
use crate::plan::{BridgeStep, NetworkManagerStep, Plan};

const NAME: &str = "org.freedesktop.NetworkManager";

/// How long it may take. It answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// `NM_MANAGER_RELOAD_FLAG_CONF`: its configuration, and neither DNS nor firewall.
const CONFIGURATION: u32 = 1;

#[zbus::proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    /// Since NetworkManager 1.22.
    fn reload(&self, flags: u32) -> zbus::Result<()>;
}

impl Apply<'_> {
    /// Before the first link: NetworkManager is not to see one that it is not told of.
    pub(super) async fn tell_network_manager(&self, plan: &Plan) -> anyhow::Result<()> {
        let path = Utf8Path::new(NETWORK_MANAGER_FILE);
        let Some(step) = &plan.network.network_manager else {
            return Ok(());
        };
        let creates = plan
            .bridges
            .values()
            .any(|step| matches!(step, BridgeStep::Create { .. }));
        match step {
            NetworkManagerStep::Write(text) => {
                let directory = path.parent().unwrap_or(path);
                files::ensure_shared_directory(directory, 0o755)
                    .with_context(|| format!("cannot make {directory}"))?;
                files::replace(path, text.as_bytes(), 0o644)
                    .with_context(|| format!("cannot write {path}"))?;
            }
            // A run that was killed may have written it and said nothing.
            NetworkManagerStep::Keep if creates => {}
            NetworkManagerStep::Keep | NetworkManagerStep::Remove => return Ok(()),
        }
        self.reload_network_manager().await;
        Ok(())
    }

    /// After the last link.
    pub(super) async fn forget_network_manager(&self, plan: &Plan) -> anyhow::Result<()> {
        if plan.network.network_manager == Some(NetworkManagerStep::Remove) {
            let path = Utf8Path::new(NETWORK_MANAGER_FILE);
            files::remove(path).with_context(|| format!("cannot remove {path}"))?;
            self.reload_network_manager().await;
        }
        Ok(())
    }

    /// Nothing where it does not own its name. It is no reason to stop where it does not answer: it reads the file when it
    /// starts again, and links work meanwhile.
    async fn reload_network_manager(&self) {
        let why = match tokio::time::timeout(LIMIT, self.try_reload_network_manager()).await {
            Ok(Ok(())) => return,
            Ok(Err(err)) => err.to_string(),
            Err(_) => format!("it did not answer within {} s", LIMIT.as_secs()),
        };
        tracing::warn!(
            "NetworkManager does not reload its configuration, and may take nkudo's links for its own \
             until `systemctl reload NetworkManager`: {why}"
        );
    }

    async fn try_reload_network_manager(&self) -> zbus::Result<()> {
        let bus = &self.connections.bus;
        let names = DBusProxy::new(bus).await?;
        if names.name_has_owner(BusName::try_from(NAME)?).await? {
            NetworkManagerProxy::new(bus)
                .await?
                .reload(CONFIGURATION)
                .await?;
        }
        Ok(())
    }
}
