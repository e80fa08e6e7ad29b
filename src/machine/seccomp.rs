//! The kernel's notices of started programs: a filter that asks before each `execve` and
//! `execveat`, and the listener's side of it (seccomp_unotify(2)). Where there is no network
//! namespace, the filter refuses sockets of the internet, too.
//!
//! The place of the few other calls, too, that no crate offers without unsafe code.
//! Deliberately absent: what to answer.

#![allow(unsafe_code, reason = "system calls without a safe binding")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// One way into the kernel: its `AUDIT_ARCH` and its numbers of `execve` and `execveat`.
struct Entry {
    arch: u32,
    execve: u32,
    execveat: u32,
}

/// The way in that programs of this machine take.
const fn native(arch: u32) -> Entry {
    Entry { arch, execve: libc::SYS_execve as u32, execveat: libc::SYS_execveat as u32 }
}

/// Every way in that a program may take on this machine (`linux/audit.h`, the kernel's tables
/// of system calls).
#[cfg(target_arch = "x86_64")]
const ENTRIES: &[Entry] = &[
    native(0xC000_003E),
    // Of x32, which a 64-bit program can use, too.
    Entry { arch: 0xC000_003E, execve: 0x4000_0208, execveat: 0x4000_0221 },
    // Of i386.
    Entry { arch: 0x4000_0003, execve: 11, execveat: 358 },
];
#[cfg(target_arch = "aarch64")]
const ENTRIES: &[Entry] =
    &[native(0xC000_00B7), Entry { arch: 0x4000_0028, execve: 11, execveat: 387 }];
#[cfg(target_arch = "arm")]
const ENTRIES: &[Entry] = &[native(0x4000_0028)];
#[cfg(target_arch = "riscv64")]
const ENTRIES: &[Entry] = &[native(0xC000_00F3)];
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
const ENTRIES: &[Entry] = &[native(0xC000_0015)];
#[cfg(target_arch = "s390x")]
const ENTRIES: &[Entry] = &[native(0x8000_0016)];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64",
    all(target_arch = "powerpc64", target_endian = "little"),
    target_arch = "s390x"
)))]
const ENTRIES: &[Entry] = &[];

/// Calls of this machine that take a path after the folder that it starts in.
const LOOKS_AT: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    #[cfg(target_pointer_width = "64")]
    libc::SYS_newfstatat,
];
/// Calls of this machine that take a path first.
#[cfg(target_arch = "x86_64")]
const LOOKS: &[libc::c_long] =
    &[libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
const LOOKS: &[libc::c_long] = &[];

/// What a filter does beside asking about starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Whether sockets of the internet can be had.
    pub network: bool,
    /// Whether it asks about files that are looked at, too, which takes long.
    pub looks: bool,
}

/// A program that is about to be started, or a file to be looked at; whoever does it waits for
/// the answer.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// What the answer refers to.
    pub id: u64,
    /// Thread that starts it, as numbered for this process.
    pub thread: u32,
    /// Where in its memory the path stands.
    pub path: u64,
    /// Folder of a relative path; its own working folder, if there is none.
    pub folder: Option<RawFd>,
    /// Flags of `execveat`.
    pub flags: i32,
    /// Whether a file is looked at, and nothing started.
    pub is_look: bool,
}

/// What becomes of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel goes on as if nobody had asked.
    Continue,
    /// It fails as a program does that the kernel has no loader for (`ENOEXEC`).
    Refuse,
}

