//! rtnetlink(7): links and their addresses, listed and changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, MulticastGroup};
use tokio::sync::watch;

use crate::host::{LinkName, Network};
use crate::observe::{Admin, Link, LinkKind};

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
        added.map_err(|source| request("make the bridge", name.as_str(), source))
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
            .map_err(|source| request("add an address to", link.as_str(), source))
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
            }
        }
        Ok(())
    }

    /// Makes a TAP, puts it into the bridge and sets it up. It lives as long as what is returned.
    pub async fn create_tap(
        &self,
        tap: &LinkName,
        bridge: &LinkName,
    ) -> Result<std::os::fd::OwnedFd, LinkError> {
        let fd = super::open_tap(tap).map_err(|source| LinkError::Tap {
            name: tap.clone(),
            source,
        })?;
        let index = self.index(tap).await?;
        // The host has no address of its own on a TAP, and no guest reaches it there. Without IPv6
        // in the kernel this is refused, and not needed.
        let no_link_local = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]))
            .build();
        if let Err(err) = self.handle.link().set(no_link_local).execute().await {
            tracing::debug!("{tap}: addr_gen_mode none: {err}");
        }
        self.put_into(tap, index, bridge).await?;
        self.set_up(tap, index).await?;
        Ok(fd)
    }

    /// Puts a TAP that is there into a bridge.
    pub async fn attach(&self, tap: &LinkName, bridge: &LinkName) -> Result<(), LinkError> {
        let index = self.index(tap).await?;
        self.put_into(tap, index, bridge).await
    }

    async fn put_into(
        &self,
        tap: &LinkName,
        index: u32,
        bridge: &LinkName,
    ) -> Result<(), LinkError> {
        let bridge = self.index(bridge).await?;
        let message = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.set(message, "put into its bridge the TAP", tap).await
    }

    /// Deletes a link. Only bridges that the plan found to be nkudo's come here.
    pub async fn delete(&self, name: &LinkName) -> Result<(), LinkError> {
        let index = match self.index(name).await {
            Err(LinkError::Missing(_)) => return Ok(()),
            other => other?,
        };
        let deleted = self.handle.link().del(index).execute().await;
        deleted.map_err(|source| request("delete", name.as_str(), source))
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
        set.map_err(|source| request(doing, link.as_str(), source))
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

fn seen(message: LinkMessage) -> (String, Link) {
    let mut name = String::new();
    let mut link = Link {
        index: message.header.index,
        kind: LinkKind::Other,
        mac: None,
        master: None,
        admin: if message.header.flags.contains(LinkFlags::Up) {
            Admin::Up
        } else {
            Admin::Down
        },
        addresses: BTreeSet::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Tun) => link.kind = LinkKind::Tun,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (name, link)
}

/// The host's own address: on links with a peer, `Address` is the other end.
fn address_of(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}
