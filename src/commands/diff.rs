//! `nkudo diff`: what a switch to the configuration would do.

use crate::cli::Configuration;
use crate::connections::Connections;
use crate::generation::Rendering;
use crate::observe::{Detail, observe};
use crate::plan::{Request, plan};

use super::configured::configured;
use super::{Exit, block_on, carry_out, print, programs};

pub fn run(configuration: &Configuration) -> anyhow::Result<Exit> {
    let Some(configured) = configured(configuration)? else {
        return Ok(Exit::BadConfiguration);
    };
    block_on(async {
        let programs = programs::programs(&configured.host.hypervisor).await?;
        let rendering = Rendering {
            host: &configured.host,
            programs: &programs,
            origin: configured.origin,
            inputs: &configured.inputs,
        };
        let wanted = rendering.generation(0)?.manifest;
        let connections = Connections::open().await?;
        let observed = observe(
            &connections.bus,
            &connections.manager,
            &connections.netlink,
            Some(&programs.hypervisor),
            Detail::Plan,
        )
        .await?;
        match plan(&wanted, &observed, &Request::Switch) {
            Ok(plan) => {
                print(&plan.to_string())?;
                if plan.is_empty() {
                    tracing::info!("nothing to do");
                }
                Ok(Exit::Done)
            }
            Err(obstacles) => Ok(carry_out::say_obstacles(&obstacles)),
        }
    })
}
