//! The image store, and a server that does what servers do.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8PathBuf;
use nkudo::host::{AbsolutePath, Compression, Form, Location, Sha256, StoredFile};
use nkudo::image::{Patience, Store};
use sha2::Digest as _;

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(5),
    // Longer than a server of this process is kept waiting for a CPU.
    stall: Duration::from_secs(20),
    tries: 2,
    pause: Duration::from_millis(1),
};

/// What the server does with one request.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// What it should, parts of the file as well.
    Serve,
    /// As if it knew nothing of parts.
    ServeWhole,
    /// Ends the connection after so many bytes of what it announced.
    Truncate(usize),
    /// Sends so many bytes, and then nothing.
    Stall(usize),
    /// Announces more than there is, and ends.
    LieLonger,
    /// Announces less than it sends.
    LieShorter,
    /// Answers with this status.
    Fail(&'static str),
    /// Sends a part that begins elsewhere.
    OtherPart,
    /// Sends the client to where it is served.
    Redirect,
    /// Accepts, and says nothing.
    Silence,
}

/// A server that goes through its script, a request each, and stays with the last.
struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    /// The `Range` of each request.
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(content: &[u8], script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/image.raw", listener.local_addr().unwrap());
        let server = Self {
            url,
            requests: Arc::default(),
            ranges: Arc::default(),
        };
        let (requests, ranges) = (Arc::clone(&server.requests), Arc::clone(&server.ranges));
        let content = content.to_vec();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let number = requests.fetch_add(1, Ordering::SeqCst);
                let does = script[number.min(script.len() - 1)];
                let (content, ranges) = (content.clone(), Arc::clone(&ranges));
                std::thread::spawn(move || {
                    let start = request(&stream);
                    ranges.lock().unwrap().push(start);
                    // A client that has seen enough closes.
                    let _ = answer(stream, does, &content, start);
                });
            }
        });
        server
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

/// Reads a request; where the part that it asks for begins.
fn request(stream: &TcpStream) -> Option<usize> {
    let mut start = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap_or_default().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().ok();
        }
    }
    start
}

fn answer(
    mut stream: TcpStream,
    does: Does,
    content: &[u8],
    start: Option<usize>,
) -> std::io::Result<()> {
    let total = content.len();
    let from = start.unwrap_or(0);
    let mut head = |status: &str, length: usize, more: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes())
    };
    let part = |begin: usize| format!("Content-Range: bytes {begin}-{}/{total}\r\n", total - 1);
    match does {
        Does::Serve | Does::Truncate(_) | Does::Stall(_) if from >= total => {
            return head("416 Range Not Satisfiable", 0, "");
        }
        Does::Serve | Does::Truncate(_) | Does::Stall(_) if start.is_some() => {
            head("206 Partial Content", total - from, &part(from))?;
        }
        Does::Serve | Does::ServeWhole | Does::Truncate(_) | Does::Stall(_) => {
            head("200 OK", total, "")?;
        }
        Does::LieLonger => head("200 OK", total + 1000, "")?,
        Does::LieShorter => head("200 OK", total - 1000, "")?,
        Does::Fail(status) => return head(status, 0, ""),
        Does::OtherPart => head("206 Partial Content", total, &part(from + 1))?,
        Does::Redirect => return head("302 Found", 0, "Location: /elsewhere.raw\r\n"),
        Does::Silence => std::thread::sleep(Duration::from_secs(30)),
    }
    let rest = match does {
        Does::Serve => &content[from..],
        Does::Truncate(length) | Does::Stall(length) => &content[from..(from + length).min(total)],
        _ => content,
    };
    stream.write_all(rest)?;
    if matches!(does, Does::Stall(_)) {
        stream.flush()?;
        std::thread::sleep(Duration::from_secs(30));
    }
    Ok(())
}

/// A store in a directory of its own.
struct Place {
    _directory: tempfile::TempDir,
    state_dir: AbsolutePath,
    patience: Patience,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        Self {
            _directory: directory,
            state_dir: path.as_str().parse().unwrap(),
            patience: PATIENCE,
        }
    }

    fn store(&self) -> Store {
        Store::with_patience(&self.state_dir, self.patience)
    }

    fn ensure(&self, file: &StoredFile) -> Result<Vec<u8>, String> {
        let store = self.store();
        match store.ensure(file, "test") {
            Ok(()) => Ok(fs::read(store.path(file)).unwrap()),
            Err(err) => Err(format!("{err:#}")),
        }
    }

    /// What is in the store, hidden files as well.
    fn names(&self) -> Vec<String> {
        nkudo::files::names(self.store().directory()).unwrap()
    }
}

