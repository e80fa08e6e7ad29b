//! `pre-build` of a target, as in cross: package installations become packages of the
//! sysroot and the userland, for there is no root to install them to; the rest is scripts.

/// What `pre-build` lines ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreBuildRequest {
    /// Packages for the target's sysroot.
    pub packages: Vec<String>,
    /// Packages for the userland of the build.
    pub tools: Vec<String>,
    /// What is left for the shell.
    pub scripts: Vec<String>,
}

/// Sorts out `lines` for a target with the Debian architecture given.
pub fn pre_build(lines: &[String], architecture: &str) -> PreBuildRequest {
    let mut request = PreBuildRequest::default();
    for line in lines {
        let mut left = Vec::new();
        for command in line.split("&&").flat_map(|part| part.split(['\n', ';'])) {
            let command = command.trim();
            let words: Vec<&str> = command
                .split_whitespace()
                .skip_while(|word| {
                    matches!(*word, "sudo") || (word.contains('=') && !word.starts_with('-'))
                })
                .collect();
            match words.as_slice() {
                [] => {}
                ["dpkg", "--add-architecture", ..] => {}
                ["apt-get" | "apt", rest @ ..] => {
                    let mut rest = rest.iter().filter(|word| !word.starts_with('-'));
                    if rest.next() == Some(&"install") {
                        rest.for_each(|package| request.add(package, architecture));
                    }
                }
                _ => left.push(command),
            }
        }
        if !left.is_empty() {
            request.scripts.push(left.join("\n"));
        }
    }
    for names in [&mut request.packages, &mut request.tools] {
        names.sort();
        names.dedup();
    }
    request
}

impl PreBuildRequest {
    fn add(&mut self, package: &str, architecture: &str) {
        match package.split_once(':') {
            Some((name, of))
                if of == architecture || matches!(of, "$CROSS_DEB_ARCH" | "${CROSS_DEB_ARCH}") =>
            {
                self.packages.push(name.to_owned());
            }
            Some((name, _)) => self.tools.push(name.to_owned()),
            None => self.tools.push(package.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_become_packages() {
        let lines = [
            "dpkg --add-architecture $CROSS_DEB_ARCH",
            "apt-get update && apt-get --assume-yes install libssl-dev:$CROSS_DEB_ARCH nasm",
            "DEBIAN_FRONTEND=noninteractive apt-get install -y zlib1g-dev:arm64; echo ready",
        ];
        let request = pre_build(&lines.map(str::to_owned), "arm64");
        assert_eq!(request.packages, ["libssl-dev", "zlib1g-dev"]);
        assert_eq!(request.tools, ["nasm"]);
        assert_eq!(request.scripts, ["echo ready"]);
    }
}
