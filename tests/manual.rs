//! The manual pages in man/ and the completions in completions/ are those of the command line and of the
//! file as they are now, and `make install` puts them where they belong.
//!
//! `make generated` writes them anew.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use nkudo::cli::Cli;
use nkudo::config::shape;
use roff::{Roff, bold, roman};

const SECTION: &str = "8";
const VERSION: &str = concat!("nkudo ", env!("CARGO_PKG_VERSION"));

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

fn command() -> clap::Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// nkudo(8), a page for each verb, and nkudo.toml(5).
fn pages() -> Files {
    let command = command();
    let verbs: Vec<&clap::Command> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .collect();
    let mut pages = Files::new();
    pages.insert(format!("nkudo.{SECTION}"), nkudo(&command, &verbs));
    for verb in verbs {
        pages.extend(verb_pages("nkudo", verb));
    }
    let text = markdown::page(&shape::reference(), "nkudo.toml", "5", VERSION);
    pages.insert("nkudo.toml.5".to_owned(), text.into_bytes());
    pages
}

/// The page of a verb, and those of its own verbs.
fn verb_pages(parent: &str, verb: &clap::Command) -> Files {
    let name = format!("{parent}-{}", verb.get_name());
    let inner: Vec<&clap::Command> = verb
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .collect();
    let titled = verb
        .clone()
        .name(&*name.clone().leak())
        .version(env!("CARGO_PKG_VERSION"));
    let man = Man::new(titled)
        .section(SECTION)
        .source(VERSION)
        .manual("nkudo");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    page.extend(commands(&name, &inner));
    page.extend(see_also(if parent == "nkudo" {
        &[("nkudo", "8"), ("nkudo.toml", "5")]
    } else {
        &[("nkudo", "8")]
    }));
    let mut pages = Files::from([(format!("{name}.{SECTION}"), page)]);
    for inner in inner {
        pages.extend(verb_pages(&name, inner));
    }
    pages
}

fn nkudo(command: &clap::Command, verbs: &[&clap::Command]) -> Vec<u8> {
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(VERSION)
        .manual("nkudo");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    page.extend(described(include_str!("manual/description.md")));
    man.render_options_section(&mut page).unwrap();
    page.extend(commands("nkudo", verbs));
    page.extend(described(include_str!("manual/rest.md")));
    page.extend(see_also(&[
        ("nkudo.toml", "5"),
        ("systemctl", "1"),
        ("journalctl", "1"),
        ("systemd.resource-control", "5"),
        ("cloud-hypervisor", "1"),
    ]));
    page
}

fn described(markdown: &str) -> Vec<u8> {
    markdown::sections(markdown).into_bytes()
}

fn commands(name: &str, verbs: &[&clap::Command]) -> Vec<u8> {
    if verbs.is_empty() {
        return Vec::new();
    }
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for verb in verbs {
        roff.control("TP", []);
        let page = format!("{name}-{}", verb.get_name());
        roff.text([bold(page), roman(format!("({SECTION})"))]);
        let about = verb
            .get_about()
            .unwrap_or_else(|| panic!("{name} has no help"));
        roff.text([roman(about.to_string())]);
    }
    // Without the preamble, which the title has written.
    roff.to_roff().into_bytes()
}

fn see_also(pages: &[(&str, &str)]) -> Vec<u8> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut text = Vec::new();
    for (index, (page, section)) in pages.iter().enumerate() {
        let end = if index + 1 == pages.len() { "" } else { ", " };
        text.extend([bold(*page), roman(format!("({section}){end}"))]);
    }
    roff.text(text);
    roff.to_roff().into_bytes()
}

fn completions() -> Files {
    let one = |name: &str, shell: Shell| {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "nkudo", &mut bytes);
        (name.to_owned(), bytes)
    };
    Files::from([
        one("nkudo.bash", Shell::Bash),
        one("_nkudo", Shell::Zsh),
        one("nkudo.fish", Shell::Fish),
    ])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory has these files and no other.
