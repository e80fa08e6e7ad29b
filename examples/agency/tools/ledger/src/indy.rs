//! What of libindy_vdr's C interface (`libindy_vdr.h`) is used here, made safe.
//!
//! The library keeps its settings and its last error for the whole process, so an error
//! may be another thread's where several threads use it.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ptr;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

const SUCCESS: i64 = 0;
/// Version 1.4 of the protocol between nodes and clients.
const NODE_1_4: i64 = 2;
/// Seconds; the library's own are for slow networks.
const SETTINGS: &CStr = cr#"{"ack_timeout":4,"reply_timeout":3,"conn_active_timeout":4}"#;

type Refreshed = extern "C" fn(id: i64, code: i64);
type Replied = extern "C" fn(id: i64, code: i64, reply: *mut c_char);

#[link(name = "indy_vdr")]
unsafe extern "C" {
    safe fn indy_vdr_version() -> *mut c_char;
    safe fn indy_vdr_set_protocol_version(version: i64) -> i64;
    fn indy_vdr_set_config(config: *const c_char) -> i64;
    fn indy_vdr_get_current_error(error: *mut *mut c_char) -> i64;
    fn indy_vdr_string_free(text: *mut c_char);
    fn indy_vdr_pool_create(parameters: *const c_char, pool: *mut i64) -> i64;
    fn indy_vdr_pool_refresh(pool: i64, callback: Option<Refreshed>, id: i64) -> i64;
    fn indy_vdr_pool_get_status(pool: i64, callback: Option<Replied>, id: i64) -> i64;
    safe fn indy_vdr_pool_close(pool: i64) -> i64;
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The library says so.
    Library(Failure),
    /// The library did not say anything for that long.
    Silence(Duration),
}

/// The library's account of what failed.
#[derive(Debug, Deserialize)]
pub struct Failure {
    code: i64,
    message: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Library(Failure { code, message: Some(message) }) => {
                write!(f, "{message} (libindy_vdr error {code})")
            }
            Error::Library(Failure { code, message: None }) => {
                write!(f, "libindy_vdr error {code}")
            }
            Error::Silence(patience) => write!(f, "no answer in {} s", patience.as_secs()),
        }
    }
}

impl std::error::Error for Error {}

/// The library's version.
pub fn version() -> String {
    // SAFETY: the library made the string for us.
    unsafe { take(indy_vdr_version()) }
}

/// A pool of nodes that keep a ledger together; closed when it is dropped.
#[derive(Debug)]
pub struct Pool(i64);

impl Pool {
    /// Reads the file of genesis transactions, which say where the nodes are. It asks none.
    pub fn open(genesis: &str) -> Result<Self, Error> {
        // SAFETY: the library copies what it needs of the string.
        check(unsafe { indy_vdr_set_config(SETTINGS.as_ptr()) })?;
        check(indy_vdr_set_protocol_version(NODE_1_4))?;
        let parameters = json!({ "transactions_path": genesis }).to_string();
        let parameters = CString::new(parameters).expect("JSON escapes control characters");
        let mut pool = 0;
        // SAFETY: as above, and the handle is written before the call returns.
        check(unsafe { indy_vdr_pool_create(parameters.as_ptr(), &mut pool) })?;
        Ok(Self(pool))
    }

    /// Asks the nodes whether they are where this pool is, and follows them if they are not.
    pub fn refresh(&self, patience: Duration) -> Result<(), Error> {
        // SAFETY: `refreshed` takes the id once.
        ask(patience, |id| unsafe { indy_vdr_pool_refresh(self.0, Some(refreshed), id) })?;
        Ok(())
    }

    /// What is known of the ledger and its nodes, as JSON.
    pub fn status(&self, patience: Duration) -> Result<String, Error> {
        // SAFETY: `replied` takes the id once.
        ask(patience, |id| unsafe { indy_vdr_pool_get_status(self.0, Some(replied), id) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // It fails for an unknown handle only.
        indy_vdr_pool_close(self.0);
    }
}

type Answer = Result<String, Error>;

/// Starts something that calls back with the id, and waits for that.
fn ask(patience: Duration, start: impl FnOnce(i64) -> i64) -> Answer {
    let (sender, answers) = mpsc::channel::<Answer>();
    let sender = Box::into_raw(Box::new(sender));
    if let Err(error) = check(start(sender.expose_provenance() as i64)) {
        // SAFETY: a call that fails does not call back, so the box is still ours.
        drop(unsafe { Box::from_raw(sender) });
        return Err(error);
    }
    answers.recv_timeout(patience).unwrap_or(Err(Error::Silence(patience)))
}

extern "C" fn refreshed(id: i64, code: i64) {
    replied(id, code, ptr::null_mut());
}

extern "C" fn replied(id: i64, code: i64, reply: *mut c_char) {
    // SAFETY: the library made the string for us, even where it is empty.
    let reply = unsafe { take(reply) };
    let answer = check(code).map(|()| reply);
    let sender = ptr::with_exposed_provenance_mut::<Sender<Answer>>(id as usize);
    // SAFETY: `ask` made the id of a box, and the library calls back once for each.
    let sender = unsafe { Box::from_raw(sender) };
    // Nobody listens any more if it took too long.
    let _ = sender.send(answer);
}

/// The library's last error, unless the code is that of success.
fn check(code: i64) -> Result<(), Error> {
    if code == SUCCESS {
        return Ok(());
    }
    let mut text = ptr::null_mut();
    // SAFETY: the library writes the pointer of a string that it made for us.
    let text = unsafe {
        indy_vdr_get_current_error(&mut text);
        take(text)
    };
    let told = serde_json::from_str(&text).ok().filter(|told: &Failure| told.message.is_some());
    Err(Error::Library(told.unwrap_or(Failure { code, message: None })))
}

/// Copies a string and gives it back; a null pointer is an empty one.
///
/// # Safety
/// The string is null or one that the library made, and nobody else uses it.
unsafe fn take(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, so the library's, which ends its strings with a zero byte.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        indy_vdr_string_free(text);
        copy
    }
}
