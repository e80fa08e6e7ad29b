//! Targets as data: one TOML file below `toolchains/` for each, compiled in.
//!
//! Deliberately absent: where tools come from, and any `if` about an architecture.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::model::Platform;

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Description {
    /// Rust target triple, which names the file too.
    pub triple: String,
    /// OCI platform, with variant where the architecture has several.
    pub platform: Platform,
    /// Architecture name of Debian packages.
    pub debian_architecture: String,
    /// Multiarch triple, as in `/usr/lib/<triple>`.
    pub gnu_triple: String,
    /// Path of the dynamic loader that executables name.
    pub dynamic_loader: String,
    /// CPU baseline that code is compiled for.
    pub cpu: String,
    /// Emulator that may run a finished image in tests, or be a `runner`; never used to build.
    pub emulator: String,
    /// `--target` of clang.
    pub clang_triple: String,
    /// Flags with which the `cc` crate compiles optimised C, without those that name a target.
    pub default_cflags: Vec<String>,
    /// Further compiler flags that the ABI or the baseline needs.
    pub cflags: Vec<String>,
    /// What `uname -m` says there, which CMake asks for.
    pub machine: String,
    /// Meson's name of the processor family.
    pub cpu_family: String,
    /// `GOARCH`.
    pub goarch: String,
    /// Go's variables for the baseline, such as `GOARM`.
    pub go: BTreeMap<String, String>,
    /// What ELF headers say.
    pub elf: Elf,
}

/// The header of every ELF file of a target (gABI, "ELF header").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// Its name, for people.
    pub machine_name: String,
    /// 32 or 64 (`EI_CLASS`).
    pub class: u8,
    /// `EI_DATA`.
    pub endianness: Endianness,
    /// How floating-point arguments are passed, for people and for `float_abi_flags`.
    pub float_abi: String,
    /// What `e_flags` say of it, by name, where the machine's supplement defines that.
    #[serde(default)]
    pub float_abi_flags: BTreeMap<String, u32>,
}

impl Elf {
    /// The float ABI that a file with these `e_flags` claims, if it claims one.
    pub fn claimed_float_abi(&self, flags: u32) -> Option<&str> {
        let mask = self.float_abi_flags.values().fold(0, |mask, value| mask | value);
        let claim = self.float_abi_flags.iter().find(|(_, value)| **value == flags & mask);
        claim.map(|(name, _)| name.as_str())
    }
}

/// Byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endianness {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

static ALL: LazyLock<Vec<Description>> = LazyLock::new(|| {
    [
        include_str!("../../toolchains/x86_64-unknown-linux-gnu.toml"),
        include_str!("../../toolchains/aarch64-unknown-linux-gnu.toml"),
        include_str!("../../toolchains/armv7-unknown-linux-gnueabihf.toml"),
        include_str!("../../toolchains/powerpc64le-unknown-linux-gnu.toml"),
        include_str!("../../toolchains/riscv64gc-unknown-linux-gnu.toml"),
        include_str!("../../toolchains/s390x-unknown-linux-gnu.toml"),
    ]
    .iter()
    .map(|text| toml::from_str(text).expect("a test parses every description"))
    .collect()
});

/// Every target.
pub fn all() -> &'static [Description] {
    &ALL
}

/// The target of a platform.
pub fn by_platform(platform: &Platform) -> Option<&'static Description> {
    all().iter().find(|description| description.platform == *platform)
}

/// The target of that triple.
pub fn by_triple(triple: &str) -> Option<&'static Description> {
    all().iter().find(|description| description.triple == triple)
}

/// The name of an `e_machine`, for people; its number where no target has it.
pub fn machine_name(machine: u16) -> String {
    let known = all().iter().find(|description| description.elf.machine == machine);
    known.map_or_else(|| format!("machine {machine}"), |known| known.elf.machine_name.clone())
}

/// The machine that this program runs on.
pub fn host() -> Option<&'static Description> {
    let architecture = std::env::consts::ARCH;
    all().iter().find(|description| {
        let first = description.triple.split('-').next().unwrap_or_default();
        first == architecture
            || (architecture == "arm" && first == "armv7")
            || (architecture == "riscv64" && first == "riscv64gc")
            || (architecture == "powerpc64" && first == "powerpc64le")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_is_whole() {
        let platforms: std::collections::BTreeSet<_> = all().iter().map(|d| &d.platform).collect();
        assert_eq!(platforms.len(), 6);
        use crate::model::platform::{PLATFORMS, TRIPLES};
        for (description, (platform, triple)) in all().iter().zip(PLATFORMS.iter().zip(TRIPLES)) {
            assert_eq!(description.platform.to_string(), *platform);
            assert_eq!(description.triple, triple);
        }
        for description in all() {
            assert!(description.dynamic_loader.starts_with("/lib"), "{description:?}");
            assert!(matches!(description.elf.class, 32 | 64), "{description:?}");
            let elf = &description.elf;
            let flags = &elf.float_abi_flags;
            assert!(flags.is_empty() || flags.contains_key(&elf.float_abi), "{description:?}");
            assert_eq!(by_triple(&description.triple), Some(description));
            assert_eq!(by_platform(&description.platform), Some(description));
        }
        assert!(host().is_some());
    }

    #[test]
    fn default_flags_are_those_of_the_crate() {
        for description in all() {
            let host = &host().unwrap().triple;
            let flags = crate::toolchain::compiler::flags(&description.triple, host).unwrap();
            assert_eq!(flags, description.default_cflags, "{}", description.triple);
        }
    }

    #[test]
    fn float_abis_are_read_from_flags() {
        let check =
            |triple: &str, flags: u32| by_triple(triple).unwrap().elf.claimed_float_abi(flags);
        let arm = "armv7-unknown-linux-gnueabihf";
        assert_eq!(check(arm, 0x0500_0400), Some("hard"));
        assert_eq!(check(arm, 0x0500_0200), Some("soft"));
        assert_eq!(check(arm, 0x0500_0000), None);
        let risc_v = "riscv64gc-unknown-linux-gnu";
        assert_eq!(check(risc_v, 0x5), Some("double"));
        assert_eq!(check(risc_v, 0x1), Some("soft"));
        assert_eq!(check("x86_64-unknown-linux-gnu", 0x400), None);
    }
}