/// The filter's program. Whoever has it cannot lose it, nor can what it starts. Without
/// `network`, `socket` fails for the internet as it does where no network can be reached.
fn program(Filter { network, looks }: Filter) -> Vec<libc::sock_filter> {
    let step = |code, k, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let equal = |value, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, jt, jf);
    let end = |value| step(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    // Offsets in `struct seccomp_data`.
    let (number, arch) = (0, 4);
    let first_argument = if cfg!(target_endian = "big") { 20 } else { 16 };
    let mut steps = Vec::new();
    if let Some(native) = ENTRIES.first().filter(|_| !network) {
        steps.extend([
            load(arch),
            equal(native.arch, 0, 6),
            load(number),
            equal(libc::SYS_socket as u32, 0, 4),
            load(first_argument),
            equal(libc::AF_INET as u32, 1, 0),
            equal(libc::AF_INET6 as u32, 0, 1),
            end(libc::SECCOMP_RET_ERRNO | libc::ENETUNREACH as u32),
        ]);
    }
    if let Some(native) = ENTRIES.first().filter(|_| looks) {
        let calls: Vec<u32> = LOOKS_AT.iter().chain(LOOKS).map(|&call| call as u32).collect();
        let over = u8::try_from(2 * calls.len() + 1).expect("few calls");
        steps.extend([load(arch), equal(native.arch, 0, over), load(number)]);
        for call in calls {
            steps.extend([equal(call, 0, 1), end(libc::SECCOMP_RET_USER_NOTIF)]);
        }
    }
    for (index, entry) in ENTRIES.iter().enumerate() {
        // Over the rest of this entry, those after it, and the end that allows.
        let notify = u8::try_from(5 * (ENTRIES.len() - index - 1)).expect("few entries");
        steps.extend([
            load(arch),
            equal(entry.arch, 0, 3),
            load(number),
            equal(entry.execve, notify + 2, 0),
            equal(entry.execveat, notify + 1, 0),
        ]);
    }
    steps.extend([end(libc::SECCOMP_RET_ALLOW), end(libc::SECCOMP_RET_USER_NOTIF)]);
    steps
}

/// Makes this process, and all that it starts from now on, ask the returned listener before
/// each start of a program. It can gain no privileges from then on. Fails where the kernel
/// does not offer it, and where somebody listens already.
pub fn listen(filter: Filter) -> io::Result<OwnedFd> {
    if ENTRIES.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: the structure is made of integers, for which zero is a value.
    let mut sizes: libc::seccomp_notif_sizes = unsafe { zeroed() };
    // SAFETY: the kernel writes three integers to where they are declared.
    let known = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes)
    };
    if known != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::from(sizes.seccomp_notif) > size_of::<Room<libc::seccomp_notif>>()
        || usize::from(sizes.seccomp_notif_resp) > size_of::<Room<libc::seccomp_notif_resp>>()
    {
        return Err(io::ErrorKind::Unsupported.into());
    }
    rustix::thread::set_no_new_privs(true)?;
    let steps = program(filter);
    let filter =
        libc::sock_fprog { len: steps.len() as u16, filter: steps.as_ptr().cast_mut().cast() };
    // Kernels before 5.16 slow filtered processes down unless told not to.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // Since 5.19: no signal makes a start that is looked at fail with `EINTR`.
    let patient = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut listener = -1;
    for flags in [patient, flags] {
        // SAFETY: the filter and its steps live until the call returns, which only reads them.
        listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const filter,
            )
        };
        if listener >= 0 {
            break;
        }
    }
    let listener = RawFd::try_from(listener).unwrap_or(-1);
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel opened it for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Room for a structure of a kernel that knows more fields than this program.
#[repr(C)]
struct Room<T> {
    known: T,
    more: [u64; 32],
}

impl<T> Room<T> {
    fn new() -> Self {
        // SAFETY: used for structures of integers alone, for which zero is a value.
        unsafe { zeroed() }
    }
}

/// The next start that somebody waits with. Fails if nobody does any more.
pub fn receive(listener: impl AsFd) -> io::Result<Start> {
    let mut room = Room::<libc::seccomp_notif>::new();
    control(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut room)?;
    let libc::seccomp_notif { id, pid, data, .. } = room.known;
    // System call arguments that are `int` fill the lower half.
    let int = |index: usize| data.args[index] as i32;
    let is = |number: u32| number == data.nr as u32;
    let entry = |is_it: fn(&Entry) -> u32| {
        ENTRIES.iter().any(|entry| entry.arch == data.arch && is(is_it(entry)))
    };
    let at = entry(|entry| entry.execveat);
    let is_look = !at && !entry(|entry| entry.execve);
    let look_at = is_look && LOOKS_AT.iter().any(|&call| is(call as u32));
    Ok(if at || look_at {
        let folder = Some(int(0)).filter(|&folder| folder != libc::AT_FDCWD);
        let flags = if at { int(4) } else { 0 };
        Start { id, thread: pid, path: data.args[1], folder, flags, is_look }
    } else {
        Start { id, thread: pid, path: data.args[0], folder: None, flags: 0, is_look }
    })
}

