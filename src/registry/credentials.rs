//! Credentials that docker and podman keep in files (config.json(5), containers-auth.json(5)).
//!
//! Deliberately absent: programs that keep credentials; nothing is written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::machine::environment::Environment;
use crate::machine::network::{base64, from_base64};

/// What to say to one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
}

impl Credentials {
    /// The header that says so (RFC 7617).
    pub fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// Never shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// The credentials for a repository of `registry`, from the first file that has some.
pub fn find(environment: &Environment, registry: &str, repository: &str) -> Option<Credentials> {
    files(environment).iter().find_map(|file| from_file(file, registry, repository))
}

/// Files in the order of podman, docker's last.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let at =
        |name: &str, rest: &str| Some(environment.folder.join(environment.get(name)?).join(rest));
    let files = [
        at("REGISTRY_AUTH_FILE", ""),
        at("DOCKER_CONFIG", "config.json"),
        at("XDG_RUNTIME_DIR", "containers/auth.json"),
        at("XDG_CONFIG_HOME", "containers/auth.json"),
        at("HOME", ".config/containers/auth.json"),
        at("HOME", ".docker/config.json"),
    ];
    // An empty last part would be a slash.
    files.into_iter().flatten().map(|file| file.components().collect()).collect()
}

fn from_file(file: &Path, registry: &str, repository: &str) -> Option<Credentials> {
    let document: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let auths = document.get("auths")?.as_object()?;
    // The longest path counts, then the host alone, as it is or as old versions wrote it.
    let whole = format!("{registry}/{repository}");
    let mut names: Vec<String> =
        whole.match_indices('/').map(|(at, _)| whole[..at].to_owned()).collect();
    names.push(whole);
    names.reverse();
    if registry == "docker.io" {
        names.extend(["index.docker.io".to_owned()]);
    }
    let hosts: Vec<String> = names.iter().filter(|name| !name.contains('/')).cloned().collect();
    let old = hosts.iter().flat_map(|host| {
        ["https://", "http://", ""].into_iter().flat_map(move |scheme| {
            ["/v1/", "/v2/", "/", ""].map(|end| format!("{scheme}{host}{end}"))
        })
    });
    names.extend(old);
    names.iter().find_map(|name| entry(auths.get(name)?))
}

fn entry(value: &Value) -> Option<Credentials> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials { user: user.to_owned(), password: password.to_owned() });
    }
    let decoded = String::from_utf8(from_base64(text("auth")?)?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn files_are_read_as_docker_and_podman_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let auth = base64(b"me:s3:cret");
        let config = format!(
            r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}, "https://b.example/v1/": {{"auth": "{auth}"}},
            "c.example/team": {{"username": "team", "password": "x"}}, "c.example": {{"auth": "{auth}"}},
            "https://index.docker.io/v1/": {{"auth": "{auth}"}}, "bad.example": {{"auth": "%"}}, "none.example": {{}}}}}}"#
        );
        fs::write(folder.path().join("config.json"), config).unwrap();
        let place = folder.path().display().to_string();
        let environment = Environment {
            variables: BTreeMap::from([("DOCKER_CONFIG".into(), place)]),
            folder: "/".into(),
        };
        let check = |registry: &str, repository: &str| {
            find(&environment, registry, repository).map(|found| found.user + " " + &found.password)
        };
        assert_eq!(check("a.example", "x").as_deref(), Some("me s3:cret"));
        assert_eq!(check("b.example", "x").as_deref(), Some("me s3:cret"));
        assert_eq!(check("c.example", "team/x").as_deref(), Some("team x"));
        assert_eq!(check("c.example", "teams/x").as_deref(), Some("me s3:cret"));
        assert_eq!(check("docker.io", "library/x").as_deref(), Some("me s3:cret"));
        for none in ["bad.example", "none.example", "a.example.org", "d.example"] {
            assert_eq!(check(none, "x"), None, "{none}");
        }
        let shown = format!("{:?}", find(&environment, "a.example", "x"));
        assert_eq!(shown, "Some(Credentials)");
    }
}
