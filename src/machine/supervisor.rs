//! The supervisor: while a command runs, each start of a program is looked at, and those
//! that are foreign to the machine are refused and recorded, as if no machine ever had an
//! emulator registered.
//!
//! It refuses by the program's header alone. When anything keeps it from reading that, the
//! kernel goes on as it would have. It stops no program that means harm: such a one can
//! change a path after it was read.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, openat};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::seccomp::{self, Answer, Filter, Start};
use super::starter::{FOLDER, READ, Starter};
use crate::model::attempt::{Attempt, Attempts};

/// How often orphans are waited for.
const TICK: Duration = Duration::from_secs(1);
/// How many missing files are recorded.
const MISSING_AT_MOST: usize = 10_000;
/// How often what a command left behind is ended; each round a few milliseconds.
const ROUNDS: usize = 500;

/// What `file` says of the starts of a command that ended. A file that is not whole says
/// that nobody looked.
pub fn read(file: &Path) -> Attempts {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The parent of a command, which answers for it.
pub struct Supervisor {
    /// The machine's processes: the command may show itself others.
    processes: OwnedFd,
    /// Where the attempts are written.
    record: Option<File>,
    /// Folder, as the command sees it, below which missing files are recorded.
    watch: Option<String>,
    found: Attempts,
}

impl Supervisor {
    /// Opens all that it needs by path, before a namespace may take the paths away.
    pub fn new(record: Option<&Path>, watch: Option<String>) -> io::Result<Self> {
        let processes = rustix::fs::open("/proc", FOLDER, Mode::empty())?;
        let record = record.map(File::create).transpose()?;
        Ok(Self { processes, record, watch, found: Attempts::default() })
    }

    /// Runs `command`, which is given the number of a socket as its last argument and is to
    /// [`answer_to`] it. Ends with it, and as it did, once all that it started has ended.
    pub fn run(mut self, command: &mut Command) -> io::Result<std::convert::Infallible> {
        let (ours, theirs) = UnixStream::pair()?;
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        // Orphans become this process's children: they are ended with the rest.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let child = command.arg(theirs.as_raw_fd().to_string()).spawn()?;
        drop(theirs);
        let child = Pid::from_child(&child);
        let listener = receive_listener(&ours);
        self.found.supervised = listener.is_some();
        let status = self.wait(child, listener)?;
        self.end_others();
        self.found.largest_bytes = seccomp::largest_child_bytes();
        if let Some(record) = &mut self.record {
            record.write_all(&serde_json::to_vec(&self.found)?)?;
        }
        end_like(status)
    }

    /// Answers every start until the child has ended.
    fn wait(&mut self, child: Pid, mut listener: Option<OwnedFd>) -> io::Result<WaitStatus> {
        let process = rustix::process::pidfd_open(child, PidfdFlags::empty())?;
        let tick = Timespec { tv_sec: TICK.as_secs() as i64, tv_nsec: 0 };
        let mut reaped = Instant::now();
        loop {
            let mut events = vec![PollFd::new(&process, PollFlags::IN)];
            events.extend(listener.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut events, Some(&tick)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has_ended = !events[0].revents().is_empty();
            let asked = events.get(1).map_or(PollFlags::empty(), PollFd::revents);
            match &listener {
                Some(listener) if asked.contains(PollFlags::IN) => self.serve(listener),
                // Nobody is left who could ask.
                Some(_) if !asked.is_empty() => listener = None,
                _ => {}
            }
            if has_ended || reaped.elapsed() >= TICK {
                reaped = Instant::now();
                while let Ok(Some((ended, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    if ended == child {
                        return Ok(status);
                    }
                }
            }
        }
    }

    fn serve(&mut self, listener: &OwnedFd) {
        let Ok(start) = seccomp::receive(listener) else { return };
        if start.is_look {
            self.note(&start);
            return seccomp::answer(listener, start.id, Answer::Continue);
        }
        let answer = match self.look(&start, listener) {
            Some(attempt) => {
                self.found.push(attempt);
                Answer::Refuse
            }
            None => Answer::Continue,
        };
        seccomp::answer(listener, start.id, answer);
    }

    /// Records a file that is looked for and not there. Whoever lies about it misleads itself.
    fn note(&mut self, look: &Start) {
        let Some(folder) = &self.watch else { return };
        let Ok(starter) = Starter::new(&self.processes, look.thread) else { return };
        if self.found.missing.len() < MISSING_AT_MOST
            && let Some(path) = starter.missing(look, folder)
        {
            self.found.missing.insert(path);
        }
    }

    /// The attempt that this start is, if it is one.
    fn look(&mut self, start: &Start, listener: &OwnedFd) -> Option<Attempt> {
        let starter = Starter::new(&self.processes, start.thread);
        // From here on the starter stays this thread, whoever gets its number.
        if !seccomp::waits(listener, start.id) {
            return None;
        }
        match starter {
            Ok(starter) => {
                let (program, machine) = starter.foreign(start)?;
                let probe = starter.evidence(&program).probe();
                Some(Attempt { program, machine, probe })
            }
            Err(_) => {
                // It may be gone by now; otherwise it does not let itself be looked at.
                self.found.supervised &= !seccomp::waits(listener, start.id);
                None
            }
        }
    }

    /// Ends what a command left running, as the end of a process namespace does.
    fn end_others(&self) {
        for _ in 0..ROUNDS {
            let read = openat(&self.processes, "thread-self/children", READ, Mode::empty());
            let children = read.ok().and_then(|file| io::read_to_string(File::from(file)).ok());
            let children = children.unwrap_or_default();
            let mut children = children.split_whitespace().peekable();
            if children.peek().is_none() {
                return;
            }
            for child in children.filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Makes this process, which is about to become a command, answer to the supervisor at the
/// other end of the socket of that number. Where the kernel refuses, the supervisor is told.
/// `filter` says what else becomes of it.
pub fn answer_to(socket: &str, filter: Filter) -> io::Result<()> {
    let number = socket.parse().map_err(io::Error::other)?;
    let socket = UnixStream::from(seccomp::inherited(number)?);
    let listener = seccomp::listen(filter);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let listener = listener.as_ref().map(|listener| [listener.as_fd()]);
    if let Ok(listener) = &listener {
        message.push(SendAncillaryMessage::ScmRights(listener));
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(b"!")], &mut message, SendFlags::empty())?;
    Ok(())
}

/// The listener that the child sends, if it has one and lives long enough.
fn receive_listener(socket: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        let mut buffer = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut buffer, &mut message, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(_) => break,
        }
    }
    let listener = message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    })?;
    seccomp::hurry(&listener);
    Some(listener)
}

/// Ends this process the way another one ended.
fn end_like(status: WaitStatus) -> ! {
    if let Some(number) = status.terminating_signal() {
        // The command's own core, if it wanted one, is written.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
        if let Some(signal) = Signal::from_named_raw(number) {
            seccomp::reset_signal(number);
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
        std::process::exit(128 + number);
    }
    std::process::exit(status.exit_status().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_not_whole_was_not_supervised() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attempts.json");
        assert_eq!(read(&file), Attempts::default());
        fs::write(&file, r#"{"supervised":true,"att"#).unwrap();
        assert_eq!(read(&file), Attempts::default());
        fs::write(&file, r#"{"supervised":true,"attempts":[]}"#).unwrap();
        assert_eq!(read(&file), Attempts::none());
    }
}
