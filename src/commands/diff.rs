//! `nkudo diff`: what a switch to the configuration would do.

use crate::cli::Diff;
use crate::connections::Connections;
use crate::disk;
use crate::generation::Rendering;
use crate::plan::{Request, plan};

use super::carry_out::Form;
use super::configured::configured;
use super::{Exit, block_on, carry_out, programs};

pub fn run(diff: &Diff) -> anyhow::Result<Exit> {
    let form = Form::of(diff.json);
    let Some(configured) = configured(&diff.configuration)? else {
        return Ok(Exit::BadConfiguration);
    };
    block_on(async {
        let programs = programs::programs(&configured.host).await?;
        let rendering = Rendering {
            host: &configured.host,
            first_boots: &configured.first_boots,
            programs: &programs,
            origin: configured.origin,
            inputs: &configured.inputs,
        };
        let mut wanted = rendering.generation(0)?.manifest;
        let connections = Connections::open().await?;
        let observed = carry_out::look(&connections, &wanted).await?;
        disk::as_made(&mut wanted.host, &observed.storage);
        match plan(&wanted, &observed, &Request::switch()) {
            Ok(plan) => {
                carry_out::print_plan(&plan, form)?;
                Ok(Exit::Done)
            }
            Err(obstacles) => {
                carry_out::print_obstacles(&obstacles, form)?;
                Ok(carry_out::say_obstacles(&obstacles))
            }
        }
    })
}
