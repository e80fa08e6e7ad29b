//! What an ELF file says about itself (System V gABI, chapter 4). Hostile bytes.
//!
//! Only what is asked for is read, so that memory does not grow with the file.

use std::io::{Read, Seek};

use object::ReadRef;
use object::read::ReadCache;
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

/// Longest path of a dynamic loader that is read (`PATH_MAX`).
const INTERPRETER_BYTES_AT_MOST: u64 = 4096;

/// The facts of what `file` holds, or `None` if it is no ELF file. Damage after the header
/// only loses what is damaged.
pub fn facts(file: impl Read + Seek) -> Option<ElfFacts> {
    let data = &ReadCache::new(file);
    let head = data.read_bytes_at(0, 20).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let (class, little_endian) = (head[4], head[5] == 1);
    let machine = [head[18], head[19]];
    let machine =
        if little_endian { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    // After three addresses, whose size is the class's.
    let at = if class == 1 { 36 } else { 48 };
    let flags = data.read_bytes_at(at, 4).ok().and_then(|flags| flags.try_into().ok());
    let flags = flags.map_or(0, |flags| {
        if little_endian { u32::from_le_bytes(flags) } else { u32::from_be_bytes(flags) }
    });
    let interpreter = match class {
        1 => interpreter::<object::elf::FileHeader32<object::Endianness>, _>(data),
        _ => interpreter::<object::elf::FileHeader64<object::Endianness>, _>(data),
    };
    let class = if class == 1 { 32 } else { 64 };
    Some(ElfFacts { machine, class, little_endian, flags, interpreter })
}

fn interpreter<'data, H, R>(data: R) -> Option<String>
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".interp")?;
    if section.sh_size(endian).into() > INTERPRETER_BYTES_AT_MOST {
        return None;
    }
    let text = section.data(endian, data).ok()?;
    let text = text.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    #[test]
    fn own_executable() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let facts = |bytes: &[u8]| super::facts(Cursor::new(bytes));
        let whole = facts(&bytes).unwrap();
        assert_eq!(whole.class, usize::BITS as u8);
        assert!(whole.interpreter.is_some());
        assert_eq!(facts(&bytes[..64]).unwrap().machine, whole.machine);
        for length in 0..64 {
            let _ = facts(&bytes[..length]);
        }
        assert_eq!(facts(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn flags_stand_where_the_class_says() {
        let check = |class: u8, data: u8, at: usize, flags: [u8; 4]| {
            let mut header = vec![0; 64];
            header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
            header[at..at + 4].copy_from_slice(&flags);
            super::facts(Cursor::new(header)).unwrap().flags
        };
        assert_eq!(check(1, 1, 0x24, [0x00, 0x04, 0x00, 0x05]), 0x0500_0400);
        assert_eq!(check(2, 1, 0x30, [0x02, 0, 0, 0]), 2);
        assert_eq!(check(2, 2, 0x30, [0, 0, 0, 0x02]), 2);
    }
}
