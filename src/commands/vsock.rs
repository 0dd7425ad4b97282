//! `nkudo vsock`, which ssh runs for `nkudo ssh`: hands it a connection to a guest (`ProxyUseFdpass`, ssh_config(5)).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::cli::Vsock as Arguments;
use crate::unit::runtime_directory;
use crate::vsock;

use super::Exit;

pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let connection = vsock::connect(&runtime_directory(id), arguments.port)
        .with_context(|| format!("cannot reach VM {id} over its vsock"))?;
    let fds = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    // A message has to have a byte.
    let byte = [IoSlice::new(&[0])];
    sendmsg(io::stdout(), &byte, &mut ancillary, SendFlags::empty())
        .context("standard output is no socket; `nkudo ssh` runs this")?;
    Ok(Exit::Done)
}
