//! What a root file system says that it has: dpkg's status, or the files of `status.d` that
//! images without a package manager have instead.

/// Packages that are installed, as entries of [`crate::model::package::PackageRequest::provided`]:
/// `name=version`, sorted, each once. `texts` are the contents of `var/lib/dpkg/status`, or of
/// each file of `var/lib/dpkg/status.d` but those of `md5sums`.
///
/// A stanza without `Status` counts as installed, as in `status.d`; one that says otherwise
/// (removed, half installed) does not (deb822(5), dpkg-query(1)).
pub fn installed<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut entries: Vec<String> = texts
        .into_iter()
        .flat_map(|text| text.split("\n\n"))
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            let is_installed = field("Status")
                .is_none_or(|status| status.split_whitespace().nth(2) == Some("installed"));
            let (name, version) = (field("Package")?, field("Version")?);
            is_installed.then(|| format!("{name}={version}"))
        })
        .collect();
    entries.sort();
    entries.dedup();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files() {
        let status = "Package: b\nStatus: install ok installed\nDepends: c\n (>= 1)\nVersion: 1:2-3\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: half\nStatus: install ok half-configured\nVersion: 1\n\n\
                      Package: b\nArchitecture: i386\nStatus: install ok installed\nVersion: 1:2-3\n";
        assert_eq!(installed([status]), ["b=1:2-3"]);
        let parts = ["Package: z\nVersion: 2\n", "package: a\nversion: 1\n", "", "nothing: here"];
        assert_eq!(installed(parts), ["a=1", "z=2"]);
    }
}
