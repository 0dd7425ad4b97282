//! The NixOS module, and every file of Nix's, as far as they can be tried without NixOS.
//!
//! Each directory of `tests/nixos-module/cases/` is a sentence: `configuration.nix`, and what it comes to:
//! `nkudo.toml`, which the built nkudo must find good, and `host.json`, what else of NixOS it sets. Each of
//! `tests/nixos-module/refused/` is a configuration and the messages of its assertions.
//!
//! Evaluating needs nixpkgs' library (its `lib` directory, or what the flake of it evaluates to) in
//! `NIXPKGS_LIB`; `nix develop` sets it. `NKUDO_BLESS=1 cargo test --test nixos_module` writes the expected
//! files anew. What a case needs and does not find, it is ignored for, and the run says why.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]
#![expect(clippy::print_stderr, reason = "the run says what it cannot try")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use nkudo::config::shape;
use nkudo::host::LinkName;
use serde_json::Value;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let missing = Missing::look();
    if !arguments.list {
        missing.say();
    }
    let mut trials = Vec::new();
    let mut add = |name: String, why: Option<&str>, run: Box<dyn FnOnce() + Send>| {
        let trial = Trial::test(name, move || {
            run();
            Ok::<(), Failed>(())
        });
        trials.push(trial.with_ignored_flag(why.is_some()));
    };
    for file in nix_files() {
        let name = relative(&file);
        add(
            format!("{name}_parses"),
            missing.nix(),
            Box::new(move || parses(&file)),
        );
    }
    for linter in LINTERS {
        add(
            format!("every_file_is_clean_by_{}", linter.name),
            missing.linter(linter.name),
            Box::new(move || lints(linter)),
        );
    }
    for case in directories("cases") {
        let name = sentence(&case);
        let checked = case.clone();
        add(
            format!("nkudo_finds_the_toml_of_{name}_good"),
            None,
            Box::new(move || is_good(&checked)),
        );
        add(
            format!("the_case_{name}_is_as_recorded"),
            missing.library(),
            Box::new(move || is_as_recorded(&case)),
        );
    }
    for case in files("refused", "nix") {
        add(
            format!("{}_is_refused", sentence(&case)),
            missing.library(),
            Box::new(move || is_refused(&case)),
        );
    }
    add(
        "the_options_are_the_keys_of_the_schema".to_owned(),
        missing.library(),
        Box::new(the_options_are_the_keys_of_the_schema),
    );
    add(
        "every_option_takes_the_example_of_its_key".to_owned(),
        missing.library(),
        Box::new(every_option_takes_the_example_of_its_key),
    );
    add(
        "bridges_have_the_names_that_nkudo_gives_them".to_owned(),
        missing.library(),
        Box::new(bridges_have_the_names_that_nkudo_gives_them),
    );
    add(
        "a_change_of_a_guest_is_one_of_nkudos_file_alone".to_owned(),
        missing.library(),
        Box::new(a_change_of_a_guest_is_one_of_nkudos_file_alone),
    );
    add(
        "the_vm_tests_ask_for_what_can_be".to_owned(),
        missing.library(),
        Box::new(the_vm_tests_ask_for_what_can_be),
    );
    add(
        "the_vm_tests_scripts_are_python".to_owned(),
        missing.library().or(missing.python()),
        Box::new(the_vm_tests_scripts_are_python),
    );
    add(
        "the_examples_of_the_docs_are_good".to_owned(),
        missing.library(),
        Box::new(the_examples_of_the_docs_are_good),
    );
    add(
        "the_example_is_good".to_owned(),
        missing.library(),
        Box::new(|| evaluates_well(&root().join("examples/nixos/configuration.nix"))),
    );
    add(
        "the_flake_has_these_outputs".to_owned(),
        missing.library(),
        Box::new(the_flake_has_these_outputs),
    );
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A program that finds fault with Nix.
#[derive(Clone, Copy)]
struct Linter {
    name: &'static str,
    /// What it answers where it is the right program: an unrelated `statix` is in the registry of crates.
    probe: &'static [&'static str],
    /// How it is asked about the whole checkout.
    arguments: &'static [&'static str],
}

