//! Results on their way to a shared cache: beside the build, and for some time after it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::backend::{Asking, Refusal};
use super::content::Parts;
use super::statement::{Part, Statement};
use super::{Remote, Share, guard, share};
use crate::engine::{Engine, Outcome};
use crate::machine::network::{Content, Watch};
use crate::model::Digest;
use crate::model::event::Event;
use crate::plan::{Plan, Unit};
use crate::store::describe;

/// How many results are sent at once.
const AT_ONCE: usize = 2;
/// How long a build waits at its end for what is not sent yet.
const WAIT_AT_MOST: Duration = Duration::from_secs(120);

/// A result that is to be added.
struct Job {
    index: usize,
    key: Digest,
    /// Whether it may be there.
    is_old: bool,
}

/// What is sent in the background of a run.
pub struct Uploads {
    /// Without a key, there is none.
    queue: Option<Sender<Job>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// When the build has waited enough.
    end: Mutex<Option<Instant>>,
    left: AtomicUsize,
    late: AtomicUsize,
}

impl State {
    fn is_over(&self) -> bool {
        guard(&self.end).is_some_and(|end| Instant::now() > end)
    }
}

impl Uploads {
    /// Starts to send what is going to be added, on threads of `scope`.
    pub fn start<'scope>(
        engine: &'scope Engine,
        plan: &'scope Plan,
        scope: &'scope Scope<'scope, '_>,
    ) -> Self {
        let state = Arc::new(State::default());
        let Some(remote) = engine.remote.as_ref().filter(|remote| remote.signer.is_some()) else {
            return Self { queue: None, state };
        };
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..AT_ONCE {
            let (receiver, state) = (Arc::clone(&receiver), Arc::clone(&state));
            scope.spawn(move || work(engine, plan, remote, &receiver, &state));
        }
        Self { queue: Some(sender), state }
    }

    /// Adds the result of a unit that ran, where such results are shared.
    pub fn add(&self, plan: &Plan, index: usize, key: &Digest) {
        if share(&plan.units[index]) != Share::Nothing {
            self.send(Job { index, key: *key, is_old: false });
        }
    }

    fn send(&self, job: Job) {
        if let Some(queue) = &self.queue {
            self.state.left.fetch_add(1, Ordering::Relaxed);
            let _ = queue.send(job);
        }
    }

    /// Adds what the results of this run need and what was there before, so that others can
    /// name them; ends the queue, and says for how long it is waited for.
    pub fn end(mut self, engine: &Engine, plan: &Plan, outcome: &Outcome) {
        let ran = outcome.ran.keys().filter(|index| share(&plan.units[**index]) != Share::Nothing);
        let mut wanted: BTreeSet<usize> = ran.copied().collect();
        for index in (0..plan.units.len()).rev() {
            if wanted.contains(&index) {
                wanted.extend(&plan.units[index].needs);
            }
        }
        for index in wanted {
            let is_known = outcome.ran.contains_key(&index) || outcome.remote.contains(&index);
            let is_here = outcome.records.contains_key(&index) && !outcome.absent.contains(&index);
            if let Some(key) = outcome.keys.get(&index).filter(|_| is_here && !is_known)
                && share(&plan.units[index]) != Share::Nothing
            {
                self.send(Job { index, key: *key, is_old: true });
            }
        }
        *guard(&self.state.end) = Some(Instant::now() + WAIT_AT_MOST);
        let left = self.state.left.load(Ordering::Relaxed);
        if self.queue.take().is_some() && left > 0 && !engine.is_interrupted() {
            let text = format!("sending {left} results to the shared cache");
            engine.tell(Event::Note { text });
        }
    }
}

/// Sends results until there are no more.
fn work(
    engine: &Engine,
    plan: &Plan,
    remote: &Remote,
    queue: &Mutex<Receiver<Job>>,
    state: &State,
) {
    loop {
        let job = guard(queue).recv();
        let Ok(Job { index, key, is_old }) = job else { break };
        let unit = &plan.units[index];
        let is_left =
            remote.is_full.load(Ordering::Relaxed) || engine.is_interrupted() || state.is_over();
        if !is_left {
            let known = is_old && remote.find(engine, unit, &key).is_some();
            if !known && let Err(refusal) = upload(engine, remote, unit, &key, state) {
                remote.refused(engine, unit, refusal, state);
            }
        } else if state.is_over() {
            state.late.fetch_add(1, Ordering::Relaxed);
        }
        if state.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let late = state.late.swap(0, Ordering::Relaxed);
            if late > 0 {
                let name = remote.backend.name();
                let text =
                    format!("{late} results were not sent to the shared cache {name} in time");
                engine.tell(Event::Warning { text });
            }
        }
    }
}

