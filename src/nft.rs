//! nft(8): nkudo's tables, loaded and looked at.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::files;
use crate::network::{NO_RULES, TABLES};
use crate::observe::{DroppingChain, Rules};
use crate::unit::RUNTIME_ROOT;

/// The text that was loaded last, and the SHA-256 of how nft lists what it made.
const LOADED: &str = "nftables.conf";
const LISTED: &str = "nftables.listed";

/// What there is of nkudo's rules, and of others' that stand in their way.
pub async fn look() -> (Rules, Vec<DroppingChain>) {
    let (tables, chains) = tokio::join!(tables(), dropping());
    let rules = match tables {
        Ok(None) => Rules::Absent,
        Ok(Some(listed)) => loaded(&listed).map_or(Rules::Changed, Rules::Loaded),
        Err(err) => Rules::Unusable(format!("{err:#}")),
    };
    (rules, chains.unwrap_or_default())
}

/// The text that made what is listed, if it is known.
fn loaded(listed: &str) -> Option<String> {
    let directory = Utf8Path::new(RUNTIME_ROOT);
    let digest = files::read(&directory.join(LISTED)).ok()??;
    if digest != digest_of(listed).as_bytes() {
        return None;
    }
    let text = files::read(&directory.join(LOADED)).ok()??;
    String::from_utf8(text).ok()
}

/// Asks nft and the kernel whether they would take the rules; changes nothing.
pub async fn check(text: &str) -> anyhow::Result<()> {
    run(&["-c", "-f", "-"], text)
        .await
        .context("nft does not take nkudo's rules")?;
    Ok(())
}

/// Makes nkudo's tables be what the text says, in one transaction; without one, removes them.
pub async fn load(text: Option<&str>) -> anyhow::Result<()> {
    let directory = Utf8Path::new(RUNTIME_ROOT);
    // What is known of them is wrong from now on, whatever happens.
    let (loaded, listed) = (directory.join(LOADED), directory.join(LISTED));
    files::remove(&listed).with_context(|| format!("cannot remove {listed}"))?;
    run(&["-f", "-"], text.unwrap_or(NO_RULES))
        .await
        .context("nft does not take nkudo's rules")?;
    let Some(text) = text else {
        return files::remove(&loaded).with_context(|| format!("cannot remove {loaded}"));
    };
    let now = tables().await?.unwrap_or_default();
    files::replace(&loaded, text.as_bytes(), 0o600)
        .and_then(|()| files::replace(&listed, digest_of(&now).as_bytes(), 0o600))
        .with_context(|| format!("cannot note in {directory} what was loaded"))
}

/// How nft lists nkudo's tables; nothing where there is none of them.
async fn tables() -> anyhow::Result<Option<String>> {
    let mut all = None;
    for table in TABLES {
        let (family, name) = table.split_once(' ').unwrap_or((table, ""));
        // Without the counters, which change by themselves.
        match run(&["-s", "list", "table", family, name], "").await {
            Ok(text) => all.get_or_insert_with(String::new).push_str(&text),
            Err(err) if format!("{err:#}").contains("No such file or directory") => {}
            Err(err) => return Err(err),
        }
    }
    Ok(all)
}

/// How nft lists nkudo's rules for IP, with their counters; nothing where it cannot.
pub async fn counted() -> Option<String> {
    run(&["list", "table", "inet", "nkudo"], "").await.ok()
}

#[derive(Debug, Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    chain: Option<Chain>,
}

#[derive(Debug, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// Chains that drop forwarded packets unless a rule of theirs accepts them. An `accept` in one table
/// is no answer for another's.
async fn dropping() -> anyhow::Result<Vec<DroppingChain>> {
    let json = run(&["-j", "list", "chains"], "").await?;
    let listing: Listing = serde_json::from_str(&json).context("cannot read what nft lists")?;
    let mut found: Vec<DroppingChain> = listing
        .nftables
        .into_iter()
        .filter_map(|object| object.chain)
        .filter(|chain| {
            chain.hook.as_deref() == Some("forward")
                && chain.policy.as_deref() == Some("drop")
                && matches!(chain.family.as_str(), "ip" | "ip6" | "inet")
                && chain.table != "nkudo"
        })
        .map(|chain| DroppingChain {
            family: chain.family,
            table: chain.table,
            chain: chain.name,
        })
        .collect();
    found.sort();
    Ok(found)
}

async fn run(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run nft (package nftables)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        // The first line says it; the others point at the text.
        bail!(
            "{}",
            why.trim()
                .lines()
                .next()
                .unwrap_or("nft failed and did not say why")
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn digest_of(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text)
        .iter()
        .fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        })
}
