use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::proxy::bypasses;
use super::*;

const IMPATIENT: Patience = Patience {
    connect: Duration::from_secs(20),
    wait: Duration::from_secs(20),
    pauses: &[Duration::ZERO, Duration::ZERO],
};
const HASTY: Patience = Patience { wait: Duration::from_millis(300), ..IMPATIENT };
const PATIENT: Patience =
    Patience { connect: Duration::from_secs(60), wait: Duration::from_secs(60), pauses: &[] };

/// A server on loopback: where it is, and the heads of the requests that it got.
struct Server {
    place: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each connection with `answer`, which is given the request's head and how many
    /// came before; the thread ends with the test program.
    fn start(answer: impl Fn(usize, &str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let head = head.join("\n");
                let before = known.lock().unwrap().len();
                known.lock().unwrap().push(head.clone());
                answer(before, &head, &mut stream);
            }
        });
        Self { place, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn ok(stream: &mut TcpStream, body: &str) {
    let length = body.len();
    say(
        stream,
        &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"),
    );
}

fn redirect(stream: &mut TcpStream, location: &str) {
    say(
        stream,
        &format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    );
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: BTreeMap<String, String> = variables.iter().map(owned).collect();
    Environment { variables, folder: PathBuf::new() }
}

/// The text that was downloaded, or the error.
fn get_with(patience: &Patience, url: &str, environment: &Environment) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let mut seen = Vec::new();
    let mut progress = |done, whole| seen.push((done, whole));
    let mut watch = Watch { stop: &|| false, progress: &mut progress };
    let size_bytes =
        download_with(patience, url, &to, environment, &mut watch).map_err(|error| {
            assert!(error.is_remote(), "{error}");
            assert!(error.help().is_some(), "{error}");
            error.to_string()
        })?;
    assert_eq!(seen.last().unwrap().0, size_bytes);
    Ok(fs::read_to_string(&to).unwrap())
}

fn get(url: &str) -> Result<String, String> {
    get_with(&IMPATIENT, url, &environment(&[]))
}

#[test]
fn files_come_as_they_are() {
    let server = Server::start(|_, head, stream| match head.split(' ').nth(1) {
        Some("/chunked") => say(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        ),
        Some("/encoded") => {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw")
        }
        Some("/to-end") => say(stream, "HTTP/1.0 200 OK\r\n\r\nall of it"),
        _ => ok(stream, &"x".repeat(3 * BUFFER_BYTES)),
    });
    let at = |path: &str| get(&format!("http://{}{path}", server.place)).unwrap();
    assert_eq!(at("/chunked"), "abcde");
    assert_eq!(at("/encoded"), "raw");
    assert_eq!(at("/to-end"), "all of it");
    assert_eq!(at("/b%20c?d=é f#g").len(), 3 * BUFFER_BYTES);
    let last = server.requests().pop().unwrap();
    assert!(last.starts_with("GET /b%20c?d=%C3%A9%20f HTTP/1.1\n"), "{last}");
    assert!(last.to_lowercase().contains("accept-encoding: identity"), "{last}");
}

#[test]
fn credentials_stay_with_their_host() {
    let other = Server::start(|_, _, stream| ok(stream, "file"));
    let location = format!("http://{}/file?signature=s3cret", other.place);
    let server = Server::start(move |before, _, stream| match before {
        0 => redirect(stream, "../there?x=1"),
        1 => redirect(stream, "/and/there"),
        _ => redirect(stream, &location),
    });
    let url = format!("http://me:s3cret@{}/here/or/file", server.place);
    assert_eq!(get(&url).unwrap(), "file");
    let requests = server.requests();
    let paths: Vec<&str> = requests.iter().map(|head| head.lines().next().unwrap()).collect();
    assert_eq!(
        paths,
        ["GET /here/or/file HTTP/1.1", "GET /here/there?x=1 HTTP/1.1", "GET /and/there HTTP/1.1"]
    );
    for head in &requests {
        assert!(head.to_lowercase().contains("authorization: basic bwu6cznjcmv0"), "{head}");
    }
    let last = other.requests().pop().unwrap().to_lowercase();
    assert!(last.starts_with("get /file?signature=s3cret "), "{last}");
    assert!(!last.contains("authorization"), "{last}");
}