fn sum(content: &[u8]) -> Sha256 {
    Sha256::of_bytes(&sha2::Sha256::digest(content).into())
}

fn file(url: &str, content: &[u8]) -> StoredFile {
    StoredFile {
        from: Location::Url(url.parse().unwrap()),
        sha256: sum(content),
        compression: Compression::None,
        form: Form::Raw,
    }
}

/// Bytes that are like no other: 3 MiB of data, a MiB of zeros, and a little more.
fn content() -> Vec<u8> {
    let mut content: Vec<u8> = (0..786_432_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    content.extend(vec![0; 1 << 20]);
    content.extend(b"end");
    content
}

#[test]
fn a_file_is_fetched_once_and_its_zeros_are_holes() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Serve]);
    let file = file(&server.url, &content);
    assert!(place.ensure(&file).unwrap() == content);
    assert!(place.ensure(&file).unwrap() == content);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    assert_eq!(place.names(), [file.name()]);
    let kept = fs::metadata(place.store().path(&file)).unwrap();
    assert_eq!(kept.mode() & 0o777, 0o444);
    assert!(kept.blocks() * 512 < content.len() as u64 - (512 << 10));
}

#[test]
fn a_redirect_is_followed() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Redirect, Does::Serve]);
    assert!(place.ensure(&file(&server.url, &content)).unwrap() == content);
}

#[test]
fn a_fetch_goes_on_after_a_connection_that_ended_too_early() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(
        &content,
        &[
            Does::Truncate(1_000_000),
            Does::Truncate(2_200_000),
            Does::Fail("503 Service Unavailable"),
            Does::Serve,
        ],
    );
    let file = file(&server.url, &content);
    assert!(place.ensure(&file).unwrap() == content);
    let ranges = server.ranges();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    // It is never asked for again what was received.
    assert!(
        ranges[1] > Some(900_000) && ranges[2] > Some(3_000_000),
        "{ranges:?}"
    );
    assert_eq!(ranges[2], ranges[3]);
    assert_eq!(place.names(), [file.name()]);
}

#[test]
fn a_server_that_stalls_is_given_up_and_the_next_fetch_goes_on() {
    let (content, mut place) = (content(), Place::new());
    place.patience.stall = Duration::from_secs(3);
    let stalls = Server::start(&content, &[Does::Stall(1_500_000), Does::Stall(0)]);
    let stalled = place.ensure(&file(&stalls.url, &content)).unwrap_err();
    assert!(
        stalled.contains("the server has sent nothing for"),
        "{stalled}"
    );
    // What there is so far, and nothing else.
    assert_eq!(place.names(), [format!(".{}.partial", sum(&content))]);
    let serves = Server::start(&content, &[Does::Serve]);
    assert!(place.ensure(&file(&serves.url, &content)).unwrap() == content);
    assert_eq!(serves.ranges(), [Some(1_500_000)]);
    assert_eq!(place.names().len(), 1);
}

#[test]
fn a_server_that_knows_no_parts_is_fetched_from_anew() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Truncate(1_000_000), Does::ServeWhole]);
    assert!(place.ensure(&file(&server.url, &content)).unwrap() == content);
}

#[test]
fn what_is_whole_already_needs_only_its_checksum() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Serve]);
    let file = file(&server.url, &content);
    fs::create_dir_all(place.store().directory()).unwrap();
    let partial = format!(".{}.partial", file.sha256);
    fs::write(place.store().directory().join(partial), &content).unwrap();
    assert!(place.ensure(&file).unwrap() == content);
    assert_eq!(server.ranges(), [Some(content.len())]);
}

#[test]
fn a_partial_file_of_something_else_is_fetched_anew() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Serve]);
    let file = file(&server.url, &content);
    fs::create_dir_all(place.store().directory()).unwrap();
    let partial = format!(".{}.partial", file.sha256);
    fs::write(place.store().directory().join(partial), "something else").unwrap();
    assert!(place.ensure(&file).unwrap() == content);
    assert_eq!(server.ranges(), [Some(14), None]);
}

