use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

/// A registry that answers by what `answer` makes of each request's head, and the heads.
fn serve(
    answer: impl Fn(&str, &str) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (known, own) = (Arc::clone(&heads), place.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            known.lock().unwrap().push(head.clone());
            let _ = stream.write_all(answer(&own, &head).as_bytes());
        }
    });
    (place, heads)
}

fn ok(body: &str, headers: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

fn status(line: &str, headers: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n")
}

fn client(folder: &Path, auths: &str) -> Environment {
    fs::write(folder.join("config.json"), format!("{{\"auths\": {auths}}}")).unwrap();
    let variables = BTreeMap::from([("DOCKER_CONFIG".to_owned(), folder.display().to_string())]);
    Environment { variables, folder: "/".into() }
}

fn pull(environment: &Environment, reference: &str, folder: &Path) -> Result<String, String> {
    let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
    let sessions = Sessions::default();
    let client = Client::new(environment, &sessions);
    let manifest = client.manifest(&reference.parse().unwrap(), folder, &mut watch);
    manifest
        .map(|found| String::from_utf8(found.bytes).unwrap())
        .map_err(|error| error.to_string().replace(&folder.display().to_string(), "DIR"))
}

#[test]
fn a_token_is_fetched_with_credentials_that_only_its_giver_sees() {
    let folder = tempfile::tempdir().unwrap();
    let (place, heads) = serve(|own, head| {
        if head.starts_with("GET /token?scope=repository:a/b:pull&service=x ") {
            return ok(r#"{"token": "t0ken"}"#, "");
        }
        if head.to_lowercase().contains("authorization: bearer t0ken") {
            return ok("{}", "");
        }
        let realm =
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"x\"\r\n");
        status("401 Unauthorized", &realm)
    });
    let auths = format!(r#"{{"{place}": {{"username": "me", "password": "s3cret"}}}}"#);
    let environment = client(folder.path(), &auths);
    assert_eq!(pull(&environment, &format!("{place}/a/b:1"), folder.path()).as_deref(), Ok("{}"));
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 3, "{heads:?}");
    assert!(heads[0].starts_with("GET /v2/a/b/manifests/1 "));
    assert!(heads[0].contains("vnd.docker.distribution.manifest.list.v2+json"), "{heads:?}");
    assert!(heads[1].to_lowercase().contains("authorization: basic"));
    assert!(!heads[0].contains("uthorization") && !heads[2].contains("Basic"));
}

/// A registry whose tokens are numbered and live for so long, and believed up to a number of
/// uses. Returns how many tokens it gave for what was pulled.
fn tokens(expires: &str, uses: usize, pulls: &[&str]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let expires = expires.to_owned();
    let state = Mutex::new((0, BTreeMap::new()));
    let (place, heads) = serve(move |own, head| {
        let mut state = state.lock().unwrap();
        if head.starts_with("GET /token?") {
            state.0 += 1;
            let token = format!("t{}", state.0);
            let scope = head.split("scope=").nth(1).unwrap().split(['&', ' ']).next().unwrap();
            state.1.insert(token.clone(), (scope.to_owned(), 0));
            return ok(&format!(r#"{{"access_token": "{token}"{expires}}}"#), "");
        }
        let repository = head.split('/').nth(2).unwrap();
        let scope = format!("repository:{repository}:pull");
        let shown = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("authorization: bearer ").map(str::to_owned)
        });
        if let Some(token) = shown
            && let Some((of, used)) = state.1.get_mut(&token)
            && *of == scope
            && *used < uses
        {
            *used += 1;
            return ok("blob", "");
        }
        let realm =
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",scope=\"{scope}\"\r\n");
        status("401 Unauthorized", &realm)
    });
    let environment = client(folder.path(), "{}");
    let sessions = Sessions::default();
    let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
    for repository in pulls {
        // As each unit has one of its own.
        let client = Client::new(&environment, &sessions);
        let reference: Reference = format!("{place}/{repository}:1").parse().unwrap();
        let to = folder.path().join("blob");
        client.blob(&reference, (&Digest::of(b"blob"), 4), &to, &mut watch).unwrap();
    }
    let heads = heads.lock().unwrap();
    heads.iter().filter(|head| head.starts_with("GET /token?")).count()
}

