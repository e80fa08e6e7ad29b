//! What an ELF file says about itself (System V gABI, chapter 4). Hostile bytes.

use object::read::elf::{FileHeader, SectionHeader as _};
use serde::{Deserialize, Serialize};

/// The header of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFacts {
    /// `e_machine`.
    pub machine: u16,
    /// 32 or 64.
    pub class: u8,
    /// Whether the least significant byte comes first.
    pub little_endian: bool,
    /// `e_flags`, whose meaning is the machine's; 0 where the header is cut short.
    pub flags: u32,
    /// Contents of `.interp`, the dynamic loader.
    pub interpreter: Option<String>,
}

/// The facts of `bytes`, or `None` if they are no ELF file. Damage after the header only
/// loses what is damaged.
pub fn facts(bytes: &[u8]) -> Option<ElfFacts> {
    let (&class, &data) = (bytes.get(4)?, bytes.get(5)?);
    if bytes.get(..4)? != b"\x7fELF" {
        return None;
    }
    let little_endian = data == 1;
    let machine = [*bytes.get(18)?, *bytes.get(19)?];
    let machine =
        if little_endian { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    // After three addresses, whose size is the class's.
    let at = if class == 1 { 36 } else { 48 };
    let flags = bytes.get(at..at + 4).and_then(|flags| flags.try_into().ok()).map_or(0, |flags| {
        if little_endian { u32::from_le_bytes(flags) } else { u32::from_be_bytes(flags) }
    });
    let interpreter = match class {
        1 => interpreter::<object::elf::FileHeader32<object::Endianness>>(bytes),
        _ => interpreter::<object::elf::FileHeader64<object::Endianness>>(bytes),
    };
    let class = if class == 1 { 32 } else { 64 };
    Some(ElfFacts { machine, class, little_endian, flags, interpreter })
}

fn interpreter<H: FileHeader<Endian = object::Endianness>>(bytes: &[u8]) -> Option<String> {
    let header = H::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (_, section) = sections.section_by_name(endian, b".interp")?;
    let text = section.data(endian, bytes).ok()?;
    let text = text.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_executable() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let facts = facts(&bytes).unwrap();
        assert_eq!(facts.class, usize::BITS as u8);
        assert!(facts.interpreter.is_some());
        assert_eq!(super::facts(&bytes[..64]).unwrap().machine, facts.machine);
        for length in 0..64 {
            let _ = super::facts(&bytes[..length]);
        }
        assert_eq!(super::facts(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn flags_stand_where_the_class_says() {
        let check = |class: u8, data: u8, at: usize, flags: [u8; 4]| {
            let mut header = vec![0; 64];
            header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
            header[at..at + 4].copy_from_slice(&flags);
            facts(&header).unwrap().flags
        };
        assert_eq!(check(1, 1, 0x24, [0x00, 0x04, 0x00, 0x05]), 0x0500_0400);
        assert_eq!(check(2, 1, 0x30, [0x02, 0, 0, 0]), 2);
        assert_eq!(check(2, 2, 0x30, [0, 0, 0, 0x02]), 2);
    }
}
