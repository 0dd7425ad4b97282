//! What the documents say can be done as it is written: their TOML is good, their commands are commands, and what
//! they refer to is there.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use clap::Parser as _;
use clap::error::ErrorKind;
use nkudo::cli::Cli;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a directory, by a part of their name.
fn below(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// What people read.
fn documents() -> Vec<PathBuf> {
    let mut documents = below("docs", ".md");
    documents
        .extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    documents
}

/// A document, taken apart.
#[derive(Default)]
struct Document {
    /// Blocks of code.
    blocks: Vec<Block>,
    /// Code within a line.
    codes: Vec<String>,
    /// Where links lead.
    links: Vec<String>,
    /// By what name links find headings.
    anchors: BTreeSet<String>,
}

struct Block {
    /// What is said about it after its three backticks.
    kind: String,
    text: String,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut document = Self::default();
        let mut block: Option<Block> = None;
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let kind = match kind {
                        CodeBlockKind::Fenced(kind) => kind.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let text = String::new();
                    block = Some(Block { kind, text });
                }
                Event::End(TagEnd::CodeBlock) => document.blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    document
                        .anchors
                        .extend(heading.take().map(|text| anchor(&text)));
                }
                Event::Start(Tag::Link { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                Event::Text(text) | Event::Code(text) if heading.is_some() => {
                    heading.as_mut().unwrap().push_str(&text);
                }
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    }
                }
                Event::Code(text) => document.codes.push(text.into_string()),
                _ => {}
            }
        }
        document
    }
}

/// The name that forges give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.collect()
}

/// Said of all documents at once.
fn assert_none(wrong: &BTreeMap<PathBuf, Vec<String>>) {
    let mut said = String::new();
    for (path, wrong) in wrong {
        let name = path.strip_prefix(root()).unwrap();
        for wrong in wrong {
            let _ = writeln!(said, "{}: {wrong}", name.display());
        }
    }
    assert!(said.is_empty(), "{said}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for path in documents() {
        for link in Document::read(&path).links {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let there =
                to.exists() && (anchor.is_empty() || Document::read(&to).anchors.contains(anchor));
            if !there {
                wrong.entry(path.clone()).or_default().push(link);
            }
        }
    }
    assert!(count > 50, "{count} links");
    assert_none(&wrong);
}

/// Help, messages and manual pages name documents and manual pages too.
#[test]
fn every_document_and_page_that_is_named_is_there() {
    let document = Regex::new(r"docs/[a-z-]+\.(?:md|schema\.json)").unwrap();
    let page = Regex::new(r"\bnkudo(?:-[a-z]+)*(?:\.toml)?\([58]\)").unwrap();
    let mut texts = documents();
    texts.extend(below("src", ".rs"));
    texts.extend(below("man", ""));
    let mut wrong: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for path in texts {
        let text = fs::read_to_string(&path).unwrap().replace('\\', "");
        let text = text.replace("fR", "").replace("fB", "").replace("fI", "");
        let pages = page.find_iter(&text).map(|found| {
            let (name, section) = found.as_str().split_once('(').unwrap();
            format!("man/{name}.{}", section.trim_end_matches(')'))
        });
        let documents = document
            .find_iter(&text)
            .map(|found| found.as_str().to_owned());
        // cloud-hypervisor and QEMU have a docs/ too.
        let others = ["docs/memory.md", "docs/vsock.md"].map(str::to_owned);
        for named in pages
            .chain(documents)
            .filter(|named| !others.contains(named))
        {
            count += 1;
            if !root().join(&named).exists() {
                wrong.entry(path.clone()).or_default().push(named);
            }
        }
    }
    assert!(count > 50, "{count} names");
    assert_none(&wrong);
}

/// What is TOML of a block: a file, all from its first table on (a picture may stand before it), or the lines of one
/// that only has keys of a VM: these are ways of saying the same.
fn snippets(block: &Block) -> Vec<String> {
    let table = Regex::new(r"(?m)^(#.*\n)*\[{1,2}(host|vm|network|image)[.\]]").unwrap();
    let assigned = Regex::new(r"(?m)^[a-z-]+ = ").unwrap();
    if block.kind == "toml" {
        vec![block.text.clone()]
    } else if !block.kind.is_empty() {
        Vec::new()
    } else if let Some(found) = table.find(&block.text) {
        vec![block.text[found.start()..].to_owned()]
    } else if assigned.is_match(&block.text) {
        let lines = block.text.lines();
        lines.map(|line| format!("[vm.web]\n{line}\n")).collect()
    } else {
        Vec::new()
    }
}