#[test]
fn tokens_are_shown_until_they_expire() {
    let lasting = r#", "expires_in": 300"#;
    assert_eq!(tokens(lasting, 9, &["a", "a", "a"]), 1);
    assert_eq!(tokens("", 9, &["a", "a", "a"]), 1, "which is a minute, where nothing is said");
    assert_eq!(tokens(lasting, 9, &["a", "b", "a", "b"]), 2, "one for each scope");
    assert_eq!(tokens(r#", "expires_in": 0"#, 9, &["a", "a", "a"]), 3);
    assert_eq!(tokens(lasting, 2, &["a", "a", "a", "a"]), 2, "one that is refused is exchanged");
}

#[test]
fn what_waits_for_the_same_token_asks_once() {
    let sessions = Sessions::default();
    let (one, other): (Reference, Reference) =
        ("x.example/a:1".parse().unwrap(), "y.example/a:1".parse().unwrap());
    let challenge = Challenge::Bearer { url: "https://auth.example/t?scope=s".into() };
    let Challenge::Bearer { url } = &challenge else { unreachable!() };
    let secret = Secret::token("t", Instant::now(), Some(300));
    sessions.learn(&one, &challenge, secret);
    let found = |reference: &Reference, refused| {
        sessions.token(reference, url, refused).map(|secret| secret.header)
    };
    assert_eq!(found(&one, None).as_deref(), Some("Bearer t"));
    assert_eq!(found(&one, Some("Bearer t")), None);
    assert_eq!(found(&other, None), None, "another registry that names the same place");
}

#[test]
fn credentials_do_not_follow_redirects_to_other_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let (other, heads) = serve(|_, _| ok("blob", ""));
    let away = other.clone();
    let (place, _) = serve(move |_, head| {
        if head.to_lowercase().contains("authorization: basic") {
            return status("307 Temporary Redirect", &format!("Location: http://{away}/x\r\n"));
        }
        status("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n")
    });
    let auths = format!(r#"{{"{place}": {{"username": "me", "password": "s3cret"}}}}"#);
    let environment = client(folder.path(), &auths);
    let to = folder.path().join("blob");
    let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
    let reference: Reference = format!("{place}/a:1").parse().unwrap();
    let sessions = Sessions::default();
    let client = Client::new(&environment, &sessions);
    client.blob(&reference, (&Digest::of(b"blob"), 4), &to, &mut watch).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"blob");
    assert!(!heads.lock().unwrap()[0].to_lowercase().contains("authorization"));
    let wrong = client.blob(&reference, (&Digest::of(b"other"), 4), &to, &mut watch).unwrap_err();
    assert!(wrong.to_string().contains("for the blob sha256:"), "{wrong}");
    let long = client.blob(&reference, (&Digest::of(b"blob"), 3), &to, &mut watch).unwrap_err();
    assert!(long.to_string().contains("more than the 3 bytes"), "{long}");
}

#[test]
fn refusals_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let environment = client(folder.path(), "{}");
    let check = |answer: fn(&str, &str) -> String, reference: &str| {
        let (place, _) = serve(answer);
        pull(&environment, &format!("{place}/{reference}"), folder.path())
            .unwrap_err()
            .replace(&place, "HOST")
    };
    let basic = |_: &str, _: &str| status("401 Unauthorized", "WWW-Authenticate: Basic\r\n");
    assert_eq!(check(basic, "a:1"), "HOST/a:1: the registry denies access");
    let missing = |_: &str, _: &str| status("404 Not Found", "");
    assert_eq!(check(missing, "a:1"), "HOST/a:1: the registry has no such image");
    let (place, _) = serve(missing);
    let sessions = Sessions::default();
    let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
    let mut help = |reference: &str| {
        let reference: Reference = format!("{place}/{reference}").parse().unwrap();
        let client = Client::new(&environment, &sessions);
        client.manifest(&reference, folder.path(), &mut watch).unwrap_err().help().unwrap()
    };
    assert_eq!(help("a:1"), "check the name and the tag");
    let of_digest = help(&format!("a@{}", Digest::of(b"x")));
    assert!(of_digest.contains("`xstitch lock --update IMAGE`"), "{of_digest}");
    let lost = |_: &str, head: &str| match head.contains("/blobs/") {
        true => status("404 Not Found", ""),
        false => ok("{}", ""),
    };
    let (place, _) = serve(lost);
    let reference: Reference = format!("{place}/a:1").parse().unwrap();
    let blob = (&Digest::of(b"x"), 1);
    let to = folder.path().join("blob");
    let error = Client::new(&environment, &sessions).blob(&reference, blob, &to, &mut watch);
    let said = error.unwrap_err().to_string();
    assert!(said.contains("has the image, but not its blob sha256:2d71"), "{said}");
    let elsewhere = |_: &str, _: &str| {
        status("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"http://evil.example/\"\r\n")
    };
    assert_eq!(
        check(elsewhere, "a:1"),
        "HOST/a:1: the registry cannot be used: it wants a token from `http://evil.example/`, \
         which is no https URL"
    );
    let digest = Digest::of(b"x");
    let other = |_: &str, _: &str| ok("{}", "");
    let error = check(other, &format!("a@{digest}"));
    assert!(error.ends_with(&format!("not {digest}")), "{error}");
    let said = |_: &str, _: &str| {
        let other = Digest::of(b"x");
        ok("{}", &format!("Docker-Content-Digest: {other}\r\n"))
    };
    assert!(check(said, "a:1").contains("sent a manifest with the digest"));
}
