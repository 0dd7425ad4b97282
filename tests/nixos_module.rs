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

mod nix;
mod recorded;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use nkudo::host::LinkName;
use serde_json::Value;

use nix::missing::{LINTERS, Linter, Missing};
use nix::options::{
    every_option_takes_the_example_of_its_key, the_options_are_the_keys_of_the_schema,
};
use nix::{entries, evaluate, evaluate_file, messages, nix_files, nix_instantiate, relative, root};
use recorded::difference;

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

fn sentence(path: &Path) -> String {
    path.file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_")
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

/// The text is what was recorded.
fn assert_recorded(path: &Path, text: &str) {
    if let Some(diff) = difference(path, text) {
        panic!("NKUDO_BLESS=1 accepts this of {}:\n{diff}", relative(path));
    }
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
