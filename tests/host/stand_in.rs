//! The stand-in VMM: what the host tests run where there is no cloud-hypervisor.
//!
//! The test binary itself, under the name `cloud-hypervisor`. It takes cloud-hypervisor's command
//! line and refuses what that refuses, opens the files and the TAPs, serves the API on the socket,
//! and carries out the few instructions that `guest` assembles.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, RawFd};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::guest::{AWAIT_AGAIN, AWAIT_INTERRUPT};

/// The name under which the test binary is the stand-in.
pub(crate) const NAME: &str = "cloud-hypervisor";

/// The options of cloud-hypervisor that nkudo writes, and whether they take several values.
const OPTIONS: [(&str, Values); 15] = [
    ("--api-socket", Values::One),
    ("--log-file", Values::One),
    ("--cpus", Values::One),
    ("--memory", Values::One),
    ("--balloon", Values::One),
    ("--kernel", Values::One),
    ("--initramfs", Values::One),
    ("--cmdline", Values::One),
    ("--firmware", Values::One),
    ("--disk", Values::Several),
    ("--net", Values::Several),
    ("--vsock", Values::One),
    ("--serial", Values::One),
    ("--console", Values::One),
    ("-v", Values::None),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    One,
    Several,
}

/// Runs the stand-in; returns its exit code.
pub(crate) fn main() -> u8 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        let _ = writeln!(io::stdout(), "cloud-hypervisor v53.0 (stand-in)");
        return 0;
    }
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(why) => {
            let _ = writeln!(io::stderr(), "error: {why}");
            return 2;
        }
    };
    let run = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(run(&options)));
    match run {
        Ok(()) => 0,
        Err(why) => {
            let _ = writeln!(
                io::stderr(),
                "Error: Cloud Hypervisor exited with the following chain of errors:\n  0: {why}"
            );
            1
        }
    }
}

type Options = BTreeMap<String, Vec<String>>;

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::new();
    let mut arguments = arguments.iter().peekable();
    while let Some(name) = arguments.next() {
        let Some((_, values)) = OPTIONS.iter().find(|(known, _)| known == name) else {
            return Err(format!("unexpected argument '{name}' found"));
        };
        let mut taken = Vec::new();
        while let Some(value) = arguments.next_if(|next| !next.starts_with("--")) {
            taken.push(value.clone());
        }
        let right = match values {
            Values::None => taken.is_empty(),
            Values::One => taken.len() == 1,
            Values::Several => !taken.is_empty(),
        };
        if !right {
            return Err(format!("wrong number of values for '{name}'"));
        }
        if options.insert(name.clone(), taken).is_some() {
            return Err(format!(
                "the argument '{name}' cannot be used multiple times"
            ));
        }
    }
    Ok(options)
}

/// `key=value,…`, with values in double quotes where they hold a comma.
fn keys(text: &str) -> BTreeMap<String, String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    parts
        .iter()
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What the VMM holds open.
struct Devices {
    _files: Vec<File>,
}

async fn run(options: &Options) -> io::Result<()> {
    let one = |name: &str| options.get(name).and_then(|values| values.first());
    let mut log = match one("--log-file") {
        Some(path) => Some(File::create(path)?),
        None => None,
    };
    let socket = one("--api-socket").map(|text| keys(text)["path"].clone());
    let socket = socket.ok_or_else(|| invalid("no API socket".to_owned()))?;
    // As the real one: a stale socket is replaced.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    let (ask, mut asked) = mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, ask.clone()));
        }
    });
    let _devices = devices(options)?;
    let kernel = one("--kernel").or(one("--firmware"));
    let kernel = kernel.ok_or_else(|| invalid("no payload".to_owned()))?;
    let image = fs::read(kernel)
        .map_err(|err| io::Error::new(err.kind(), format!("Cannot open kernel file: {err}")))?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        match carry_out(&image) {
            Ended::PoweredOff => break,
            // A boot takes a moment.
            Ended::Reset => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Ended::Failed => {
                if let Some(log) = &mut log {
                    writeln!(log, "ERROR: VCPU generated error: InternalError")?;
                }
                break;
            }
            Ended::Waits(until) => {
                tokio::select! {
                    _ = terminate.recv() => break,
                    () = pressed(&mut asked, until) => break,
                }
            }
        }
    }
    server.abort();
    let _ = fs::remove_file(&socket);
    Ok(())
}

/// What came over the API.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    PowerButton,
    Shutdown,
}

/// Waits until the guest reacts, or the VMM is told to end.
async fn pressed(asked: &mut mpsc::UnboundedReceiver<Ask>, until: Until) {
    loop {
        match asked.recv().await {
            Some(Ask::Shutdown) => return,
            Some(Ask::PowerButton) if until == Until::PowerButton => return,
            Some(Ask::PowerButton) => {}
            None => std::future::pending().await,
        }
    }
}

