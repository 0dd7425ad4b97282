//! Images over HTTPS and through proxies, got by the built binary: certificates and proxies are the environment's.
#![expect(
    clippy::unwrap_used,
    reason = "a case that is wrong fails by panicking"
)]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use camino::Utf8PathBuf;
use nkudo::host::Sha256;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::Digest as _;

/// An authority that issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// When a certificate is valid.
#[derive(Clone, Copy)]
enum Valid {
    Now,
    UntilLastYear,
    FromNextCentury,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn server(&self, name: &str, valid: Valid) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = match valid {
            Valid::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Valid::UntilLastYear => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Valid::FromNextCentury => (date_time_ymd(2100, 1, 1), date_time_ymd(2101, 1, 1)),
        };
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// What a server answers.
#[derive(Clone)]
enum Answers {
    Image,
    Redirect(String),
}

const IMAGE: &[u8] = &[7; 4096];

/// A server on a port of its own.
fn serve(tls: Option<Arc<ServerConfig>>, answers: Answers) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, tls, answers) = (stream.unwrap(), tls.clone(), answers.clone());
            std::thread::spawn(move || {
                // Clients that refuse a certificate go.
                let _ = match tls {
                    Some(tls) => {
                        let tls = ServerConnection::new(tls).unwrap();
                        answer(&mut StreamOwned::new(tls, stream), &answers)
                    }
                    None => answer(&mut { stream }, &answers),
                };
            });
        }
    });
    port
}

fn answer(stream: &mut (impl Read + Write), answers: &Answers) -> io::Result<()> {
    head_of(&mut BufReader::new(&mut *stream))?;
    let (status, more, body) = match answers {
        Answers::Image => ("200 OK", String::new(), IMAGE),
        Answers::Redirect(to) => ("302 Found", format!("Location: {to}\r\n"), &[] as &[u8]),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}

/// The lines of a request.
fn head_of(reader: &mut impl io::BufRead) -> io::Result<Vec<String>> {
    let lines = reader
        .lines()
        .take_while(|line| !matches!(line, Ok(line) if line.is_empty()));
    lines.collect()
}

/// A proxy that knows CONNECT, and brings every host name to this machine.
struct Proxy {
    port: u16,
    /// The lines of each request.
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Proxy {
    /// `credentials` is what it wants, as base64 has it.
    fn start(credentials: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log) = (stream.unwrap(), Arc::clone(&log));
                std::thread::spawn(move || pass_on(stream, credentials, &log).unwrap());
            }
        });
        Self { port, asked }
    }

    /// The hosts that it was asked for.
    fn targets(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let targets = asked.iter().map(|lines| lines[0].clone());
        targets.collect()
    }
}

fn pass_on(
    mut client: TcpStream,
    credentials: Option<&str>,
    log: &Mutex<Vec<Vec<String>>>,
) -> io::Result<()> {
    // One byte at a time: what follows the head is the server's.
    let lines = head_of(&mut BufReader::with_capacity(1, &mut client))?;
    let wants = credentials.map(|one| format!("Proxy-Authorization: Basic {one}"));
    let may = wants.is_none_or(|wanted| lines.contains(&wanted));
    let target = lines[0].clone();
    log.lock().unwrap().push(lines);
    let port = target
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split([' ']).next()?.rsplit(':').next());
    let server = match port {
        Some(port) if may => TcpStream::connect(format!("127.0.0.1:{port}"))?,
        Some(_) => return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        None => return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || io::copy(&mut from, &mut to));
    let (mut from, mut to) = (server, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
    Ok(())
}