const LINTERS: [Linter; 3] = [
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
struct Missing {
    nix: Option<String>,
    library: Option<String>,
    linters: Vec<(&'static str, String)>,
    python: Option<String>,
}

impl Missing {
    fn look() -> Self {
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

    fn nix(&self) -> Option<&str> {
        self.nix.as_deref()
    }

    fn library(&self) -> Option<&str> {
        self.library.as_deref()
    }

    fn linter(&self, program: &str) -> Option<&str> {
        let found = self.linters.iter().find(|(one, _)| *one == program);
        found.map(|(_, why)| why.as_str())
    }

    fn python(&self) -> Option<&str> {
        self.python.as_deref()
    }

    fn say(&self) {
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with nixpkgs' library's default.nix.
fn library() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("NIXPKGS_LIB")?);
    let below = path.join("lib");
    Some(if below.join("default.nix").is_file() {
        below
    } else {
        path
    })
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn sentence(path: &Path) -> String {
    path.file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn directories(below: &str) -> Vec<PathBuf> {
    let mut found = entries(&root().join("tests/nixos-module").join(below));
    found.retain(|path| path.is_dir());
    assert!(!found.is_empty());
    found
}

fn files(below: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = entries(&root().join("tests/nixos-module").join(below));
    found.retain(|path| path.extension().is_some_and(|one| one == extension));
    assert!(!found.is_empty());
    found
}

/// Every file of Nix's in the checkout.
fn nix_files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for path in entries(directory) {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            } else if path.extension().is_some_and(|one| one == "nix") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("flake.nix"), root().join("default.nix")];
    for directory in ["nixos-module", "examples", "tests"] {
        walk(&root().join(directory), &mut found);
    }
    found
}

/// nix-instantiate, without a store: nothing is built here, and nobody need be able to write one.
fn nix_instantiate(arguments: &[&OsStr]) -> Output {
    let mut command = Command::new("nix-instantiate");
    command
        .args(["--store", "dummy://", "--readonly-mode"])
        .args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

fn parses(file: &Path) {
    let output = nix_instantiate(&["--parse".as_ref(), file.as_ref()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn lints(linter: Linter) {
    let mut command = Command::new(linter.name);
    command.args(linter.arguments).current_dir(root());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn evaluate(configuration: &Path) -> Value {
    evaluate_file(
        "evaluate.nix",
        &[
            "--arg".as_ref(),
            "configuration".as_ref(),
            configuration.as_ref(),
        ],
    )
}

/// A function of nixpkgs' library, in tests/nixos-module.
fn evaluate_file(name: &str, more: &[&OsStr]) -> Value {
    let file = root().join("tests/nixos-module").join(name);
    let library = library().unwrap().canonicalize().unwrap();
    let mut arguments: Vec<&OsStr> = ["--eval", "--strict", "--json", "--show-trace"]
        .iter()
        .map(OsStr::new)
        .collect();
    arguments.extend([
        file.as_ref(),
        OsStr::new("--arg"),
        OsStr::new("nixpkgsLib"),
        library.as_ref(),
    ]);
    arguments.extend(more);
    let output = nix_instantiate(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The text is what was recorded.
fn assert_recorded(path: &Path, text: &str) {
    if std::env::var_os("NKUDO_BLESS").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let recorded = fs::read_to_string(path).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(recorded.as_str(), text);
    assert!(
        recorded == text,
        "NKUDO_BLESS=1 accepts this of {}:\n{}",
        relative(path),
        diff.unified_diff()
    );
}

fn messages(evaluated: &Value) -> String {
    let refused = evaluated["refused"].as_array().unwrap();
    let mut messages = String::new();
    for message in refused {
        messages.push_str(message.as_str().unwrap().trim());
        messages.push('\n');
    }
    messages
}

fn is_as_recorded(case: &Path) {
    let evaluated = evaluate(&case.join("configuration.nix"));
    assert_eq!(messages(&evaluated), "");
    let toml = toml::to_string_pretty(&evaluated["settings"]).unwrap();
    assert_recorded(&case.join("nkudo.toml"), &toml);
    let host = serde_json::to_string_pretty(&evaluated["host"]).unwrap();
    assert_recorded(&case.join("host.json"), &format!("{host}\n"));
    for (id, guest) in evaluated["guests"].as_object().unwrap() {
        let guest = serde_json::to_string_pretty(guest).unwrap();
        assert_recorded(
            &case.join(format!("guest-{id}.json")),
            &format!("{guest}\n"),
        );
    }
}

fn is_good(case: &Path) {
    let toml = fs::read_to_string(case.join("nkudo.toml"));
    nkudo_finds_good(&toml.unwrap_or_else(|err| panic!("{}: {err}", case.display())));
}

fn nkudo_finds_good(toml: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nkudo"));
    command.args(["check", "--elsewhere", "-"]);
    let (success, said) = fed(&mut command, toml);
    assert!(success, "{said}");
}

/// Runs a program with this on its standard input.
fn fed(command: &mut Command, input: &str) -> (bool, String) {
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

fn the_flake_has_these_outputs() {
    let outputs = serde_json::to_string_pretty(&evaluate_file("outputs.nix", &[])).unwrap();
    let outputs = outputs.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let recorded = root().join("tests/nixos-module/outputs.json");
    assert_recorded(&recorded, &format!("{outputs}\n"));
}

/// Everything in docs/nixos.md between lines of three backticks, as far as it is nkudo's.
fn the_examples_of_the_docs_are_good() {
    let text = fs::read_to_string(root().join("docs/nixos.md")).unwrap();
    let blocks = text.split("```nix\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let mut count = 0;
    for block in blocks.filter(|block| block.contains("virtualisation.nkudo")) {
        let file = tempfile::Builder::new().suffix(".nix").tempfile().unwrap();
        fs::write(&file, block).unwrap();
        evaluates_well(file.path());
        count += 1;
    }
    assert!(count > 2);
}

fn evaluates_well(module: &Path) {
    let file = tempfile::Builder::new().suffix(".nix").tempfile().unwrap();
    let imports = format!(
        "{{ imports = [ {} ]; virtualisation.nkudo.enable = true; }}",
        module.display()
    );
    fs::write(&file, imports).unwrap();
    let evaluated = evaluate(file.path());
    assert_eq!(messages(&evaluated), "");
    nkudo_finds_good(&toml::to_string_pretty(&evaluated["settings"]).unwrap());
}

fn the_vm_tests_ask_for_what_can_be() {
    let tests = evaluate_file("vm-tests.nix", &[]);
    for (name, test) in tests.as_object().unwrap() {
        let specialisations = test["specialisations"].as_object().unwrap();
        assert!(!specialisations.is_empty(), "{name}");
        for asked in specialisations.values().chain([&test["machine"]]) {
            assert_eq!(messages(asked), "", "{name}");
            nkudo_finds_good(&toml::to_string_pretty(&asked["settings"]).unwrap());
        }
    }
}

fn the_vm_tests_scripts_are_python() {
    let tests = evaluate_file("vm-tests.nix", &[]);
    for (name, test) in tests.as_object().unwrap() {
        let mut python = Command::new("python3");
        python.args(["-c", "import ast, sys; ast.parse(sys.stdin.read())"]);
        let (success, said) = fed(&mut python, test["testScript"].as_str().unwrap());
        assert!(success, "{name}: {said}");
    }
}

fn is_refused(case: &Path) {
    let messages = messages(&evaluate(case));
    assert!(!messages.is_empty(), "nothing is refused");
    assert_recorded(&case.with_extension("txt"), &messages);
}

fn bridges_have_the_names_that_nkudo_gives_them() {
    let case = root().join("tests/nixos-module/cases/the-firewall-is-opened");
    let evaluated = evaluate(&case.join("configuration.nix"));
    let rules = evaluated["host"]["firewall"]["extraForwardRules"].as_str();
    let networks = evaluated["settings"]["network"].as_object().unwrap();
    for (network, _) in networks
        .iter()
        .filter(|(_, keys)| keys["dhcp"] != Value::Null)
    {
        let bridge = LinkName::bridge(&network.parse().unwrap());
        assert!(
            rules.unwrap().contains(&format!("\"{bridge}\"")),
            "{bridge}"
        );
    }
}

/// Of the host's system nothing is built anew, of the other VMs nothing either.
fn a_change_of_a_guest_is_one_of_nkudos_file_alone() {
    let evaluated = |case: &str| {
        let case = root().join("tests/nixos-module/cases").join(case);
        let mut evaluated = evaluate(&case.join("configuration.nix"));
        let web = evaluated["settings"]["vm"]["web"].take();
        evaluated["guests"]["web"].take();
        let file = evaluated["host"]["etc"]["nkudo/nkudo.toml"].take();
        let triggers = &mut evaluated["host"]["services"]["nkudo-switch"]["restartTriggers"];
        assert_eq!(triggers[0].take(), file);
        (evaluated, web, file)
    };
    let (before, web_before, file_before) = evaluated("a-nixos-guest");
    let (after, web_after, file_after) = evaluated("a-nixos-guest-that-changed");
    assert_eq!(before, after);
    assert_ne!(file_before, file_after);
    for key in ["cmdline", "disk"] {
        assert_ne!(web_before[key], web_after[key], "{key}");
    }
    assert_eq!(web_before["kernel"], web_after["kernel"]);
}

/// The options of the module that are no keys of nkudo.toml.
const OWN: [&str; 13] = [
    "configFile",
    "enable",
    "images",
    "networks",
    "openFirewall",
    "package",
    "settings",
    "vms",
    "vms.<name>.nixos",
    "vms.<name>.specialArgs",
    "vms.<name>.state",
    "vms.<name>.state.filesystem",
    "vms.<name>.state.size",
];

fn the_options_are_the_keys_of_the_schema() {
    let case = root().join("tests/nixos-module/cases/the-smallest-host/configuration.nix");
    let evaluated = evaluate(&case);
    let options = evaluated["options"].as_array().unwrap();
    let undocumented: Vec<&Value> = options
        .iter()
        .filter(|option| option["documented"] != true)
        .collect();
    assert!(undocumented.is_empty(), "without words: {undocumented:?}");
    let names: BTreeSet<&str> = options
        .iter()
        .map(|option| option["name"].as_str().unwrap())
        .map(|name| name.strip_prefix("virtualisation.nkudo.").unwrap())
        .filter(|name| !OWN.contains(name))
        .collect();
    let schema = shape::schema();
    let mut keys = BTreeSet::new();
    for (section, option) in SECTIONS {
        let table = &schema["properties"][section]["additionalProperties"];
        keys_of(&schema, table, &format!("{option}.<name>"), &mut keys);
    }
    assert_eq!(names, keys.iter().map(String::as_str).collect());
    // A key of that name would go unseen.
    let clash: Vec<&&str> = OWN.iter().filter(|name| keys.contains(**name)).collect();
    assert!(clash.is_empty(), "{clash:?}");
}

/// And what is written is what was set.
fn every_option_takes_the_example_of_its_key() {
    let schema = shape::schema();
    let mut options = serde_json::Map::new();
    for (section, option) in SECTIONS {
        let table = &schema["properties"][section]["additionalProperties"];
        let mut named = serde_json::Map::new();
        named.insert("one".to_owned(), example(&schema, table));
        options.insert(option.to_owned(), named.into());
    }
    let file = tempfile::Builder::new().suffix(".nix").tempfile().unwrap();
    let json = Value::from(options.clone()).to_string();
    let configuration = format!(
        "{{ virtualisation.nkudo = {{ enable = true; }} // builtins.fromJSON {}; }}",
        nix_string(&json)
    );
    fs::write(&file, configuration).unwrap();
    let evaluated = evaluate(file.path());
    for (section, option) in SECTIONS {
        assert_eq!(
            evaluated["settings"][section], options[option],
            "[{section}.<name>]"
        );
    }
}

const SECTIONS: [(&str, &str); 3] = [("vm", "vms"), ("network", "networks"), ("image", "images")];

/// A table with every key that has an example, and every table below it.
fn example(schema: &Value, table: &Value) -> Value {
    let table = resolved(schema, table);
    let mut example = serde_json::Map::new();
    for (key, property) in table["properties"].as_object().unwrap() {
        let below = resolved(schema, property);
        let items = resolved(schema, &below["items"]);
        if items["properties"].is_object() {
            let one = self::example(schema, items);
            example.insert(key.clone(), Value::Array(vec![one]));
        } else if below["properties"].is_object() {
            example.insert(key.clone(), self::example(schema, below));
        } else {
            let value = property["examples"][0].clone();
            assert!(!value.is_null(), "`{key}` has no example");
            example.insert(key.clone(), value);
        }
    }
    example.into()
}

fn nix_string(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace("${", "\\${"))
}

/// The keys of a table and of those below it, as NixOS names options.
fn keys_of(schema: &Value, table: &Value, prefix: &str, keys: &mut BTreeSet<String>) {
    let table = resolved(schema, table);
    let Some(properties) = table["properties"].as_object() else {
        return;
    };
    for (key, property) in properties {
        let name = format!("{prefix}.{key}");
        keys.insert(name.clone());
        let property = resolved(schema, property);
        if property["type"] == "array" {
            keys_of(schema, &property["items"], &format!("{name}.*"), keys);
        } else {
            keys_of(schema, property, &name, keys);
        }
    }
}

fn resolved<'s>(schema: &'s Value, value: &'s Value) -> &'s Value {
    if let Some(to) = value["$ref"].as_str() {
        return resolved(schema, schema.pointer(to.trim_start_matches('#')).unwrap());
    }
    match value["allOf"].as_array().map(Vec::as_slice) {
        Some([only]) => resolved(schema, only),
        _ => value,
    }
}
