//! What an ELF file says about itself (System V gABI, chapters 4 and 5; symbol versions:
//! LSB core, "Symbol Versioning"). Hostile bytes.
//!
//! Only what is asked for is read, and no more of it than the limits below, so that memory
//! does not grow with the file. What is read are the segments, as the loader does, because
//! section headers may be stripped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Seek};

use object::elf::{
    DT_NEEDED, DT_NULL, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_VERDEF, DT_VERNEED, DynamicTag,
    PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramType, VER_FLG_BASE, VER_FLG_WEAK, Verdaux, Verdef,
    Vernaux, Verneed,
};
use object::read::ReadCache;
use object::read::archive::ArchiveFile;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, Pod, ReadRef, StringTable};
use serde::{Deserialize, Serialize};

/// The header of an ELF file, and what its dynamic segment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFacts {
    /// `e_machine`.
    pub machine: u16,
    /// 32 or 64.
    pub class: u8,
    /// Whether the least significant byte comes first.
    pub little_endian: bool,
    /// `e_flags`, whose meaning is the machine's; 0 where the header is cut short.
    pub flags: u32,
    /// The dynamic loader that an executable names (`PT_INTERP`).
    pub interpreter: Option<String>,
    /// The name that a library is known by to what is linked with it (`DT_SONAME`).
    pub soname: Option<String>,
    /// Libraries to load, in the order of the search for symbols (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// By file name of a library, the symbol versions it must define, sorted by bytes
    /// (`DT_VERNEED`). Without weak ones, whose absence is no error.
    pub requires: BTreeMap<String, Vec<String>>,
    /// Symbol versions that it defines, sorted by bytes (`DT_VERDEF`). Without the base
    /// version, which is the name of the file.
    pub defines: Vec<String>,
}

/// Bytes of program headers that Linux loads.
const HEADERS_BYTES_AT_MOST: usize = 64 * 1024;
/// Longest path of a dynamic loader that is read (`PATH_MAX`).
const INTERPRETER_BYTES_AT_MOST: u64 = 4096;
/// Entries of the dynamic segment that are read.
const ENTRIES_AT_MOST: usize = 4096;
/// Records of symbol versions that are read; glibc's own library has about a hundred.
const RECORDS_AT_MOST: usize = 4096;
/// Bytes of names and versions that are kept.
const TEXT_BYTES_AT_MOST: usize = 64 * 1024;

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
    let bits = if class == 1 { 32 } else { 64 };
    let mut facts = ElfFacts { machine, class: bits, little_endian, flags, ..ElfFacts::default() };
    match class {
        1 => Segments::<object::elf::FileHeader32<Endianness>, _>::tell(data, &mut facts),
        _ => Segments::<object::elf::FileHeader64<Endianness>, _>::tell(data, &mut facts),
    };
    Some(facts)
}

/// The headers of the objects in an archive of `ar`, with their names. Other members, such as
/// those of compilers' own forms, are left out.
pub fn archive_members(file: impl Read + Seek) -> Vec<(String, ElfFacts)> {
    let data = &ReadCache::new(file);
    let Ok(archive) = ArchiveFile::parse(data) else { return Vec::new() };
    let members = archive.members().map_while(Result::ok).filter_map(|member| {
        let (at, size_bytes) = member.file_range();
        let head = data.read_bytes_at(at, size_bytes.min(64)).ok()?;
        let facts = facts(std::io::Cursor::new(head))?;
        Some((String::from_utf8_lossy(member.name()).into_owned(), facts))
    });
    members.collect()
}

/// What the loader maps, and how much more may be read of it.
struct Segments<'data, H: FileHeader, R: ReadRef<'data>> {
    data: R,
    endian: H::Endian,
    headers: &'data [H::ProgramHeader],
    records_left: Cell<usize>,
    text_left: Cell<usize>,
}

