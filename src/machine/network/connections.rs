//! Connections that are kept for many requests to one server, whose answers nobody has to have:
//! it is asked once, and not for long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Answer, NetworkError, NetworkProblem, Patience, Request, Watch, agent};
use crate::machine::environment::Environment;
use crate::model::source::redacted;

/// Patience for what can be done without.
const HASTY: Patience =
    Patience { connect: Duration::from_secs(3), wait: Duration::from_secs(8), pauses: &[] };

/// Servers look at what they were sent before they answer.
const SENDING: Patience = Patience { wait: Duration::from_secs(30), ..HASTY };

/// A connection that fails sooner was closed before the request.
const STALE: Duration = Duration::from_secs(1);

/// Connections. Each is used by one request at a time.
#[derive(Default)]
pub struct Connections {
    /// Each with whether it is for sending.
    idle: Mutex<Vec<(bool, ureq::Agent)>>,
}

impl Connections {
    /// Asks once, whatever the answer is.
    pub fn exchange(
        &self,
        request: &Request<'_>,
        environment: &Environment,
        watch: &mut Watch<'_>,
    ) -> Result<Answer, NetworkError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let sends = request.content.is_some();
        let new = || agent(if sends { &SENDING } else { &HASTY });
        let old = {
            let mut idle = idle();
            let at = idle.iter().position(|(other, _)| *other == sends);
            at.map(|at| idle.swap_remove(at).1)
        };
        let is_old = old.is_some();
        let mut agent = old.unwrap_or_else(new);
        let started = Instant::now();
        let mut result = super::watched(&agent, request, environment, watch);
        // Servers close connections that were idle for long.
        let is_closed = matches!(result, Err(NetworkProblem::Connection { .. }))
            && started.elapsed() < STALE
            && !(watch.stop)();
        if is_old && is_closed {
            agent = new();
            result = super::watched(&agent, request, environment, watch);
        }
        match result {
            Ok(answer) => {
                idle().push((sends, agent));
                Ok(answer)
            }
            Err(problem) => {
                let stopped = (watch.stop)();
                let problem = if stopped { NetworkProblem::Interrupted } else { problem };
                let doing = request.method.doing();
                Err(NetworkError { doing, url: redacted(request.url), problem })
            }
        }
    }
}