/// Sends the result of a key: its parts, then the statement that names them.
fn upload(
    engine: &Engine,
    remote: &Remote,
    unit: &Unit,
    key: &Digest,
    state: &State,
) -> Result<(), Refusal> {
    let Some(signer) = &remote.signer else { return Ok(()) };
    let (record, about) = (engine.store.record(key), engine.store.about(key));
    let Some((record, about)) = record.zip(about) else { return Ok(()) };
    // What compilers made with what they had kept of other sources is of this machine alone.
    if about.kind.is_empty() || about.kind == "compile" && !about.is_clean {
        return Ok(());
    }
    let disk = |error: std::io::Error| Refusal::Disk(error.to_string());
    let mut statement = Statement::new(key, &record, about.elapsed_ms);
    let mut parts: Vec<(String, Part)> = Vec::new();
    let mut sent = 0;
    let mut send = |name: &str, part: Part, content: Content<'_>| {
        // Once something was wrong, that a part is there says nothing.
        let damaged = remote.wrong.load(Ordering::Relaxed) > 0;
        let ask = |asking: &Asking<'_>, watch: &mut Watch<'_>| {
            remote.backend.put_part(&part, content, damaged, asking, watch)
        };
        if remote.ask(engine, part.size_bytes, &|| state.is_over(), &ask)? {
            sent += part.size_bytes;
        }
        parts.push((name.to_owned(), part));
        Ok::<(), Refusal>(())
    };
    if share(unit) == Share::Content {
        let folder = engine.store.tree_path(&record.output);
        let tree = describe(&folder)?;
        // What is damaged here is found when something reads it.
        if tree.digest() != record.output {
            return Ok(());
        }
        let scratch = engine.store.scratch()?;
        let split = Parts::of(&tree);
        let file = scratch.path().join("pack");
        if let Some(pack) = split.pack(&folder, &file).map_err(disk)? {
            send("pack", pack.part, Content::File(&file))?;
            statement.pack = Some(pack);
        }
        for (digest, (path, size_bytes)) in &split.large {
            let part = Part { digest: *digest, size_bytes: *size_bytes };
            send(&format!("files/{path}"), part, Content::File(&folder.join(path)))?;
        }
        let json = tree.to_json();
        let part = Part { digest: record.output, size_bytes: json.len() as u64 };
        send("tree.json", part, Content::Bytes(&json))?;
        statement.tree_bytes = Some(part.size_bytes);
    }
    if let Some(digest) = record.observed {
        let file = engine.store.blob_path(&digest);
        let part = Part { digest, size_bytes: fs::metadata(&file).map_err(disk)?.len() };
        send("observed", part, Content::File(&file))?;
        statement.observed = Some(part);
    }
    let signed = statement.sign(signer);
    let ask = |asking: &Asking<'_>, watch: &mut Watch<'_>| {
        remote.backend.put_result(key, &signed, &parts, asking, watch)
    };
    remote.ask(engine, 0, &|| state.is_over(), &ask)?;
    remote.uploads.fetch_add(1, Ordering::Relaxed);
    remote.uploaded_bytes.fetch_add(sent, Ordering::Relaxed);
    Ok(())
}

impl Remote {
    /// Tells why a result was not added, or why none is any more.
    fn refused(&self, engine: &Engine, unit: &Unit, refusal: Refusal, state: &State) {
        let why = match refusal {
            Refusal::Stopped if engine.is_interrupted() => return,
            Refusal::Stopped if state.is_over() => {
                state.late.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Refusal::TooLarge => {
                let text = format!("{} is larger than the shared cache takes", unit.name);
                engine.tell(Event::Note { text });
                return;
            }
            Refusal::Disk(why) => {
                engine.tell(Event::Warning { text: why });
                return;
            }
            Refusal::Stopped => "it is too slow".to_owned(),
            Refusal::Missing => "it has no place for results".to_owned(),
            Refusal::Wrong(why) | Refusal::Unusable(why) | Refusal::Passing(why) => why,
        };
        if !self.is_full.swap(true, Ordering::Relaxed) {
            let name = self.backend.name();
            let text = format!("nothing more is added to the shared cache {name}: {why}");
            engine.tell(Event::Warning { text });
        }
    }
}