impl<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>> Segments<'data, H, R> {
    fn tell(data: R, facts: &mut ElfFacts) -> Option<()> {
        let header = H::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let bytes = usize::from(header.e_phnum(endian)) * size_of::<H::ProgramHeader>();
        if bytes > HEADERS_BYTES_AT_MOST {
            return None;
        }
        let segments = Self {
            data,
            endian,
            headers: header.program_headers(endian, data).ok()?,
            records_left: Cell::new(RECORDS_AT_MOST),
            text_left: Cell::new(TEXT_BYTES_AT_MOST),
        };
        facts.interpreter = segments.interpreter();
        segments.dynamic(facts)
    }

    /// Offset and size in the file of the first segment of a kind.
    fn segment(&self, kind: ProgramType) -> Option<(u64, u64)> {
        let header = self.headers.iter().find(|header| header.p_type(self.endian) == kind)?;
        Some(header.file_range(self.endian))
    }

    /// Where in the file the byte is that the loader maps at `address`.
    fn offset(&self, address: u64) -> Option<u64> {
        self.headers.iter().filter(|header| header.p_type(self.endian) == PT_LOAD).find_map(
            |header| {
                let inside = address.checked_sub(header.p_vaddr(self.endian).into())?;
                let (offset, size) = header.file_range(self.endian);
                if inside < size { offset.checked_add(inside) } else { None }
            },
        )
    }

    fn interpreter(&self) -> Option<String> {
        let (offset, size) = self.segment(PT_INTERP)?;
        if size > INTERPRETER_BYTES_AT_MOST {
            return None;
        }
        let text = self.data.read_bytes_at(offset, size).ok()?;
        let text = text.split(|&byte| byte == 0).next().filter(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn dynamic(&self, facts: &mut ElfFacts) -> Option<()> {
        let (offset, size) = self.segment(PT_DYNAMIC)?;
        let count = usize::try_from(size).unwrap_or(usize::MAX) / size_of::<H::Dyn>();
        let entries: &[H::Dyn] =
            self.data.read_slice_at(offset, count.min(ENTRIES_AT_MOST)).ok()?;
        let end = entries.iter().position(|entry| entry.tag(self.endian) == DT_NULL);
        let entries = &entries[..end.unwrap_or(entries.len())];
        let values = |tag: DynamicTag| {
            let found = entries.iter().filter(move |entry| entry.tag(self.endian) == tag);
            found.map(|entry| entry.val(self.endian))
        };
        let start = self.offset(values(DT_STRTAB).next()?)?;
        // A size that is missing or wrong loses nothing: each text has an end of its own.
        let length = self.data.len().ok()?;
        let end = values(DT_STRSZ).next().and_then(|size| start.checked_add(size));
        let texts = StringTable::new(self.data, start, end.unwrap_or(length).min(length));
        let named = |at: u64| self.text(&texts, u32::try_from(at).ok()?);
        facts.soname = values(DT_SONAME).next().and_then(named);
        facts.needed = values(DT_NEEDED).filter_map(named).collect();
        if let Some(at) = values(DT_VERNEED).next().and_then(|address| self.offset(address)) {
            facts.requires = self.requires(&texts, at);
        }
        if let Some(at) = values(DT_VERDEF).next().and_then(|address| self.offset(address)) {
            facts.defines = self.defines(&texts, at);
        }
        Some(())
    }

    fn requires(&self, texts: &StringTable<'data, R>, at: u64) -> BTreeMap<String, Vec<String>> {
        let mut requires: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let libraries = self.chain(at, |library: &Verneed<_>| library.vn_next.get(self.endian));
        for (at, library) in libraries {
            let Some(file) = self.text(texts, library.vn_file.get(self.endian)) else { continue };
            let Some(at) = at.checked_add(library.vn_aux.get(self.endian).into()) else { continue };
            let versions = self
                .chain(at, |version: &Vernaux<_>| version.vna_next.get(self.endian))
                .filter(|(_, version)| !version.vna_flags.get(self.endian).contains(VER_FLG_WEAK))
                .filter_map(|(_, version)| self.text(texts, version.vna_name.get(self.endian)));
            requires.entry(file).or_default().extend(versions);
        }
        requires.retain(|_, versions| !versions.is_empty());
        requires.values_mut().for_each(sort);
        requires
    }

    fn defines(&self, texts: &StringTable<'data, R>, at: u64) -> Vec<String> {
        let mut defines: Vec<String> = self
            .chain(at, |version: &Verdef<_>| version.vd_next.get(self.endian))
            .filter(|(_, version)| !version.vd_flags.get(self.endian).contains(VER_FLG_BASE))
            .filter_map(|(at, version)| {
                // The first name is the version's own, further ones are of what it extends.
                let at = at.checked_add(version.vd_aux.get(self.endian).into())?;
                let (_, name) = self.chain(at, |_: &Verdaux<_>| 0).next()?;
                self.text(texts, name.vda_name.get(self.endian))
            })
            .collect();
        sort(&mut defines);
        defines
    }

    /// Records with their offsets, from the one at `first` to one whose `next` is 0. Counts
    /// that stand elsewhere are not looked at, as the loader does not.
    fn chain<T: Pod>(
        &self,
        first: u64,
        next: impl Fn(&T) -> u32,
    ) -> impl Iterator<Item = (u64, &'data T)> {
        let mut following = Some(first);
        std::iter::from_fn(move || {
            let at = following.take()?;
            self.records_left.set(self.records_left.get().checked_sub(1)?);
            let record: &T = self.data.read_at(at).ok()?;
            following = Some(next(record))
                .filter(|step| *step != 0)
                .and_then(|step| at.checked_add(step.into()));
            Some((at, record))
        })
    }

    fn text(&self, texts: &StringTable<'data, R>, at: u32) -> Option<String> {
        // Looked at first, because what is read stays in memory.
        if self.text_left.get() == 0 {
            return None;
        }
        let text = texts.get(at).ok()?;
        self.text_left.set(self.text_left.get().saturating_sub(text.len() + 1));
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

fn sort(versions: &mut Vec<String>) {
    versions.sort();
    versions.dedup();
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn facts(bytes: &[u8]) -> ElfFacts {
        super::facts(Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn own_executable() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let whole = facts(&bytes);
        assert_eq!(whole.class, usize::BITS as u8);
        assert!(whole.interpreter.is_some());
        assert_eq!(whole.soname, None);
        assert!(whole.needed.contains(&"libc.so.6".to_owned()), "{whole:?}");
        assert!(whole.requires["libc.so.6"].iter().any(|version| version.starts_with("GLIBC_2.")));
        assert!(
            whole.requires.keys().all(|file| whole.needed.contains(file) || file.contains("ld"))
        );
        assert_eq!(whole.defines, [""; 0]);
        assert_eq!(facts(&bytes[..64]).machine, whole.machine);
        for length in 0..64 {
            let _ = super::facts(Cursor::new(&bytes[..length]));
        }
        assert_eq!(super::facts(Cursor::new(b"#!/bin/sh\n")), None);
    }

    #[test]
    fn own_libc() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.split_whitespace().find(|part| part.ends_with("/libc.so.6")).unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        let whole = facts(&bytes);
        assert_eq!(whole.soname.as_deref(), Some("libc.so.6"));
        assert!(whole.defines.contains(&"GLIBC_PRIVATE".to_owned()), "{whole:?}");
        assert!(!whole.defines.contains(&"libc.so.6".to_owned()), "{whole:?}");
        assert!(whole.defines.is_sorted() && whole.requires.values().all(|all| all.is_sorted()));
        // Section headers are not looked at.
        let at = if whole.class == 32 { 0x20 } else { 0x28 };
        bytes[at..at + usize::from(whole.class) / 8].fill(0xff);
        bytes[at + usize::from(whole.class / 8) * 2 - 4..][..2].fill(0);
        assert_eq!(facts(&bytes).defines, whole.defines);
    }

    /// An ELF file made by hand, all of which is loaded at `BASE`.
    struct Made {
        class: u8,
        little: bool,
        dynamic: Vec<(u64, u64)>,
        texts: &'static [u8],
        /// Numbers and their sizes.
        records: Vec<(usize, u64)>,
        tail: Vec<u8>,
    }

    const BASE: u64 = 0x10000;
    /// Offsets of the parts.
    const RECORDS: u64 = 0x100;
    const TEXTS: u64 = 0x200;
    const DYNAMIC: u64 = 0x280;
    const TAIL: u64 = 0x20000;

    impl Made {
        fn bytes(&self) -> Vec<u8> {
            let word = usize::from(self.class) * 4;
            let mut bytes = vec![0x7f, b'E', b'L', b'F', self.class, 2 - u8::from(self.little), 1];
            bytes.resize(16, 0);
            let mut add = |at: u64, numbers: &[(usize, u64)]| {
                bytes.resize(bytes.len().max(at as usize), 0);
                for (size, number) in numbers {
                    let number = number.to_le_bytes();
                    let number = number[..*size].iter();
                    if self.little { bytes.extend(number) } else { bytes.extend(number.rev()) }
                }
            };
            let (header, entry) = if self.class == 1 { (52, 32) } else { (64, 56) };
            add(0, &[(2, 3), (2, 0), (4, 1), (word, 0), (word, header), (word, 0), (4, 0)]);
            add(0, &[(2, header), (2, entry), (2, 2), (2, 0), (2, 0), (2, 0)]);
            let size = (self.dynamic.len() * word * 2) as u64;
            let loaded = TAIL + self.tail.len() as u64;
            for (kind, at, size) in [(1, 0, loaded), (2, DYNAMIC, size)] {
                let places = [at, BASE + at, 0, size, size].map(|number| (word, number));
                let flags = [(4, 4)];
                let (before, after): (&[_], &[_]) =
                    if self.class == 1 { (&[], &flags) } else { (&flags, &[]) };
                add(0, &[&[(4, kind)], before, &places, after, &[(word, 1)]].concat());
            }
            add(RECORDS, &self.records);
            add(TEXTS, &self.texts.iter().map(|byte| (1, (*byte).into())).collect::<Vec<_>>());
            let dynamic = self.dynamic.iter();
            let dynamic = dynamic.flat_map(|(tag, value)| [(word, *tag), (word, *value)]);
            add(DYNAMIC, &dynamic.collect::<Vec<_>>());
            if !self.tail.is_empty() {
                bytes.resize(TAIL as usize, 0);
                bytes.extend(&self.tail);
            }
            bytes
        }
    }

    /// One that is as it should be, and what it says.
    fn made(class: u8, little: bool) -> (Made, ElfFacts) {
        let need = |file, next| [(2, 1), (2, 2), (4, file), (4, 16), (4, next)];
        let version = |flags, name, next| [(4, 0), (2, flags), (2, 2), (4, name), (4, next)];
        let define = |flags, next| [(2, 1), (2, flags), (2, 1), (2, 1), (4, 0), (4, 20), (4, next)];
        let records = [
            &need(1, 64)[..],
            &version(0, 8, 16),
            &version(2, 11, 16),
            &version(0, 5, 0),
            &need(14, 0),
            &version(2, 5, 0),
            &define(1, 28),
            &[(4, 18), (4, 0)],
            &define(0, 0),
            &[(4, 5), (4, 0)],
        ];
        let at = |offset| BASE + offset;
        let verdef = at(RECORDS + 6 * 16);
        let made = Made {
            class,
            little,
            dynamic: vec![
                (1, 14),
                (1, 1),
                (14, 18),
                (5, at(TEXTS)),
                (10, 24),
                (0x6fff_fffe, at(RECORDS)),
                (0x6fff_fffc, verdef),
                (0, 0),
                (1, 5),
            ],
            texts: b"\0a.1\0v2\0v1\0v3\0b.1\0self\0\0",
            records: records.concat(),
            tail: Vec::new(),
        };
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let facts = ElfFacts {
            class: class * 32,
            little_endian: little,
            soname: Some("self".into()),
            needed: texts(&["b.1", "a.1"]),
            requires: BTreeMap::from([("a.1".into(), texts(&["v1", "v2"]))]),
            defines: texts(&["v2"]),
            ..ElfFacts::default()
        };
        (made, facts)
    }

    #[test]
    fn every_class_and_byte_order_is_read() {
        for (class, little) in [(1, true), (1, false), (2, true), (2, false)] {
            let (made, said) = made(class, little);
            assert_eq!(facts(&made.bytes()), said);
        }
    }

    #[test]
    fn damage_loses_what_is_damaged() {
        let (made, said) = made(2, true);
        let bytes = made.bytes();
        for length in 64..bytes.len() {
            let _ = facts(&bytes[..length]);
        }
        for at in 16..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = facts(&bytes);
            }
        }
        let damaged = |at: u64, facts: ElfFacts| {
            let mut bytes = bytes.clone();
            bytes[at as usize..][..4].fill(0xff);
            assert_eq!(super::tests::facts(&bytes), facts, "{at:#x}");
        };
        let said = || said.clone();
        damaged(DYNAMIC + 2 * 16 + 8, ElfFacts { soname: None, ..said() });
        damaged(DYNAMIC + 8, ElfFacts { needed: vec!["a.1".into()], ..said() });
        damaged(DYNAMIC + 4 * 16 + 8, said());
        damaged(DYNAMIC + 5 * 16 + 8, ElfFacts { requires: BTreeMap::new(), ..said() });
        damaged(DYNAMIC + 6 * 16 + 8, ElfFacts { defines: Vec::new(), ..said() });
        damaged(RECORDS + 12, said());
    }

    #[test]
    fn what_is_read_has_an_end() {
        let (mut made, _) = made(2, true);
        made.texts = &[b'x'; 0x80];
        made.dynamic.retain(|(tag, _)| *tag != 10);
        made.dynamic.splice(..2, vec![(1, 0); ENTRIES_AT_MOST - 16]);
        let kept: usize = facts(&made.bytes()).needed.iter().map(String::len).sum();
        assert!((TEXT_BYTES_AT_MOST / 2..TEXT_BYTES_AT_MOST * 2).contains(&kept), "{kept}");
        // Each word of the tail is a record that leads to the next word, by all of its links.
        made.texts = b"xxxx\0";
        made.tail = [4, 0, 0, 0].repeat(1 << 18);
        let at = |offset| BASE + offset;
        made.dynamic =
            vec![(5, at(TEXTS)), (0x6fff_fffe, at(TAIL)), (0x6fff_fffc, at(TAIL)), (0, 0)];
        let requires = BTreeMap::from([(String::new(), vec![String::new()])]);
        assert_eq!(facts(&made.bytes()).requires, requires);
    }

    #[test]
    fn flags_stand_where_the_class_says() {
        let check = |class: u8, data: u8, at: usize, flags: [u8; 4]| {
            let mut header = vec![0; 64];
            header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
            header[at..at + 4].copy_from_slice(&flags);
            facts(&header).flags
        };
        assert_eq!(check(1, 1, 0x24, [0x00, 0x04, 0x00, 0x05]), 0x0500_0400);
        assert_eq!(check(2, 1, 0x30, [0x02, 0, 0, 0]), 2);
        assert_eq!(check(2, 2, 0x30, [0, 0, 0, 0x02]), 2);
    }
}
