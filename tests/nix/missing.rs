//! What the cases need that is not here.

use std::process::{Command, Stdio};

use super::library;

/// A program that finds fault with Nix.
#[derive(Clone, Copy)]
pub(crate) struct Linter {
    pub(crate) name: &'static str,
    /// What it answers where it is the right program: an unrelated `statix` is in the registry of crates.
    probe: &'static [&'static str],
    /// How it is asked about the whole checkout.
    pub(crate) arguments: &'static [&'static str],
}

pub(crate) const LINTERS: [Linter; 3] = [
    Linter {
        name: "deadnix",
        probe: &["--version"],
        arguments: &["--fail", "--exclude", "target", "--", "."],
    },
    Linter {
        name: "nixpkgs-fmt",
        probe: &[],
        arguments: &[
            "--check",
            "flake.nix",
            "default.nix",
            "nixos-module",
            "examples",
            "tests",
        ],
    },
    Linter {
        name: "statix",
        probe: &["check", "--help"],
        arguments: &["check", "--ignore", "target", "--", "."],
    },
];

/// What the cases need and is not here, by what is said of it.
pub(crate) struct Missing {
    nix: Option<String>,
    library: Option<String>,
    linters: Vec<(&'static str, String)>,
    python: Option<String>,
}

impl Missing {
    pub(crate) fn look() -> Self {
        let nix = (!answers("nix-instantiate", &["--version"]))
            .then(|| "there is no nix-instantiate in PATH".to_owned());
        let library = nix.clone().or_else(|| match library() {
            None => Some("NIXPKGS_LIB does not name nixpkgs' library".to_owned()),
            Some(path) => (!path.join("default.nix").is_file())
                .then(|| format!("NIXPKGS_LIB is {}, without a default.nix", path.display())),
        });
        let linters = LINTERS
            .into_iter()
            .filter(|linter| !answers(linter.name, linter.probe))
            .map(|linter| (linter.name, format!("there is no {} in PATH", linter.name)))
            .collect();
        let python =
            (!answers("python3", &["--version"])).then(|| "there is no python3 in PATH".to_owned());
        Self {
            nix,
            library,
            linters,
            python,
        }
    }

    pub(crate) fn nix(&self) -> Option<&str> {
        self.nix.as_deref()
    }

    pub(crate) fn library(&self) -> Option<&str> {
        self.library.as_deref()
    }

    pub(crate) fn linter(&self, program: &str) -> Option<&str> {
        let found = self.linters.iter().find(|(one, _)| *one == program);
        found.map(|(_, why)| why.as_str())
    }

    pub(crate) fn python(&self) -> Option<&str> {
        self.python.as_deref()
    }

    pub(crate) fn say(&self) {
        if let Some(why) = self.nix() {
            eprintln!("nixos: no file of Nix's is parsed: {why}");
        }
        if let Some(why) = self.library() {
            eprintln!("nixos: the module is not evaluated: {why}");
        }
        if let Some(why) = self.python() {
            eprintln!("nixos: the VM tests' scripts are not looked at: {why}");
        }
        for (_, why) in &self.linters {
            eprintln!("nixos: one linter is left out: {why}");
        }
    }
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
