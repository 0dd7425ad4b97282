//! What is done to one VM that is declared.

use clap::Args;

use crate::host::VmId;

#[derive(Debug, Args)]
pub struct OneVm {
    /// The VM's id
    pub id: VmId,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// The VM's id
    pub id: VmId,

    /// Do not wait longer than this for the guest; SIGTERM then, and SIGKILL after 5 s more
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "10",
          value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub force: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Ssh {
    /// The VM's id
    pub id: VmId,

    /// The user in the VM. [default: ssh's own]
    #[arg(long, short = 'l')]
    pub user: Option<String>,

    /// Over the VM's vsock, whatever addresses it has
    #[arg(long)]
    pub vsock: bool,

    /// A command to run there; what follows `--` is not looked at
    #[arg(last = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct Api {
    /// The VM's id
    pub id: VmId,

    /// What to do
    #[arg(value_enum, ignore_case = true)]
    pub method: ApiMethod,

    /// The endpoint: `vm.info`, `vm.counters`, `vm.resize`
    #[arg(value_parser = parse_endpoint)]
    pub endpoint: String,

    /// What to send, as JSON; `-` reads it from standard input
    pub body: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum ApiMethod {
    Get,
    Put,
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(
            "an endpoint is made of letters, digits, `-` and `.`, as `vm.info` is".to_owned(),
        );
    }
    Ok(text.to_owned())
}
