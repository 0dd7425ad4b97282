//! nft(8): nkudo's tables, loaded and looked at.

mod generation;

use std::io;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use generation::generation;

use crate::files;
use crate::network::{NO_RULES, TABLES};
use crate::observe::{DroppingChain, Rules};
use crate::unit::RUNTIME_ROOT;

/// The text that was loaded last, and beside it the SHA-256 of how nft lists what it made, with a generation of the
/// ruleset in which it did.
const LOADED: &str = "nftables.conf";
const LISTED: &str = "nftables.listed";

/// What there is of nkudo's rules, and of others' that stand in their way.
pub async fn look() -> (Rules, Vec<DroppingChain>) {
    let (rules, chains) = tokio::join!(rules(), dropping());
    (rules, chains.unwrap_or_default())
}

async fn rules() -> Rules {
    let noted = Noted::read();
    if let (Some(noted), Ok(generation)) = (&noted, generation())
        && noted.generation == Some(generation)
    {
        return Rules::Loaded(noted.text.clone());
    }
    match tables().await {
        Ok(None) => Rules::Absent,
        Ok(Some(listed)) => match noted {
            Some(noted) if noted.digest == digest_of(&listed) => Rules::Loaded(noted.text),
            _ => Rules::Changed,
        },
        Err(err) => Rules::Unusable(format!("{err:#}")),
    }
}

/// What is known of the rules that nkudo loaded.
struct Noted {
    text: String,
    digest: String,
    /// Not by an nkudo before this one.
    generation: Option<u32>,
}

impl Noted {
    fn read() -> Option<Self> {
        let directory = Utf8Path::new(RUNTIME_ROOT);
        let read = |name: &str| String::from_utf8(files::read(&directory.join(name)).ok()??).ok();
        let listed = read(LISTED)?;
        let mut words = listed.split_whitespace();
        Some(Self {
            text: read(LOADED)?,
            digest: words.next()?.to_owned(),
            generation: words.next().and_then(|number| number.parse().ok()),
        })
    }
}

/// Notes that the rules are as they were loaded, where others have changed theirs since: the next look then needs no
/// listing.
pub async fn remember() -> anyhow::Result<()> {
    let (Some(noted), Ok(now)) = (Noted::read(), generation()) else {
        return Ok(());
    };
    if noted.generation == Some(now) {
        return Ok(());
    }
    match tables().await? {
        Some(listed) if digest_of(&listed) == noted.digest => note(&noted.digest, Some(now)),
        _ => Ok(()),
    }
}

fn note(digest: &str, generation: Option<u32>) -> anyhow::Result<()> {
    let path = Utf8Path::new(RUNTIME_ROOT).join(LISTED);
    let generation = generation.map_or_else(String::new, |number| format!(" {number}"));
    let text = format!("{digest}{generation}\n");
    files::replace(&path, text.as_bytes(), 0o600).with_context(|| format!("cannot write {path}"))
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
    // Before the listing: what changes since has another one.
    let generation = generation().ok();
    let now = tables().await?.unwrap_or_default();
    files::replace(&loaded, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {loaded}"))?;
    note(&digest_of(&now), generation)
}

/// How nft lists nkudo's tables; nothing where there is none of them.
async fn tables() -> anyhow::Result<Option<String>> {
    let mut all = None;
    for table in TABLES {
        let (family, name) = table.split_once(' ').unwrap_or((table, ""));
        // Without the counters, which change by themselves.
        match run(&["-s", "list", "table", family, name], "").await {
            Ok(text) => all.get_or_insert_with(String::new).push_str(&text),
            Err(err) if is_no_table(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(all)
}

/// Whether nft said that there is no such table. The kernel says the same of an nft that is not there.
fn is_no_table(err: &anyhow::Error) -> bool {
    err.downcast_ref::<io::Error>().is_none()
        && format!("{err:#}").contains("No such file or directory")
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
    // Where it ends before it has read all, it says why itself.
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
        None => Ok(()),
    };
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
    written?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn digest_of(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