#[test]
fn another_file_is_refused_and_leaves_nothing() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(b"not the image", &[Does::Serve]);
    let wrong = place.ensure(&file(&server.url, &content)).unwrap_err();
    assert!(wrong.contains("is not the file that was meant"), "{wrong}");
    assert!(wrong.contains(sum(&content).as_str()), "{wrong}");
    assert!(wrong.contains(sum(b"not the image").as_str()), "{wrong}");
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn lies_about_the_length_are_found_out() {
    let content = content();
    for (script, told) in [
        (&[Does::LieLonger] as &'static [Does], "too early"),
        (&[Does::LieShorter], "is not the file that was meant"),
        (
            &[Does::Truncate(1000), Does::OtherPart],
            "a part of another file",
        ),
    ] {
        let place = Place::new();
        let server = Server::start(&content, script);
        let refused = place.ensure(&file(&server.url, &content)).unwrap_err();
        assert!(refused.contains(told), "{script:?}: {refused}");
        assert!(place.names().iter().all(|name| name.ends_with(".partial")));
    }
}

#[test]
fn answers_that_do_not_change_are_not_asked_for_again() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Fail("404 Not Found")]);
    let refused = place.ensure(&file(&server.url, &content)).unwrap_err();
    assert!(refused.contains("answers 404 Not Found"), "{refused}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    assert_eq!(place.names(), [""; 0]);
    let server = Server::start(&content, &[Does::Fail("500 Internal Server Error")]);
    place.ensure(&file(&server.url, &content)).unwrap_err();
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn a_server_that_says_nothing_and_one_that_is_not_there_are_said() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Silence]);
    let store = Store::with_patience(
        &place.state_dir,
        Patience {
            answer: Duration::from_millis(200),
            ..PATIENCE
        },
    );
    let err = store
        .ensure(&file(&server.url, &content), "test")
        .unwrap_err();
    assert!(format!("{err:#}").contains("timeout"), "{err:#}");
    let err = place
        .ensure(&file("http://127.0.0.1:9/image.raw", &content))
        .unwrap_err();
    assert!(err.contains("refused"), "{err}");
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn two_at_once_fetch_once() {
    let (content, place) = (content(), Place::new());
    let server = Server::start(&content, &[Does::Serve]);
    let file = file(&server.url, &content);
    std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.store().ensure(&file, "test").unwrap()))
            .collect();
        for one in fetching {
            one.join().unwrap();
        }
    });
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    assert_eq!(place.names(), [file.name()]);
}

#[test]
fn a_compressed_image_is_kept_decompressed() {
    let (content, place) = (content(), Place::new());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&content).unwrap();
    let packed = encoder.finish().unwrap();
    let server = Server::start(&packed, &[Does::Serve]);
    let mut file = file(&server.url, &packed);
    file.compression = Compression::Gz;
    assert!(place.ensure(&file).unwrap() == content);
    assert_eq!(place.names(), [format!("{}-gz.raw", sum(&packed))]);

    // Said to be what it is not: nothing of it stays.
    let other = Place::new();
    file.compression = Compression::None;
    let refused = other.ensure(&file).unwrap_err();
    assert!(
        refused.contains("it is compressed; say `compression = \"gz\"`"),
        "{refused}"
    );
    file.compression = Compression::Xz;
    let refused = other.ensure(&file).unwrap_err();
    assert!(refused.contains("cannot decompress it"), "{refused}");
}

#[test]
fn an_image_of_this_host_is_copied_and_verified() {
    let (content, place) = (content(), Place::new());
    let path = place.state_dir.as_path().join("image.raw.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&content).unwrap();
    let packed = encoder.finish().unwrap();
    fs::write(&path, &packed).unwrap();
    let mut file = StoredFile {
        from: Location::Path(path.as_str().parse().unwrap()),
        sha256: sum(b"another"),
        compression: Compression::Gz,
        form: Form::Raw,
    };
    let refused = place.ensure(&file).unwrap_err();
    assert!(
        refused.contains("is not the file that was meant"),
        "{refused}"
    );
    assert_eq!(place.names(), [""; 0]);
    file.sha256 = sum(&packed);
    assert!(place.ensure(&file).unwrap() == content);
    assert_eq!(place.names(), [file.name()]);
}
