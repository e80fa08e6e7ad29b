//! A process that is about to start a program: which one, for which machine, and what tells
//! a person who started it.
//!
//! All of it is read from the process's folder below `/proc`. Hostile bytes.
//! Deliberately absent: what becomes of the start.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    Access, AtFlags, Mode, OFlags, ResolveFlags, accessat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

use super::sandbox::STAGE_TWO;
use super::seccomp::Start;
use crate::model::attempt::Evidence;

/// Longest path that the kernel takes (`PATH_MAX`).
const PATH_BYTES_AT_MOST: usize = 4096;
/// How much of a program the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: u64 = 256;
/// How many interpreters the kernel goes through.
const INTERPRETERS_AT_MOST: usize = 5;
/// How much of a log's end, or of an environment, is read.
const EVIDENCE_BYTES_AT_MOST: u64 = 256 << 10;

/// How files are opened that may be anything.
pub const READ: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// How folders are opened.
pub const FOLDER: OFlags = OFlags::CLOEXEC.union(OFlags::PATH).union(OFlags::DIRECTORY);

/// A thread that starts a program and waits for the answer.
pub struct Starter<'a> {
    /// The machine's processes.
    processes: &'a OwnedFd,
    /// Its folder among them.
    process: OwnedFd,
    memory: File,
}

/// A file as a thread names it.
struct Place {
    /// Where relative paths begin, in the thread's folder.
    base: String,
    path: Vec<u8>,
}

impl<'a> Starter<'a> {
    /// The thread of that number, if it lets itself be looked at.
    pub fn new(processes: &'a OwnedFd, thread: u32) -> io::Result<Self> {
        let process = openat(processes, thread.to_string(), FOLDER, Mode::empty())?;
        let memory = File::from(openat(&process, "mem", READ, Mode::empty())?);
        Ok(Self { processes, process, memory })
    }

    /// The program that a start comes down to and its machine, if that is foreign.
    pub fn foreign(&self, start: &Start) -> Option<(String, u16)> {
        // Of `linux/fcntl.h`.
        const EMPTY_PATH: i32 = 0x1000;
        const NO_FOLLOW: i32 = 0x100;
        const ONLY_CHECK: i32 = 0x10000;
        let path = read_path(&self.memory, start.path)?;
        if start.flags & ONLY_CHECK != 0 || (path.is_empty() && start.flags & EMPTY_PATH == 0) {
            return None;
        }
        let mut flags =
            if start.flags & NO_FOLLOW != 0 { OFlags::NOFOLLOW } else { OFlags::empty() };
        let base = start.folder.map_or("cwd".to_owned(), |folder| format!("fd/{folder}"));
        let mut place = Place { base, path };
        for _ in 0..=INTERPRETERS_AT_MOST {
            let program = File::from(self.open(&place, flags)?);
            if !program.metadata().ok()?.is_file() {
                return None;
            }
            let mut head = Vec::new();
            (&program).take(HEAD_BYTES).read_to_end(&mut head).ok()?;
            if let Some(path) = interpreter(&head) {
                flags = OFlags::empty();
                place = Place { base: "cwd".to_owned(), path: path.to_owned() };
                continue;
            }
            let machine = foreign_machine(&head)?;
            // One that may not be executed fails for that reason.
            let file = format!("self/fd/{}", program.as_raw_fd());
            accessat(self.processes, &file, Access::EXEC_OK, AtFlags::empty()).ok()?;
            let path = readlinkat(self.processes, file, Vec::new()).unwrap_or_default();
            return Some((path.to_string_lossy().into_owned(), machine));
        }
        None
    }

    /// The absolute path of a file that is looked at below `folder`, if it is not there.
    /// Both are as the thread sees them.
    pub fn missing(&self, look: &Start, folder: &str) -> Option<String> {
        let path = read_path(&self.memory, look.path).filter(|path| !path.is_empty())?;
        let base = look.folder.map_or("cwd".to_owned(), |folder| format!("fd/{folder}"));
        let whole = match path.starts_with(b"/") {
            true => String::from_utf8_lossy(&path).into_owned(),
            false => {
                let base = readlinkat(&self.process, base.as_str(), Vec::new()).ok()?;
                format!("{}/{}", base.to_string_lossy(), String::from_utf8_lossy(&path))
            }
        };
        let whole = without_dots(&whole);
        let inside = whole.strip_prefix(folder)?;
        if !inside.starts_with('/') {
            return None;
        }
        let place = Place { base, path };
        self.open(&place, OFlags::PATH).is_none().then_some(whole)
    }