async fn serve(mut stream: UnixStream, ask: mpsc::UnboundedSender<Ask>) {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let line = text.lines().next().unwrap_or("");
    let (status, body) = match line.trim_end_matches(" HTTP/1.1") {
        "GET /api/v1/vmm.ping" => ("200 OK", r#"{"version":"v53.0"}"#),
        "GET /api/v1/vm.info" => ("200 OK", r#"{"config":{},"state":"Running"}"#),
        "PUT /api/v1/vm.power-button" => {
            let _ = ask.send(Ask::PowerButton);
            ("204 No Content", "")
        }
        "PUT /api/v1/vmm.shutdown" | "PUT /api/v1/vm.shutdown" => {
            let _ = ask.send(Ask::Shutdown);
            ("204 No Content", "")
        }
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn devices(options: &Options) -> io::Result<Devices> {
    let mut files = Vec::new();
    let several = |name: &str| options.get(name).cloned().unwrap_or_default();
    for disk in several("--disk") {
        let disk = keys(&disk);
        let path = disk
            .get("path")
            .ok_or_else(|| invalid("no path".to_owned()))?;
        if !matches!(
            disk.get("image_type").map(String::as_str),
            Some("raw" | "qcow2")
        ) {
            return Err(invalid(format!("{path}: no image type")));
        }
        let write = disk.get("readonly").map(String::as_str) != Some("on");
        let file = File::options().read(true).write(write).open(path);
        files.push(file.map_err(|err| io::Error::new(err.kind(), format!("{path}: {err}")))?);
    }
    for net in several("--net") {
        let net = keys(&net);
        let fd: RawFd = net
            .get("fd")
            .and_then(|fd| fd.parse().ok())
            .ok_or_else(|| invalid("no fd".to_owned()))?;
        if !net.contains_key("mac") {
            return Err(invalid(format!("fd {fd}: no mac")));
        }
        is_a_tap(fd)?;
    }
    if let Some(initramfs) = several("--initramfs").first() {
        files.push(File::open(initramfs)?);
    }
    // With KVM where there is any, as the sandbox has to let it.
    if let Ok(kvm) = File::options().read(true).write(true).open("/dev/kvm") {
        files.push(kvm);
    }
    Ok(Devices { _files: files })
}

/// Whether a descriptor that systemd passed is a TAP with the flags that cloud-hypervisor needs.
#[expect(
    unsafe_code,
    reason = "TUNGETIFF is an ioctl on a descriptor from the unit"
)]
fn is_a_tap(fd: RawFd) -> io::Result<()> {
    use rustix::ioctl::{Getter, ioctl, opcode};
    const TUNGETIFF: rustix::ioctl::Opcode = opcode::read::<std::ffi::c_uint>(b'T', 210);
    const TAP_AND_VNET_HDR: u16 = 0x4002;
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    // SAFETY: systemd passed it, and nothing here closes it; TUNGETIFF fills a struct ifreq.
    let request = unsafe {
        let fd = BorrowedFd::borrow_raw(fd);
        ioctl(fd, Getter::<TUNGETIFF, InterfaceRequest>::new())
    };
    let flags = request
        .map_err(|err| invalid(format!("fd {fd} is no TAP: {err}")))?
        .flags;
    if flags & TAP_AND_VNET_HDR == TAP_AND_VNET_HDR {
        Ok(())
    } else {
        Err(invalid(format!("fd {fd} is a TAP with flags {flags:#x}")))
    }
}

enum Ended {
    PoweredOff,
    Reset,
    Failed,
    Waits(Until),
}

/// What the guest waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    PowerButton,
    Nothing,
}

/// Carries out a guest's instructions, as far as `guest` assembles them.
fn carry_out(image: &[u8]) -> Ended {
    let mut serial = io::stdout().lock();
    let mut code = image.get(0x200..).unwrap_or(&[]);
    loop {
        if let [0x66, 0xba, low, high, 0xb0, byte, 0xee, rest @ ..] = code {
            match (u16::from_le_bytes([*low, *high]), byte) {
                (0x3f8, byte) => {
                    if serial.write_all(&[*byte]).is_err() {
                        return Ended::Failed;
                    }
                    let _ = serial.flush();
                }
                (0x600, 0x34) => return Ended::PoweredOff,
                (0x64, 0xfe) => return Ended::Reset,
                _ => return Ended::Failed,
            }
            code = rest;
        } else if code.starts_with(&AWAIT_INTERRUPT)
            && code[AWAIT_INTERRUPT.len()..].starts_with(&AWAIT_AGAIN)
        {
            return Ended::Waits(Until::PowerButton);
        } else if code.starts_with(&[0xf4]) {
            return Ended::Waits(Until::Nothing);
        } else {
            return Ended::Failed;
        }
    }
}