#[test]
fn failures_name_host_and_reason_but_no_secret() {
    let server = Server::start(|_, head, stream| match head.split(' ').nth(1) {
        Some("/round") => redirect(stream, "/round"),
        Some("/elsewhere") => redirect(stream, "ftp://host/x"),
        _ => say(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    });
    let place = &server.place;
    let error = get(&format!("http://me:s3cret@{place}/a.tar.gz?token=s3cret")).unwrap_err();
    assert_eq!(
        error,
        format!("cannot download http://{place}/a.tar.gz?…: {place} answered 404 Not Found")
    );
    assert_eq!(server.requests().len(), 1, "this does not pass by itself");
    let error = get(&format!("http://{place}/round")).unwrap_err();
    assert!(error.ends_with("more than 10 redirects"), "{error}");
    let to = tempfile::tempdir().unwrap();
    let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
    for url in
        [format!("http://{place}/elsewhere"), "x".into(), "http:///x".into(), "ftp://h/x".into()]
    {
        let none = environment(&[]);
        let error = download_with(&PATIENT, &url, &to.path().join("x"), &none, &mut watch);
        let error = error.unwrap_err();
        assert!(!error.is_remote(), "{error}");
        assert!(error.to_string().ends_with("it is no http or https URL"), "{error}");
    }
    let ok = Server::start(|_, _, stream| ok(stream, "x"));
    let url = format!("http://{}/x", ok.place);
    let error = download_with(&PATIENT, &url, to.path(), &environment(&[]), &mut watch);
    assert!(matches!(error.unwrap_err().problem, NetworkProblem::File { .. }));
}

#[test]
fn what_passes_is_tried_again() {
    let server = Server::start(|before, _, stream| match before {
        0 => say(stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        1 => say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
        _ => ok(stream, "whole"),
    });
    assert_eq!(get(&format!("http://{}/", server.place)).unwrap(), "whole");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn broken_and_slow_answers_are_errors() {
    let check = |patience: &Patience, answer: fn(&mut TcpStream)| {
        let server = Server::start(move |_, _, stream| answer(stream));
        let url = format!("http://{}/x", server.place);
        let error = get_with(patience, &url, &environment(&[])).unwrap_err();
        assert_eq!(server.requests().len(), 3);
        error.rsplit_once(&server.place).unwrap().1.to_owned()
    };
    let cut =
        check(&IMPATIENT, |stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"));
    assert_eq!(cut, ": Peer disconnected");
    let closed = check(&IMPATIENT, |_| {});
    assert_eq!(closed, ": Peer disconnected");
    let slow = |stream: &mut TcpStream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        std::thread::sleep(Duration::from_millis(600));
    };
    assert_eq!(check(&HASTY, slow), ": no answer in time");
    check(&IMPATIENT, |stream| say(stream, "SSH-2.0-x\r\n"));
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let error = get(&format!("http://{place}/x")).unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn an_interrupt_ends_a_download_that_stands_still() {
    let server = Server::start(|_, _, stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        std::thread::sleep(Duration::from_secs(60));
    });
    let folder = tempfile::tempdir().unwrap();
    let stopped = AtomicBool::new(false);
    let started = Instant::now();
    let url = format!("http://{}/x", server.place);
    let mut progress = |done, _| stopped.store(done == 3, Ordering::Relaxed);
    let stop = || stopped.load(Ordering::Relaxed);
    let mut watch = Watch { stop: &stop, progress: &mut progress };
    let to = folder.path().join("x");
    let error = download_with(&PATIENT, &url, &to, &environment(&[]), &mut watch).unwrap_err();
    assert!(matches!(error.problem, NetworkProblem::Interrupted), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn proxies_come_from_the_environment() {
    let server = Server::start(|_, _, stream| ok(stream, "direct"));
    let proxy = Server::start(|_, _, stream| say(stream, "HTTP/1.1 407 No\r\n\r\n"));
    let through = format!("http://me:s3cret@{}", proxy.place);
    let url = format!("http://{}/x", server.place);
    let error = get_with(&IMPATIENT, &url, &environment(&[("HTTP_PROXY", &through)])).unwrap_err();
    assert!(error.contains("the proxy refused"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    let head = proxy.requests().pop().unwrap();
    assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1\n", server.place)), "{head}");
    assert!(server.requests().is_empty());
    for variables in [
        &[("http_proxy", through.as_str()), ("NO_PROXY", "example.com, 127.0.0.1")][..],
        &[("https_proxy", &through)],
        &[],
    ] {
        assert_eq!(get_with(&IMPATIENT, &url, &environment(variables)).unwrap(), "direct");
    }
}

#[test]
fn no_proxy_lists() {
    for list in ["*", "host.example", "example", ".example", "*.example", "a,HOST.example:80"] {
        assert!(bypasses(list, "host.example"), "{list}");
    }
    for list in ["", "ost.example", "other.example", "a.host.example", ","] {
        assert!(!bypasses(list, "host.example"), "{list}");
    }
}

#[test]
fn base64_pads() {
    for (text, encoded) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("fööb", "ZsO2w7Zi")]
    {
        assert_eq!(base64(text.as_bytes()), encoded);
    }
}

#[test]
fn references_lead_where_browsers_go() {
    let base = Place::parse("HTTPS://me@Host/a/b/c?d#e").unwrap();
    assert_eq!(base.to_string(), "https://host/a/b/c?d");
    for (reference, expected) in [
        ("x", "https://host/a/b/x"),
        ("./x/y?z#f", "https://host/a/b/x/y?z"),
        ("../../../x", "https://host/x"),
        ("/x", "https://host/x"),
        ("?x", "https://host/a/b/c?x"),
        ("//other:8/x", "https://other:8/x"),
        ("http://other", "http://other/"),
        ("x?at=12:30", "https://host/a/b/x?at=12:30"),
    ] {
        assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference}");
    }
}
