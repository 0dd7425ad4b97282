//! What people see in a terminal, and what a pipe gets.

use super::guest::Then;
use super::host::{Host, vm};
use super::machine::Networkd;

cases![
    tables_fit_the_terminal,
    a_terminal_that_has_no_size_is_taken_for_one_of_80_columns,
    without_a_terminal_there_is_neither_colour_nor_folding,
];

/// Runs a command on a terminal of its own. A new one has no size, as a serial console has none.
const PTY: &str = "
import fcntl, os, pty, struct, sys, termios
columns, argv = int(sys.argv[1]), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    if columns:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    os.execvp(argv[0], argv)
while True:
    try:
        some = os.read(fd, 4096)
    except OSError:
        break
    if not some:
        break
    os.write(1, some)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn host() -> Host {
    let host = Host::boot(Networkd::Off);
    host.machine.write("/srv/on-terminal.py", PTY, 0o644);
    let id = "a-vm-with-a-long-name-for-a-table";
    host.guest(id, Then::PowerOffWhenAsked);
    host.switch_to(&format!("[network.lan]\n{}", vm(id, "")))
        .done();
    host
}

fn on_terminal(host: &Host, columns: u16, arguments: &[&str]) -> String {
    let columns = columns.to_string();
    let mut argv = vec!["python3", "/srv/on-terminal.py", &columns, "nkudo"];
    argv.extend(arguments);
    host.machine.ok(&argv).replace('\r', "")
}

fn longest(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

fn tables_fit_the_terminal() {
    let host = host();
    for arguments in [
        ["status"].as_slice(),
        &["status", "--network"],
        &["generations"],
        &["image", "list"],
        &["disk", "list"],
    ] {
        for columns in [80, 60] {
            let text = on_terminal(&host, columns, arguments);
            assert!(
                longest(&text) <= usize::from(columns),
                "{arguments:?} at {columns} columns:\n{text}"
            );
        }
    }
}

fn a_terminal_that_has_no_size_is_taken_for_one_of_80_columns() {
    let host = host();
    let sizeless = on_terminal(&host, 0, &["status", "--network"]);
    assert!(sizeless.contains("ETHERNET"), "{sizeless}");
    let at_80 = on_terminal(&host, 80, &["status", "--network"]);
    assert_eq!(sizeless, at_80);
}

fn without_a_terminal_there_is_neither_colour_nor_folding() {
    let host = host();
    for arguments in [
        ["status"].as_slice(),
        &["status", "--network"],
        &["generations"],
    ] {
        let piped = host.nkudo(arguments).done().stdout;
        assert!(!piped.contains('\u{1b}'), "{piped:?}");
        assert!(
            piped.contains("a-vm-with-a-long-name-for-a-table"),
            "{piped}"
        );
    }
    let wanted = ["env", "NO_COLOR=1", "nkudo", "doctor"];
    let argv = [["python3", "/srv/on-terminal.py", "80"].as_slice(), &wanted].concat();
    let output = host.machine.run(&argv);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ok"), "{text}");
    assert!(!text.contains('\u{1b}'), "NO_COLOR is set: {text:?}");
}
