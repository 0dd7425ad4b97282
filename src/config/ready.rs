//! `ready`: when a VM's start is done.

use std::num::NonZeroU16;

use super::cursor::Value;
use super::values;
use super::vm::Shared;
use crate::host::{NetworkKind, Nic, OnTimeout, QueuePairs, Ready, VmId};

/// What must have happened.
#[derive(Debug, Clone, Copy)]
enum When {
    Vmm,
    Guest,
    Tcp(NonZeroU16),
}

/// `nics`, where they have no mistakes.
pub(super) fn ready(
    value: &Value<'_>,
    id: &VmId,
    nics: Option<&[Nic]>,
    shared: &Shared<'_>,
) -> Option<Ready> {
    if value.is_text() {
        return when(value, id, nics, shared).map(|when| ready_of(when, OnTimeout::Continue));
    }
    if !value.is_table() {
        value.wrong_type("a string or a table");
        return None;
    }
    let mut table = value.table()?;
    let when = table.read("when", When::Vmm, |value| when(value, id, nics, shared));
    let on_timeout = table.read("on-timeout", OnTimeout::Continue, |value| {
        let words = [("continue", OnTimeout::Continue), ("fail", OnTimeout::Fail)];
        values::choice(value, &words)
    });
    table.finish();
    Some(ready_of(when?, on_timeout?))
}

fn ready_of(when: When, on_timeout: OnTimeout) -> Ready {
    match when {
        When::Vmm => Ready::Vmm { on_timeout },
        When::Guest => Ready::Guest { on_timeout },
        When::Tcp(port) => Ready::Tcp { port, on_timeout },
    }
}

fn when(value: &Value<'_>, id: &VmId, nics: Option<&[Nic]>, shared: &Shared<'_>) -> Option<When> {
    let text = value.text()?;
    let Some(port) = text.strip_prefix("tcp:") else {
        let when = values::choice(value, &[("vmm", When::Vmm), ("guest", When::Guest)])?;
        let has_room = !matches!(when, When::Guest) || has_room(value, id, nics);
        return has_room.then_some(when);
    };
    // `parse` takes a sign too.
    let port_number = port.starts_with(|c: char| c.is_ascii_digit());
    let Some(port) = port_number
        .then(|| port.parse::<NonZeroU16>().ok())
        .flatten()
    else {
        value.error_with_hint(
            format!("`{}` is not a TCP port", values::shown(port)),
            "write a number from 1 to 65535: `tcp:22`",
        );
        return None;
    };
    is_reached(value, id, nics, shared).then_some(When::Tcp(port))
}

/// The socket on which the guest is heard goes to systemd in one message with its TAPs.
fn has_room(value: &Value<'_>, id: &VmId, nics: Option<&[Nic]>) -> bool {
    let queues = nics.unwrap_or_default().iter().map(|nic| nic.queues.get());
    if queues.map(u32::from).sum::<u32>() < u32::from(QueuePairs::MOST) {
        return true;
    }
    value.error_with_hint(
        format!("the NICs of VM `{id}` leave no room for its guest to say that it is ready"),
        format!(
            "they can have {} queues together then",
            QueuePairs::MOST - 1
        ),
    );
    false
}

/// A connection needs an address that is known before the guest has it, on a network that the host
/// is on too.
fn is_reached(value: &Value<'_>, id: &VmId, nics: Option<&[Nic]>, shared: &Shared<'_>) -> bool {
    // What their mistakes keep from being known is not one of this.
    let Some(nics) = nics else { return true };
    let past_the_host = |nic: &&Nic| {
        let network = shared.lowered.get(&nic.network);
        network.is_some_and(|network| matches!(network.kind, NetworkKind::Macvtap(_)))
    };
    let mut reached = nics.iter().filter(|nic| !past_the_host(nic)).peekable();
    let hint = match (nics, reached.peek()) {
        ([], _) => format!("give it a `[[vm.{id}.nic]]` with an `address`"),
        (_, None) => "a macvtap leads past the host; give it a NIC on another network, with an \
                      `address`"
            .to_owned(),
        (_, Some(nic)) => format!(
            "add an `address` to its NIC on network `{}`; where nkudo hands out addresses there, the \
             guest is given that one",
            nic.network
        ),
    };
    if reached.any(|nic| !nic.address.is_empty()) {
        return true;
    }
    value.sink.report_absence(
        value
            .diagnostic(format!(
                "there is no address at which the host could try VM `{id}`"
            ))
            .hint(hint),
    );
    false
}
