//! Every ELF file of an image is for the image's platform, base layers included.

use crate::image::elf::ElfFacts;
use crate::image::summary::LayerSummary;
use crate::model::Finding;
use crate::toolchain::description::{Description, Endianness, machine_name};

/// Machine number of eBPF objects, which the kernel of any architecture loads.
pub(super) const EM_BPF: u16 = 247;

/// A finding for each ELF file of `summary` that is not for `target`: `elf-wrong-machine`,
/// or `elf-wrong-float-abi` where it claims another one than the target's.
pub fn check(summary: &LayerSummary, layer: &str, target: &Description) -> Vec<Finding> {
    summary
        .elf
        .iter()
        .filter(|(_, facts)| facts.machine != EM_BPF)
        .filter_map(|(path, facts)| {
            let (code, problem) = mismatch(facts, target)?;
            let message = format!("/{path} in layer `{layer}` {problem}");
            Some(Finding::new(code, message).help(
                "a file like this cannot start there: compile it for the platform, or leave it out",
            ))
        })
        .collect()
}

/// How a file is not for `target`: a code and words that follow the file's name.
pub fn mismatch(facts: &ElfFacts, target: &Description) -> Option<(&'static str, String)> {
    let (elf, platform) = (&target.elf, &target.platform);
    let fits = facts.machine == elf.machine
        && facts.class == elf.class
        && facts.little_endian == (elf.endianness == Endianness::Little);
    if !fits {
        let name = machine_name(facts.machine);
        let problem = format!(
            "is {}-bit {name}, {platform} needs {}-bit {}",
            facts.class, elf.class, elf.machine_name
        );
        return Some(("elf-wrong-machine", problem));
    }
    let claimed = elf.claimed_float_abi(facts.flags).filter(|claimed| *claimed != elf.float_abi)?;
    let problem =
        format!("is for the {claimed}-float ABI, {platform} needs {}-float", elf.float_abi);
    Some(("elf-wrong-float-abi", problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::description::by_triple;

    #[test]
    fn foreign_files_are_found() {
        let fact = |machine, class| ElfFacts {
            machine,
            class,
            little_endian: true,
            ..ElfFacts::default()
        };
        let mut summary = LayerSummary::default();
        summary.elf.insert("usr/bin/x".into(), fact(62, 64));
        summary.elf.insert("usr/lib/probe.o".into(), fact(EM_BPF, 64));
        let arm = by_triple("aarch64-unknown-linux-gnu").unwrap();
        let x86 = by_triple("x86_64-unknown-linux-gnu").unwrap();
        assert_eq!(check(&summary, "binaries", x86), []);
        let findings = check(&summary, "binaries", arm);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "/usr/bin/x in layer `binaries` is 64-bit x86-64, linux/arm64 needs 64-bit AArch64"
        );
    }

    #[test]
    fn files_of_another_float_abi_are_found() {
        let arm = by_triple("armv7-unknown-linux-gnueabihf").unwrap();
        let check = |flags| {
            let header =
                ElfFacts { machine: 40, class: 32, little_endian: true, ..Default::default() };
            let facts = ElfFacts { flags, ..header };
            let mut summary = LayerSummary::default();
            summary.elf.insert("usr/lib/libx.so".into(), facts);
            check(&summary, "packages", arm)
        };
        assert_eq!(check(0x0500_0400), []);
        // What claims neither, such as a file without floating-point code, fits both.
        assert_eq!(check(0x0500_0000), []);
        let findings = check(0x0500_0200);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code, "elf-wrong-float-abi");
        assert_eq!(
            findings[0].message,
            "/usr/lib/libx.so in layer `packages` is for the soft-float ABI, linux/arm/v7 needs \
             hard-float"
        );
    }
}