    /// Opens a file for reading as the thread would.
    fn open(&self, Place { base, path }: &Place, flags: OFlags) -> Option<OwnedFd> {
        let at = |folder: &OwnedFd, path: &[u8]| openat(folder, path, READ | flags, Mode::empty());
        let folder = |name: &str| openat(&self.process, name, FOLDER, Mode::empty()).ok();
        if path.is_empty() {
            return at(&self.process, base.as_bytes()).ok();
        }
        // Links that mean whoever follows them have to mean the thread.
        let own: [(&[u8], &[u8]); 3] =
            [(b"/proc/self/", b""), (b"/proc/thread-self/", b""), (b"/dev/fd/", b"fd/")];
        for (prefix, new) in own {
            if let Some(rest) = path.strip_prefix(prefix) {
                return at(&self.process, &[new, rest].concat()).ok();
            }
        }
        if !path.starts_with(b"/") {
            return at(&folder(base)?, path).ok();
        }
        let root = folder("root")?;
        let path = path.as_slice();
        match openat2(&root, path, READ | flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(file) => Some(file),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => None,
            // Not every kernel or container has it; the thread's root is nearly always the
            // supervisor's own, too.
            Err(_) => {
                at(&root, &path[path.iter().take_while(|&&byte| byte == b'/').count()..]).ok()
            }
        }
    }

    /// What is known of the thread.
    pub fn evidence(&self, program: &str) -> Evidence {
        let text = |base: &str, path: &str, end| {
            let place = Place { base: base.to_owned(), path: path.as_bytes().to_owned() };
            excerpt(&File::from(self.open(&place, OFlags::empty())?), end)
        };
        let list = |name: &str| {
            let text = text(name, "", false).unwrap_or_default();
            let words = text.split('\0').filter(|word| !word.is_empty());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut command_line = list("cmdline");
        if command_line.get(1).is_some_and(|word| word == STAGE_TWO) {
            command_line.clear();
        }
        let beside = program.rsplit_once('/').map_or("", |(folder, _)| folder);
        let logs = ["config.log", "../config.log", "../../config.log"];
        Evidence {
            program: program.to_owned(),
            config_log: logs.iter().find_map(|log| text("cwd", log, true)),
            cmake_lists: text("cwd", &format!("{beside}/CMakeLists.txt"), false),
            environment: list("environ"),
            command_line,
        }
    }
}

/// A path without `.` and `..`, going by its text.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The beginning, or the end, of a file's text.
fn excerpt(file: &File, end: bool) -> Option<String> {
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let at = if end { metadata.len().saturating_sub(EVIDENCE_BYTES_AT_MOST) } else { 0 };
    let mut bytes = vec![0; EVIDENCE_BYTES_AT_MOST as usize];
    let mut length = 0;
    while let Ok(more @ 1..) = file.read_at(&mut bytes[length..], at + length as u64) {
        length += more;
    }
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Reads a path from a process's memory, page by page: the one after its end may be missing.
fn read_path(memory: &File, address: u64) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    while path.len() < PATH_BYTES_AT_MOST {
        let at = address.checked_add(path.len() as u64)?;
        let mut part = [0; 4096];
        let part = &mut part[..4096 - (at % 4096) as usize];
        let length = memory.read_at(part, at).ok().filter(|&length| length > 0)?;
        if let Some(end) = part[..length].iter().position(|&byte| byte == 0) {
            path.extend(&part[..end]);
            return Some(path);
        }
        path.extend(&part[..length]);
    }
    None
}

/// The interpreter that a script names (execve(2), "Interpreter scripts").
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.split(|byte| b" \t\0".contains(byte)).find(|word| !word.is_empty())
}