fn assert_fresh(directory: &str, files: &Files) {
    let directory = root().join(directory);
    if std::env::var_os("NKUDO_BLESS").is_some() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in files {
            fs::write(directory.join(name), bytes).unwrap();
        }
        return;
    }
    let there: BTreeSet<String> = fs::read_dir(&directory)
        .unwrap_or_else(|err| panic!("{}: {err}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let stale = "is stale; `make generated` writes it anew";
    let wanted: BTreeSet<String> = files.keys().cloned().collect();
    assert_eq!(there, wanted, "{} {stale}", directory.display());
    for (name, bytes) in files {
        let path = directory.join(name);
        let recorded = fs::read_to_string(&path).unwrap();
        let text = String::from_utf8_lossy(bytes);
        let diff = similar::TextDiff::from_lines(recorded.as_str(), &text);
        assert!(
            recorded == text,
            "{} {stale}:\n{}",
            path.display(),
            diff.unified_diff()
        );
    }
}

#[test]
fn the_manual_pages_are_fresh() {
    assert_fresh("man", &pages());
}

#[test]
fn the_completions_are_fresh() {
    assert_fresh("completions", &completions());
}

#[test]
fn every_exit_code_is_in_the_manual() {
    let pages = pages();
    let page = String::from_utf8_lossy(&pages["nkudo.8"]).into_owned();
    let codes = page.split(".SH \"EXIT STATUS\"").nth(1).unwrap();
    for code in 0..=5 {
        assert!(
            codes.contains(&format!("\\fB{code}\\fR")),
            "{code} is not in\n{codes}"
        );
    }
}

/// What `make install` put below a directory, relative to that, with the modes.
fn installed(directory: &Path, prefix: &str) -> BTreeMap<String, u32> {
    let output = Command::new("make")
        .current_dir(root())
        .args(["--no-print-directory", "install"])
        .arg(format!("DESTDIR={}", directory.display()))
        .arg(format!("PREFIX={prefix}"))
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_nkudo")))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut found = BTreeMap::new();
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            found.insert(name.to_owned(), mode);
        }
    }
    found
}

#[test]
fn make_install_puts_everything_where_it_belongs() {
    for prefix in ["/usr", "/usr/local"] {
        let directory = tempfile::tempdir().unwrap();
        let files = installed(directory.path(), prefix);
        let below = prefix.trim_start_matches('/');
        let mut wanted = BTreeMap::from([
            (format!("{below}/bin/nkudo"), 0o755),
            (
                format!("{below}/share/bash-completion/completions/nkudo"),
                0o644,
            ),
            (format!("{below}/share/zsh/site-functions/_nkudo"), 0o644),
            (
                format!("{below}/share/fish/vendor_completions.d/nkudo.fish"),
                0o644,
            ),
            (format!("{below}/share/nkudo/nkudo.schema.json"), 0o644),
        ]);
        for unit in fs::read_dir(root().join("units")).unwrap() {
            let name = unit.unwrap().file_name().into_string().unwrap();
            // It would take the name of every VM's transient unit.
            assert_ne!(name, "nkudo-vm@.service");
            wanted.insert(format!("{below}/lib/systemd/system/{name}"), 0o644);
        }
        for page in pages().keys() {
            let section = page.rsplit('.').next().unwrap();
            wanted.insert(format!("{below}/share/man/man{section}/{page}"), 0o644);
        }
        // Where help says `docs/status.md`.
        for (documents, ending) in [("docs", "md"), ("docs", "json"), ("examples", "toml")] {
            for document in fs::read_dir(root().join(documents)).unwrap() {
                let path = document.unwrap().path();
                if path.extension().is_some_and(|found| found == ending) {
                    let name = path.strip_prefix(root()).unwrap().display();
                    wanted.insert(format!("{below}/share/doc/nkudo/{name}"), 0o644);
                }
            }
        }
        wanted.insert(format!("{below}/share/doc/nkudo/README.md"), 0o644);
        assert_eq!(files, wanted);
        let unit = directory
            .path()
            .join(format!("{below}/lib/systemd/system/nkudo-boot.service"));
        let unit = fs::read_to_string(unit).unwrap();
        let start = format!("ExecStart={prefix}/bin/nkudo switch --boot");
        assert!(
            unit.lines().any(|line| line == start),
            "no {start:?} in\n{unit}"
        );
    }
}

#[test]
fn make_install_says_when_nothing_was_built() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("make")
        .current_dir(root())
        .args(["--no-print-directory", "install", "BINARY=nonexistent"])
        .arg(format!("DESTDIR={}", directory.path().display()))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("make build"), "{stderr}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
