//! `nkudo api`: any call to a VM's hypervisor.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Method;

use crate::apply::Doing;
use crate::cli::{Api as Arguments, ApiMethod};
use crate::vmm::{Vmm, VmmError};

use super::fetched::lock_vm;
use super::{Exit, block_on, print};

/// A snapshot of a large VM, say, takes its time.
const LIMIT: Duration = Duration::from_secs(600);

pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let body = body(arguments)?;
    let (method, _own) = match arguments.method {
        ApiMethod::Get => (Method::GET, None),
        // What changes the VM does not come in between of a snapshot.
        ApiMethod::Put => (Method::PUT, Some(lock_vm(id, Doing::Api)?)),
    };
    let vmm = Vmm::of(id);
    let answer = block_on(async {
        match vmm.any(method, &arguments.endpoint, body, LIMIT).await {
            Err(VmmError::Absent { .. }) => {
                bail!("VM {id} does not run\nhint: `nkudo status {id}` says why")
            }
            other => Ok(other?),
        }
    })?;
    if answer.is_empty() {
        return Ok(Exit::Done);
    }
    // Made readable; escapes of a string are not undone by that, so that nothing of it speaks to a terminal.
    let text = match serde_json::from_slice::<serde_json::Value>(&answer) {
        Ok(json) => serde_json::to_string_pretty(&json)?,
        Err(_) => String::from_utf8_lossy(&answer).into_owned(),
    };
    print(&format!("{text}\n"))?;
    Ok(Exit::Done)
}

fn body(arguments: &Arguments) -> anyhow::Result<Option<Vec<u8>>> {
    let text = match arguments.body.as_deref() {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            text
        }
        Some(text) => text.to_owned(),
    };
    let json: serde_json::Value =
        serde_json::from_str(&text).context("what is to be sent is not JSON")?;
    Ok(Some(json.to_string().into_bytes()))
}
