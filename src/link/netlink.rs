//! rtnetlink(7): links and their addresses, listed and changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage, MacVtapMode,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMacVtap, LinkUnspec, LinkVlan, MulticastGroup,
    RouteMessageBuilder,
};
use tokio::sync::watch;

use super::messages::{address_of, route, seen};
use crate::host::{Isolation, LinkName, Network, Nic, QueuePairs, Vlan};
use crate::interruption::effect;
use crate::observe::{Link, Route};

/// The group (ip-link(8)) of macvtaps that nkudo made: "nk". It is set in the message that makes one,
/// so none is ever nobody's.
pub(super) const MACVTAP_GROUP: u32 = 0x6e6b;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot speak to the kernel over rtnetlink")]
    Connect(#[source] io::Error),
    #[error("cannot {doing} {link}")]
    Request {
        doing: &'static str,
        link: String,
        source: rtnetlink::Error,
    },
    #[error("cannot make the TAP {name}")]
    Tap { name: LinkName, source: io::Error },
    #[error("cannot open the macvtap {name} at /dev/tap{index}")]
    Macvtap {
        name: LinkName,
        index: u32,
        source: io::Error,
    },
    #[error("the link {0} is not there")]
    Missing(String),
    #[error("after {seconds} s these links are not as they should be: {links}", seconds = .0.as_secs(), links = .1.join(", "))]
    NotReached(Duration, Vec<String>),
}