/// Gets the image from there, trusting one authority; what was said.
fn pull(url: &str, trusted: &Authority, environment: &[(&str, &str)]) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    let sha256 = Sha256::of_bytes(&sha2::Sha256::digest(IMAGE).into());
    let config = format!(
        "[host]\nstate-dir = \"{path}\"\n[image.base]\nformat = \"raw\"\nsource = \"{url}\"\nsha256 = \"{sha256}\"\n"
    );
    fs::write(path.join("nkudo.toml"), config).unwrap();
    fs::write(path.join("ca.pem"), trusted.0.pem()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nkudo"));
    command
        .args(["image", "pull", "--all"])
        .arg(path.join("nkudo.toml"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SSL_CERT_FILE", path.join("ca.pem"))
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !said.contains("secret") && !said.contains("panicked"),
        "{said}"
    );
    let kept = path.join("images").join(format!("{sha256}.raw"));
    assert_eq!(output.status.success(), kept.exists(), "{said}");
    if output.status.success() {
        assert_eq!(fs::read(kept).unwrap(), IMAGE);
        Ok(())
    } else {
        Err(said)
    }
}

#[track_caller]
fn is_refused(pulled: Result<(), String>, told: &str) {
    let said = pulled.unwrap_err();
    assert!(said.contains(told), "{said}");
}

#[test]
fn a_server_that_a_trusted_authority_vouches_for_is_fetched_from() {
    let authority = Authority::new("trusted");
    let port = serve(
        Some(authority.server("localhost", Valid::Now)),
        Answers::Image,
    );
    let url = format!("https://localhost:{port}/base");
    pull(&url, &authority, &[]).unwrap();
    is_refused(
        pull(&url, &Authority::new("another"), &[]),
        "the certificate of localhost is not taken: it was issued by an authority that this host does not trust",
    );
}

#[test]
fn certificates_for_another_name_or_another_time_are_refused() {
    let authority = Authority::new("trusted");
    for (name, valid, told) in [
        (
            "other.example",
            Valid::Now,
            "it is not for localhost, but for other.example",
        ),
        ("localhost", Valid::UntilLastYear, "it has expired"),
        ("localhost", Valid::FromNextCentury, "it is not valid yet"),
    ] {
        let port = serve(Some(authority.server(name, valid)), Answers::Image);
        let url = format!("https://localhost:{port}/base");
        is_refused(pull(&url, &authority, &[]), told);
    }
    let plain = serve(None, Answers::Image);
    let url = format!("https://localhost:{plain}/base");
    is_refused(pull(&url, &authority, &[]), "cannot fetch");
}

#[test]
fn redirects_are_followed_and_the_checksum_decides() {
    let authority = Authority::new("trusted");
    let tls = || Some(authority.server("localhost", Valid::Now));
    let plain = serve(None, Answers::Image);
    let secure = serve(tls(), Answers::Image);
    for to in [
        format!("http://localhost:{plain}/x"),
        format!("https://localhost:{secure}/x"),
    ] {
        let port = serve(tls(), Answers::Redirect(to));
        pull(&format!("https://localhost:{port}/base"), &authority, &[]).unwrap();
    }
    for (to, told) in [
        ("/again", "it redirects more than 10 times"),
        ("file:///etc/passwd", "it begins with neither"),
        ("https://me:secret@localhost/", "it holds a password"),
    ] {
        let port = serve(tls(), Answers::Redirect(to.to_owned()));
        let url = format!("https://localhost:{port}/base");
        is_refused(pull(&url, &authority, &[]), told);
    }
}

#[test]
fn a_proxy_of_the_environment_brings_to_https_and_http() {
    let authority = Authority::new("trusted");
    let tls = serve(
        Some(authority.server("images.example", Valid::Now)),
        Answers::Image,
    );
    let plain = serve(None, Answers::Image);
    // dXNlcjpzZWNyZXQ= is user:secret.
    let proxy = Proxy::start(Some("dXNlcjpzZWNyZXQ="));
    let through = format!("http://user:secret@127.0.0.1:{}", proxy.port);
    // Names that only the proxy knows.
    let secure = format!("https://images.example:{tls}/base");
    let open = format!("http://images.example:{plain}/base");
    for (variable, url) in [
        ("https_proxy", &secure),
        ("HTTPS_PROXY", &secure),
        ("all_proxy", &secure),
        ("http_proxy", &open),
    ] {
        pull(url, &authority, &[(variable, &through)]).unwrap();
    }
    assert_eq!(
        proxy.targets(),
        [
            vec![format!("CONNECT images.example:{tls} HTTP/1.1"); 3],
            vec![format!("CONNECT images.example:{plain} HTTP/1.1")],
        ]
        .concat()
    );
}

#[test]
fn a_proxy_is_asked_anew_for_where_a_redirect_leads() {
    let authority = Authority::new("trusted");
    let last = serve(None, Answers::Image);
    let to = format!("http://localhost:{last}/x");
    let first = serve(
        Some(authority.server("images.example", Valid::Now)),
        Answers::Redirect(to),
    );
    let proxy = Proxy::start(None);
    let through = format!("127.0.0.1:{}", proxy.port);
    let environment = [("all_proxy", through.as_str()), ("no_proxy", "localhost")];
    let url = format!("https://images.example:{first}/base");
    pull(&url, &authority, &environment).unwrap();
    assert_eq!(
        proxy.targets(),
        [format!("CONNECT images.example:{first} HTTP/1.1")]
    );
}

#[test]
fn proxies_that_refuse_or_cannot_be_used_are_said_without_their_password() {
    let authority = Authority::new("trusted");
    let proxy = Proxy::start(Some("dXNlcjpzZWNyZXQ="));
    let wrong = format!("http://user:secret2@127.0.0.1:{}", proxy.port);
    let url = "https://images.example/base";
    is_refused(
        pull(url, &authority, &[("https_proxy", &wrong)]),
        &format!(
            "http://127.0.0.1:{}, the proxy of `https_proxy`, refuses to connect to images.example: proxy server \
             responded 407/407 (it wants a user and a password)",
            proxy.port
        ),
    );
    is_refused(
        pull(
            url,
            &authority,
            &[("ALL_PROXY", "socks5://user:secret@127.0.0.1:9")],
        ),
        "`ALL_PROXY` names a SOCKS proxy (socks5://127.0.0.1:9)",
    );
    is_refused(
        pull(
            url,
            &authority,
            &[("https_proxy", "http://user:secret@127.0.0.1:9")],
        ),
        "through the proxy http://127.0.0.1:9",
    );
}