/// The machine of an ELF file that this machine has no loader for, going by its first bytes.
fn foreign_machine(head: &[u8]) -> Option<u16> {
    const EM_386: u16 = 3;
    let head = head.first_chunk::<20>().filter(|head| head.starts_with(b"\x7fELF"))?;
    let (class, data) = (head[4], head[5]);
    let machine = [head[18], head[19]];
    let machine = if data == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    // Every x86-64 processor runs these; few arm64 ones run 32-bit programs.
    let is_i386 = cfg!(target_arch = "x86_64") && (machine, class, data) == (EM_386, 1, 1);
    let is_own = NATIVE.is_none_or(|native| (machine, class, data) == native);
    (!is_own && !is_i386).then_some(machine)
}

/// `e_machine`, `EI_CLASS` and `EI_DATA` of this machine's programs, which are this program's.
const NATIVE: Option<(u16, u8, u8)> = {
    let class = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    let data = if cfg!(target_endian = "little") { 1 } else { 2 };
    let machine = if cfg!(target_arch = "x86_64") {
        Some(62)
    } else if cfg!(target_arch = "aarch64") {
        Some(183)
    } else if cfg!(target_arch = "arm") {
        Some(40)
    } else if cfg!(target_arch = "riscv64") {
        Some(243)
    } else if cfg!(target_arch = "powerpc64") {
        Some(21)
    } else if cfg!(target_arch = "s390x") {
        Some(22)
    } else {
        None
    };
    match machine {
        Some(machine) => Some((machine, class, data)),
        None => None,
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, data: u8, machine: u16) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
        let bytes = if data == 2 { machine.to_be_bytes() } else { machine.to_le_bytes() };
        head[18..20].copy_from_slice(&bytes);
        head
    }

    #[test]
    fn foreign_programs_are_told_by_their_header() {
        let check = |class, data, machine| foreign_machine(&header(class, data, machine));
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(foreign_machine(&own), None);
        assert_eq!(check(2, 1, 8), Some(8));
        assert_eq!(check(2, 2, 22).is_some(), !cfg!(target_arch = "s390x"));
        assert_eq!(check(1, 1, 40).is_some(), !cfg!(target_arch = "arm"));
        if cfg!(target_arch = "x86_64") {
            assert_eq!(check(2, 1, 183), Some(183));
            assert_eq!(check(1, 1, 3), None);
            // x32, and what no machine is.
            assert_eq!(check(1, 1, 62), Some(62));
            assert_eq!(check(2, 2, 62), Some(62));
        }
        assert_eq!(foreign_machine(&header(2, 1, 8)[..19]), None);
        assert_eq!(foreign_machine(b"#!/bin/sh\nexit 0 # and more\n"), None);
    }

    #[test]
    fn paths_lose_their_dots() {
        assert_eq!(without_dots("/xs/src/a/../.././src//b"), "/xs/src/b");
        assert_eq!(without_dots("/../a"), "/a");
    }

    #[test]
    fn scripts_name_their_interpreter() {
        let check = |head| interpreter(head).map(|name| std::str::from_utf8(name).unwrap());
        assert_eq!(check(b"#!/bin/sh\nexit"), Some("/bin/sh"));
        assert_eq!(check(b"#! \t./a b\tc\n"), Some("./a"));
        assert_eq!(check(b"#!/usr/bin/env"), Some("/usr/bin/env"));
        assert_eq!(check(b"#!\n/bin/sh"), None);
        assert_eq!(check(b"\x7fELF#!/bin/sh\n"), None);
    }

    #[test]
    fn paths_are_read_over_the_ends_of_pages() {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut text = vec![b'a'; 3 * 4096];
        text.push(0);
        for length in [0, 1, 4000] {
            let at = &text[text.len() - 1 - length..];
            assert_eq!(read_path(&memory, at.as_ptr() as u64).unwrap().len(), length);
        }
        assert_eq!(read_path(&memory, text.as_ptr() as u64), None);
        assert_eq!(read_path(&memory, 0), None);
    }
}