/// With what a snippet leaves out for its reader, because it is not its matter.
fn whole(snippet: &str) -> String {
    let checksum = format!("sha256 = \"{}\"", "0".repeat(64));
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let snippet = snippet
        .replace("sha256 = \"…\"", &checksum)
        .replace("AAAA…", key);
    let mut file: toml::Table = snippet
        .parse()
        .unwrap_or_else(|err| panic!("{err}\n{snippet}"));
    let none = toml::Table::new();
    let vms = file
        .get("vm")
        .and_then(toml::Value::as_table)
        .unwrap_or(&none);
    let mut vms = vms.clone();
    for vm in vms.iter_mut().filter_map(|(_, vm)| vm.as_table_mut()) {
        if !vm.contains_key("kernel") && !vm.contains_key("firmware") {
            vm.insert("firmware".to_owned(), "/srv/CLOUDHV.fd".into());
        }
        let nic: toml::Table = "network = \"own\"\naddress = \"10.99.0.10\""
            .parse()
            .unwrap();
        vm.entry("nic").or_insert_with(|| vec![nic].into());
    }
    for (kind, list, key, declared) in [
        ("network", "nic", "network", "address = [\"10.99.0.1/24\"]"),
        ("image", "disk", "image", "source = \"/srv/image.raw\""),
    ] {
        let items = vms
            .values()
            .filter_map(|vm| vm.get(list)?.as_array())
            .flatten();
        let named: BTreeSet<&str> = items.filter_map(|item| item.get(key)?.as_str()).collect();
        let table = file
            .entry(kind)
            .or_insert_with(|| toml::Table::new().into());
        let table = table.as_table_mut().unwrap();
        for name in named {
            let declared: toml::Table = declared.parse().unwrap();
            table.entry(name).or_insert_with(|| declared.into());
        }
    }
    file.insert("vm".to_owned(), vms.into());
    toml::to_string(&file).unwrap()
}

/// What `nkudo check` says about a file that is wrong.
fn mistakes(file: &str) -> Option<String> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_nkudo"))
        .args(["check", "--elsewhere", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(file.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_snippet_of_toml_is_good() {
    let mut wrong: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for path in documents() {
        let document = Document::read(&path);
        for snippet in document.blocks.iter().flat_map(snippets) {
            count += 1;
            wrong
                .entry(path.clone())
                .or_default()
                .extend(mistakes(&whole(&snippet)));
        }
    }
    assert!(count > 15, "{count} snippets");
    assert_none(&wrong);
}

/// The commands of a block, one a line; its comments aside.
fn commands_of(block: &Block) -> impl Iterator<Item = String> {
    let comment = Regex::new(r"\s{2,}#.*$").unwrap();
    let lines = block.text.lines();
    lines.map(move |line| {
        comment
            .replace(line, "")
            .trim_start_matches("sudo ")
            .to_owned()
    })
}

/// Each of the commands that one with `a|b` in it stands for.
fn each(command: &str) -> Vec<String> {
    let Some(word) = command.split_whitespace().find(|word| word.contains('|')) else {
        return vec![command.to_owned()];
    };
    word.split('|')
        .flat_map(|one| each(&command.replacen(word, one, 1)))
        .collect()
}

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(N|SECONDS)\b|\{number\}").unwrap());
static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[A-Z]{2,}\b|\{[^}]*\}").unwrap());

/// Why the command line does not take it. A name stands in capitals for what its reader puts there, what may be left out
/// in brackets, and a verb may be mentioned without all that it needs.
fn refused(command: &str) -> Option<String> {
    let words = command.split_whitespace().map(|word| match word {
        "GET" | "PUT" => word.to_owned(),
        _ => {
            let word = NUMBER.replace_all(word, "1");
            NAME.replace_all(&word, "web").replace(['[', ']'], "")
        }
    });
    let err = Cli::try_parse_from(words).err()?;
    let mentioned = match err.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => true,
        // An option without its value.
        ErrorKind::InvalidValue => err.to_string().contains("a value is required"),
        _ => false,
    };
    (!mentioned).then(|| format!("{command}: {err}"))
}

#[test]
fn every_command_is_one() {
    let mut wrong: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for path in documents() {
        let document = Document::read(&path);
        let of_blocks = document.blocks.iter().flat_map(commands_of);
        for command in of_blocks.chain(document.codes.iter().cloned()) {
            if command.starts_with("nkudo ") {
                count += 1;
                wrong
                    .entry(path.clone())
                    .or_default()
                    .extend(each(&command).iter().filter_map(|one| refused(one)));
            }
        }
    }
    assert!(count > 150, "{count} commands");
    assert_none(&wrong);
}

/// A message that says what to do now must say what can be done.
#[test]
fn every_command_in_a_message_is_one() {
    let quoted = Regex::new(r"`(nkudo [^`]*)`").unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let comment = Regex::new(r"\n\s*//[/!]?").unwrap();
    let mut wrong: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for path in below("src", ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let text = continued.replace_all(&text, "");
        let text = comment.replace_all(&text, "");
        for found in quoted.captures_iter(&text) {
            count += 1;
            wrong
                .entry(path.clone())
                .or_default()
                .extend(each(&found[1]).iter().filter_map(|one| refused(one)));
        }
    }
    assert!(count > 50, "{count} commands");
    assert_none(&wrong);
}