/// A connection to the kernel, which is also told of every change of a link or an address.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    changes: watch::Receiver<()>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Netlink {
    pub fn connect() -> Result<Self, LinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, mut events) =
            rtnetlink::new_multicast_connection(&groups).map_err(LinkError::Connect)?;
        let (sender, changes) = watch::channel(());
        let tell = async move {
            while events.next().await.is_some() {
                sender.send_replace(());
            }
        };
        Ok(Self {
            handle,
            changes,
            tasks: [tokio::spawn(connection), tokio::spawn(tell)],
        })
    }

    /// Every link of this network namespace, with its addresses: two dumps.
    pub async fn links(&self) -> Result<BTreeMap<String, Link>, LinkError> {
        let listed = |source| request("list", "the host's links", source);
        let mut links = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut dump = self.handle.link().get().execute();
        while let Some(message) = dump.try_next().await.map_err(listed)? {
            let (name, link) = seen(message);
            names.insert(link.index, name.clone());
            links.insert(name, link);
        }
        let mut dump = self.handle.address().get().execute();
        while let Some(message) = dump.try_next().await.map_err(listed)? {
            let address = address_of(&message.attributes)
                .and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok());
            let link = names
                .get(&message.header.index)
                .and_then(|name| links.get_mut(name));
            if let (Some(address), Some(link)) = (address, link) {
                link.addresses.insert(address);
            }
        }
        Ok(links)
    }

    /// The addresses of the host's neighbours, by Ethernet address.
    pub async fn neighbours(&self) -> Result<BTreeMap<[u8; 6], BTreeSet<IpAddr>>, LinkError> {
        let mut neighbours: BTreeMap<[u8; 6], BTreeSet<IpAddr>> = BTreeMap::new();
        let mut dump = self.handle.neighbours().get().execute();
        let listed = |source| request("list", "the host's neighbours", source);
        while let Some(message) = dump.try_next().await.map_err(listed)? {
            let (mut mac, mut ip) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::LinkLayerAddress(address) => {
                        mac = address.as_slice().try_into().ok();
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                        ip = Some(IpAddr::from(*address));
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                        ip = Some(IpAddr::from(*address));
                    }
                    _ => {}
                }
            }
            if let (Some(mac), Some(ip)) = (mac, ip) {
                neighbours.entry(mac).or_default().insert(ip);
            }
        }
        Ok(neighbours)
    }

    /// Makes a bridge that is nkudo's from its first moment, and sets it up.
    pub async fn create_bridge(&self, name: &LinkName) -> Result<(), LinkError> {
        let message = LinkBridge::new(name.as_str())
            .address(Network::bridge_mac(name).octets().to_vec())
            // A port forwards at once: there is no loop to find, STP is off.
            .forward_delay(0)
            .up()
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|source| request("make the bridge", name.as_str(), source))?;
        effect();
        Ok(())
    }

    /// Makes the link of a VLAN, which is nkudo's from its first moment.
    pub async fn create_vlan(&self, vlan: &Vlan, uplink: &LinkName) -> Result<(), LinkError> {
        let below = self.index(uplink).await?;
        let message = LinkVlan::new(vlan.link.as_str(), below, vlan.id.get())
            .address(Network::vlan_mac(&vlan.link).octets().to_vec())
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|source| request("make the VLAN's link", vlan.link.as_str(), source))?;
        // The host has no address of its own there.
        let index = self.index(&vlan.link).await?;
        self.no_link_local(&vlan.link, index).await;
        self.set_up(&vlan.link, index).await
    }

    /// Makes a macvtap on an uplink, and sets it up. It is marked as nkudo's by its group.
    pub async fn create_macvtap(
        &self,
        nic: &Nic,
        uplink: &LinkName,
        isolation: Isolation,
    ) -> Result<u32, LinkError> {
        let below = self.index(uplink).await?;
        let mode = match isolation {
            Isolation::Off => MacVtapMode::Bridge,
            Isolation::On => MacVtapMode::Private,
        };
        let name = nic.tap.as_str();
        let message = LinkMacVtap::new(name, below, mode)
            .address(nic.mac.octets().to_vec())
            .link_group(MACVTAP_GROUP)
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|source| request("make the macvtap", name, source))?;
        let index = self.index(&nic.tap).await?;
        self.no_link_local(&nic.tap, index).await;
        self.set_up(&nic.tap, index).await?;
        Ok(index)
    }

    /// The unicast routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let mut routes = Vec::new();
        for message in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let mut dump = self.handle.route().get(message).execute();
            while let Some(message) = dump
                .try_next()
                .await
                .map_err(|source| request("list", "the host's routes", source))?
            {
                routes.extend(route(&message));
            }
        }
        Ok(routes)
    }

    pub async fn set_up_named(&self, name: &LinkName) -> Result<(), LinkError> {
        let index = self.index(name).await?;
        self.set_up(name, index).await
    }

    pub async fn set_up(&self, name: &LinkName, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.set(message, "set up", name).await
    }

    pub async fn add_address(&self, link: &LinkName, address: IpNet) -> Result<(), LinkError> {
        let index = self.index(link).await?;
        let request_ = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len());
        request_
            .replace()
            .execute()
            .await
            .map_err(|source| request("add an address to", link.as_str(), source))?;
        effect();
        Ok(())
    }

    pub async fn remove_address(&self, link: &LinkName, address: IpNet) -> Result<(), LinkError> {
        let index = self.index(link).await?;
        let failed = |source| request("remove an address from", link.as_str(), source);
        let mut dump = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        while let Some(message) = dump.try_next().await.map_err(failed)? {
            let same = address_of(&message.attributes) == Some(address.addr())
                && message.header.prefix_len == address.prefix_len();
            if same {
                let removed = self.handle.address().del(message).execute().await;
                removed.map_err(failed)?;
                effect();
            }
        }
        Ok(())
    }

    /// Makes a TAP, puts it into the bridge and sets it up. It lives as long as what is returned.
    pub async fn create_tap(
        &self,
        tap: &LinkName,
        queues: QueuePairs,
        bridge: &LinkName,
        isolation: Isolation,
    ) -> Result<Vec<std::os::fd::OwnedFd>, LinkError> {
        let fds = super::open_tap(tap, queues).map_err(|source| LinkError::Tap {
            name: tap.clone(),
            source,
        })?;
        effect();
        let index = self.index(tap).await?;
        self.no_link_local(tap, index).await;
        self.put_into(tap, index, bridge).await?;
        if isolation == Isolation::On {
            self.isolate(tap, index, isolation).await?;
        }
        self.set_up(tap, index).await?;
        Ok(fds)
    }

    async fn no_link_local(&self, link: &LinkName, index: u32) {
        // The host has no address of its own there, and no guest reaches it by one. Without IPv6
        // in the kernel this is refused, and not needed.
        let no_link_local = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]))
            .build();
        if let Err(err) = self.handle.link().set(no_link_local).execute().await {
            tracing::debug!("{link}: addr_gen_mode none: {err}");
        }
    }

    /// Puts a TAP that is there into a bridge.
    pub async fn attach(
        &self,
        tap: &LinkName,
        bridge: &LinkName,
        isolation: Isolation,
    ) -> Result<(), LinkError> {
        let index = self.index(tap).await?;
        self.put_into(tap, index, bridge).await?;
        self.isolate(tap, index, isolation).await?;
        self.set_up(tap, index).await
    }

    /// Puts an uplink into a bridge, and sets it up.
    pub async fn put_uplink(&self, uplink: &LinkName, bridge: &LinkName) -> Result<(), LinkError> {
        let index = self.index(uplink).await?;
        self.put_into(uplink, index, bridge).await?;
        self.set_up(uplink, index).await
    }

    /// Takes a link out of the bridge, if it is in that.
    pub async fn release(&self, link: &LinkName, bridge: &str) -> Result<(), LinkError> {
        let links = self.links().await?;
        let (Some(seen), Some(bridge)) = (links.get(link.as_str()), links.get(bridge)) else {
            return Ok(());
        };
        if seen.master != Some(bridge.index) {
            return Ok(());
        }
        let message = LinkUnspec::new_with_index(seen.index)
            .nocontroller()
            .build();
        self.set(message, "take out of its bridge", link).await
    }

    async fn isolate(
        &self,
        tap: &LinkName,
        index: u32,
        isolation: Isolation,
    ) -> Result<(), LinkError> {
        let message = LinkBridgePort::new(index)
            .isolated(isolation == Isolation::On)
            .build();
        let changed = self.handle.link().change(message).execute().await;
        changed.map_err(|source| request("isolate the port", tap.as_str(), source))
    }

    async fn put_into(
        &self,
        tap: &LinkName,
        index: u32,
        bridge: &LinkName,
    ) -> Result<(), LinkError> {
        let bridge = self.index(bridge).await?;
        let message = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.set(message, "put into its bridge the link", tap).await
    }

    /// Deletes a link. Only bridges that the plan found to be nkudo's come here.
    pub async fn delete(&self, name: &LinkName) -> Result<(), LinkError> {
        let index = match self.index(name).await {
            Err(LinkError::Missing(_)) => return Ok(()),
            other => other?,
        };
        let deleted = self.handle.link().del(index).execute().await;
        deleted.map_err(|source| request("delete", name.as_str(), source))?;
        effect();
        Ok(())
    }

    /// Waits until `wrong` finds nothing wrong with the links any more, looking again whenever a
    /// link or an address changes.
    pub async fn until(
        &self,
        limit: Duration,
        wrong: impl Fn(&BTreeMap<String, Link>) -> Vec<String>,
    ) -> Result<(), LinkError> {
        let mut changes = self.changes.clone();
        let end = tokio::time::Instant::now() + limit;
        loop {
            // What has happened until now is in the listing.
            changes.mark_unchanged();
            let still = wrong(&self.links().await?);
            if still.is_empty() {
                return Ok(());
            }
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(LinkError::Connect(io::ErrorKind::BrokenPipe.into())),
                Err(_) => return Err(LinkError::NotReached(limit, still)),
            }
        }
    }

    async fn set(
        &self,
        message: LinkMessage,
        doing: &'static str,
        link: &LinkName,
    ) -> Result<(), LinkError> {
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|source| request(doing, link.as_str(), source))?;
        effect();
        Ok(())
    }

    async fn index(&self, name: &LinkName) -> Result<u32, LinkError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.as_str().to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(Some(message)) => Ok(message.header.index),
            Ok(None) => Err(LinkError::Missing(name.to_string())),
            Err(rtnetlink::Error::NetlinkError(err))
                if err.raw_code() == -rustix::io::Errno::NODEV.raw_os_error() =>
            {
                Err(LinkError::Missing(name.to_string()))
            }
            Err(source) => Err(request("find", name.as_str(), source)),
        }
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn request(doing: &'static str, link: &str, source: rtnetlink::Error) -> LinkError {
    LinkError::Request {
        doing,
        link: link.to_owned(),
        source,
    }
}
