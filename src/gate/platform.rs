//! Every ELF file of an image is for the image's platform, base layers included.

use crate::image::summary::LayerSummary;
use crate::model::Finding;
use crate::toolchain::description::{Description, Endianness, all};

/// Machine number of eBPF objects, which the kernel of any architecture loads.
const EM_BPF: u16 = 247;

/// Findings `elf-wrong-machine` for each ELF file of `summary` that is not for `target`.
pub fn check(summary: &LayerSummary, layer: &str, target: &Description) -> Vec<Finding> {
    let elf = &target.elf;
    summary
        .elf
        .iter()
        .filter(|(_, facts)| facts.machine != EM_BPF)
        .filter(|(_, facts)| {
            facts.machine != elf.machine
                || facts.class != elf.class
                || facts.little_endian != (elf.endianness == Endianness::Little)
        })
        .map(|(path, facts)| {
            let found = all().iter().find(|known| known.elf.machine == facts.machine);
            let name = found.map_or_else(
                || format!("machine {}", facts.machine),
                |known| known.elf.machine_name.clone(),
            );
            Finding::new(
                "elf-wrong-machine",
                format!(
                    "/{path} in layer `{layer}` is {}-bit {name}, {} needs {}-bit {}",
                    facts.class, target.platform, elf.class, elf.machine_name
                ),
            )
            .help(
                "a file like this cannot start there: compile it for the platform, or leave it out",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::elf::ElfFacts;
    use crate::toolchain::description::by_triple;

    #[test]
    fn foreign_files_are_found() {
        let fact =
            |machine, class| ElfFacts { machine, class, little_endian: true, interpreter: None };
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
}