/// Whether that start still waits: if not, its thread's number may be another's by now.
pub fn waits(listener: impl AsFd, id: u64) -> bool {
    let mut room = Room::<u64>::new();
    room.known = id;
    control(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut room).is_ok()
}

/// Answers a start. It may have been given up by now, which is no failure of anybody.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) {
    let mut room = Room::<libc::seccomp_notif_resp>::new();
    room.known.id = id;
    match answer {
        Answer::Continue => room.known.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Answer::Refuse => room.known.error = -libc::ENOEXEC,
    }
    let _ = control(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut room);
}

/// Lets the answer wake whoever waits on the same core at once, where the kernel can (6.6).
pub fn hurry(listener: impl AsFd) {
    // `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`; passed by value.
    // SAFETY: the call takes an integer and touches no memory.
    let _ = unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1_u64)
    };
}

fn control<T>(
    listener: BorrowedFd<'_>,
    request: libc::Ioctl,
    room: &mut Room<T>,
) -> io::Result<()> {
    // SAFETY: `listen` made sure that what the kernel reads and writes fits the room.
    match unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw mut *room) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The descriptor that the process which started this one left open for it.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks whether there is such a descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and this process has not used it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Memory of the largest process among those that this one started and waited for, in bytes
/// (getrusage(2)).
pub fn largest_child_bytes() -> u64 {
    // SAFETY: the structure is made of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: the kernel writes the structure that it is given.
    let got = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    if got == 0 { u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024 } else { 0 }
}

/// Makes a signal do to this process what it does to one that never asked for another effect.
pub fn reset_signal(number: i32) {
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { libc::signal(number, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter decides, by the few instructions that it is made of.
    fn decide(network: bool, arch: u32, number: u32, argument: u32) -> u32 {
        run(&program(Filter { network, looks: false }), arch, number, argument)
    }

    fn run(steps: &[libc::sock_filter], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = steps[at];
            at += 1;
            match (u32::from(step.code), step.k) {
                (0x20, 0) => value = number,
                (0x20, 4) => value = arch,
                (0x20, _) => value = argument,
                (0x15, k) => at += usize::from(if value == k { step.jt } else { step.jf }),
                (0x06, k) => return k,
                (code, _) => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_asks_about_starts_alone() {
        for (network, entry) in ENTRIES.iter().flat_map(|entry| [(true, entry), (false, entry)]) {
            let decide = |arch, number| decide(network, arch, number, 0);
            assert_eq!(decide(entry.arch, entry.execve), libc::SECCOMP_RET_USER_NOTIF);
            assert_eq!(decide(entry.arch, entry.execveat), libc::SECCOMP_RET_USER_NOTIF);
            assert_eq!(decide(entry.arch, 0), libc::SECCOMP_RET_ALLOW);
            assert_eq!(decide(entry.arch ^ 0xFF00, entry.execve), libc::SECCOMP_RET_ALLOW);
        }
        assert!(!ENTRIES.is_empty());
    }

    #[test]
    fn the_filter_asks_about_files_where_told() {
        let steps = program(Filter { network: true, looks: true });
        let native = ENTRIES[0].arch;
        for call in LOOKS_AT.iter().chain(LOOKS) {
            assert_eq!(run(&steps, native, *call as u32, 0), libc::SECCOMP_RET_USER_NOTIF);
            assert_eq!(decide(true, native, *call as u32, 0), libc::SECCOMP_RET_ALLOW);
        }
        for call in [libc::SYS_read, libc::SYS_close, libc::SYS_mmap] {
            assert_eq!(run(&steps, native, call as u32, 0), libc::SECCOMP_RET_ALLOW);
        }
        let start = run(&steps, native, ENTRIES[0].execve, 0);
        assert_eq!(start, libc::SECCOMP_RET_USER_NOTIF);
    }

    #[test]
    fn the_filter_refuses_the_internet_where_asked() {
        let socket = |network, family: i32| {
            decide(network, ENTRIES[0].arch, libc::SYS_socket as u32, family as u32)
        };
        let refused = libc::SECCOMP_RET_ERRNO | libc::ENETUNREACH as u32;
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(socket(false, family), refused);
            assert_eq!(socket(true, family), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(socket(false, libc::AF_UNIX), libc::SECCOMP_RET_ALLOW);
        assert_eq!(socket(false, libc::AF_NETLINK), libc::SECCOMP_RET_ALLOW);
    }
}
