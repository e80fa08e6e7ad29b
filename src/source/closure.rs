//! Dependency closures: which packages of an index are needed for some, for a machine that
//! has others already.
//!
//! The answer depends on nothing but the index and the question. Of alternatives the first
//! is preferred that something else does not rule out, of versions the highest; what is
//! needed anyway serves before anything is added for it. No `Recommends`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::index::{Id, Index};
use super::relation::Relation;

/// After so many choices that came to nothing, or that are open at a time, the question counts
/// as one without an answer.
const CHOICES_AT_MOST: usize = 5_000;

/// Why there is no closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoClosure {
    /// No package has the name, or provides it.
    Missing(String),
    /// What is needed cannot be had together.
    Unsatisfiable(String),
}

/// A group of alternatives, and the package that wants one of them.
#[derive(Clone, Debug)]
struct Group<'a> {
    alternatives: Vec<Relation<'a>>,
    owner: Option<Id>,
}

/// A group and the packages that may serve it.
type Open<'a> = (Rc<Group<'a>>, Vec<Id>);

/// A choice, and what was decided before it.
struct Choice<'a> {
    group: Rc<Group<'a>>,
    untried: std::vec::IntoIter<Id>,
    chosen: usize,
    versions: VecDeque<Rc<Group<'a>>>,
    choices: VecDeque<Rc<Group<'a>>>,
}

/// What was decided so far.
#[derive(Default)]
struct State<'a> {
    chosen: BTreeMap<&'a str, Id>,
    /// What was chosen, in this order.
    order: Vec<Id>,
    /// Who wanted a chosen package first.
    owners: BTreeMap<Id, Option<Id>>,
    /// What chosen packages cannot be with, by name.
    conflicts: BTreeMap<&'a str, Vec<(Id, Relation<'a>)>>,
    /// Names that chosen packages provide.
    provided: BTreeMap<&'a str, Vec<Id>>,
    fresh: VecDeque<Rc<Group<'a>>>,
    /// Groups of one package in several versions.
    versions: VecDeque<Rc<Group<'a>>>,
    /// Groups of several packages.
    choices: VecDeque<Rc<Group<'a>>>,
}

impl<'a> State<'a> {
    /// Makes it what it was before a choice.
    fn take_back(&mut self, index: &'a Index, choice: &Choice<'a>) {
        // The last come first, so that each is at the end of what it is in.
        for id in self.order.drain(choice.chosen..).rev() {
            self.chosen.remove(index.name(id));
            self.owners.remove(&id);
            for (name, _) in names(index, id) {
                self.provided.get_mut(name).map(Vec::pop);
            }
            for relation in excluded(index, id) {
                self.conflicts.get_mut(relation.name).map(Vec::pop);
            }
        }
        self.fresh.clear();
        self.versions.clone_from(&choice.versions);
        self.choices.clone_from(&choice.choices);
    }
}

/// What a package provides, with versions.
fn names(index: &Index, id: Id) -> impl Iterator<Item = (&str, &str)> {
    let provided = index.relations(id, "Provides").flatten();
    provided.map(|provided| (provided.name, provided.version.map_or("", |(_, v)| v)))
}

/// What a package cannot be with.
fn excluded<'a>(index: &'a Index, id: Id) -> impl Iterator<Item = Relation<'a>> {
    ["Conflicts", "Breaks"].into_iter().flat_map(move |name| index.relations(id, name)).flatten()
}

struct Solver<'a> {
    index: &'a Index,
    architecture: &'a str,
    /// Version of what is there already; none is every version.
    provided: BTreeMap<&'a str, Option<&'a str>>,
    /// Packages that can never be had, whatever else is chosen.
    broken: BTreeSet<Id>,
    choices: usize,
}

/// The packages that `packages` and what they depend on need beside `provided` (`name` in any
/// version, or `name=version`), which also stand for what they provide in the index.
pub fn closure(
    index: &Index,
    architecture: &str,
    packages: &[String],
    provided: &[String],
) -> Result<Vec<Id>, NoClosure> {
    let mut solver = Solver {
        index,
        architecture,
        provided: BTreeMap::new(),
        broken: BTreeSet::new(),
        choices: 0,
    };
    for text in provided {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text.as_str(), None),
        };
        solver.provided.insert(name, version);
        let same = |id: &&Id| version.is_none_or(|version| index.version(**id) == version);
        let known = index.versions(name).iter().find(same);
        for virtual_name in
            known.into_iter().flat_map(|id| index.relations(*id, "Provides")).flatten()
        {
            // What a package is there for in any version, its names are too.
            let version = version.map(|_| virtual_name.version.map_or("", |(_, version)| version));
            solver.provided.entry(virtual_name.name).or_insert(version);
        }
    }
    let mut state = State::default();
    for name in packages {
        let wanted = Relation { name, qualifier: None, version: None };
        if index.versions(name).is_empty() && index.providers(name).is_empty() {
            return Err(NoClosure::Missing(name.clone()));
        }
        let real = index.versions(name).first().map(|id| index.name(*id)).unwrap_or(name);
        let wanted = Relation { name: real, ..wanted };
        state.fresh.push_back(Rc::new(Group { alternatives: vec![wanted], owner: None }));
    }
    solver.solve(&mut state).map_err(NoClosure::Unsatisfiable)?;
    Ok(state.chosen.into_values().collect())
}

impl<'a> Solver<'a> {
    /// Completes what was decided, or says what stood in the way of the first attempt.
    ///
    /// Each choice can be taken back. They are a list and no calls inside one another, because
    /// lists of packages say how many there are.
    fn solve(&mut self, state: &mut State<'a>) -> Result<(), String> {
        let mut open: Vec<Choice<'a>> = Vec::new();
        let mut first = None;
        loop {
            match self.advance(state) {
                Ok(None) => return Ok(()),
                Ok(Some((group, _))) if open.len() >= CHOICES_AT_MOST => {
                    let why = "there are more choices than can be tried";
                    return Err(first.unwrap_or_else(|| self.chain(state, &group, why)));
                }
                Ok(Some((group, viable))) => open.push(Choice {
                    group,
                    untried: viable.into_iter(),
                    chosen: state.order.len(),
                    versions: state.versions.clone(),
                    choices: state.choices.clone(),
                }),
                Err(problem) => drop(first.get_or_insert(problem)),
            }
            loop {
                let is_over = first.is_some() && self.choices > CHOICES_AT_MOST;
                let Some(choice) = open.last_mut().filter(|_| !is_over) else {
                    return Err(first.unwrap_or_default());
                };
                state.take_back(self.index, choice);
                let Some(id) = choice.untried.next() else {
                    open.pop();
                    continue;
                };
                self.choices += 1;
                match self.choose(state, id, choice.group.owner) {
                    Ok(()) => break,
                    Err(problem) => drop(first.get_or_insert(problem)),
                }
            }
        }
    }

    /// Decides what follows from what was decided. A group of which one is to be chosen is
    /// left, unless all have what they need.
    fn advance(&mut self, state: &mut State<'a>) -> Result<Option<Open<'a>>, String> {
        while let Some(group) = state.fresh.pop_front() {
            if self.is_satisfied(state, &group) {
                continue;
            }
            let viable = self.viable(state, &group)?;
            match viable.as_slice() {
                [only] => self.choose(state, *only, group.owner)?,
                [first, rest @ ..] => {
                    let is_one = |id: &Id| self.index.name(*id) == self.index.name(*first);
                    let is_one = rest.iter().all(is_one);
                    let later = if is_one { &mut state.versions } else { &mut state.choices };
                    later.push_back(group);
                }
                [] => {}
            }
        }
        while let Some(group) = state.versions.pop_front().or_else(|| state.choices.pop_front()) {
            if !self.is_satisfied(state, &group) {
                let viable = self.viable(state, &group)?;
                return Ok(Some((group, viable)));
            }
        }
        Ok(None)
    }

    fn is_satisfied(&self, state: &State<'a>, group: &Group<'a>) -> bool {
        group.alternatives.iter().any(|relation| {
            self.is_provided(relation)
                || self.candidates(relation).any(|id| self.is_chosen(state, id))
        })
    }

    fn is_chosen(&self, state: &State<'a>, id: Id) -> bool {
        state.chosen.get(self.index.name(id)) == Some(&id)
    }

    /// Whether what is there already is what is wanted.
    fn is_provided(&self, relation: &Relation<'_>) -> bool {
        self.provided
            .get(relation.name)
            .is_some_and(|version| version.is_none_or(|version| takes(relation, version)))
    }

    /// The packages that a relation means, best first: those of the name, then those that
    /// provide it.
    fn candidates(&self, relation: &Relation<'a>) -> impl Iterator<Item = Id> + use<'a> {
        let Self { index, architecture, .. } = *self;
        let relation = *relation;
        let is_for = move |id: &Id| match relation.qualifier {
            None | Some("native") => true,
            Some("any") => index.field(*id, "Multi-Arch") == Some("allowed"),
            Some(other) => other == architecture,
        };
        let real = index.versions(relation.name).iter().copied();
        let real = real.filter(move |id| relation.takes(index.version(*id)));
        let providers = index.providers(relation.name).iter().copied().filter(move |id| {
            let provided = index.provides(*id, relation.name);
            index.name(*id) != relation.name
                && provided.is_some_and(|version| takes(&relation, version.unwrap_or_default()))
        });
        real.chain(providers).filter(is_for)
    }

    /// The packages of a group that what is chosen does not rule out; the reason if all are.
    fn viable(&self, state: &State<'a>, group: &Group<'a>) -> Result<Vec<Id>, String> {
        let mut viable = Vec::new();
        let mut why = None;
        for id in group.alternatives.iter().flat_map(|relation| self.candidates(relation)) {
            if self.broken.contains(&id) || viable.contains(&id) {
                continue;
            }
            match self.obstacle(state, id) {
                None => viable.push(id),
                Some(obstacle) => drop(why.get_or_insert(obstacle)),
            }
        }
        if viable.is_empty() {
            return Err(self.chain(state, group, &why.unwrap_or_default()));
        }
        Ok(viable)
    }

    /// What keeps a package from being chosen beside those that are.
    fn obstacle(&self, state: &State<'a>, id: Id) -> Option<String> {
        let index = self.index;
        let (name, version) = (index.name(id), index.version(id));
        if let Some(other) = state.chosen.get(name) {
            return Some(format!("version {} of {name} is needed too", index.version(*other)));
        }
        if let Some(Some(there)) = self.provided.get(name)
            && *there != version
        {
            return Some(format!("the base has version {there} of {name}"));
        }
        let names = std::iter::once((name, version)).chain(names(index, id));
        for (name, version) in names {
            for (owner, relation) in state.conflicts.get(name).into_iter().flatten() {
                if *owner != id && takes(relation, version) {
                    let (owner, own) = (self.shown(*owner), self.shown(id));
                    let is_own = relation.name == index.name(id);
                    let end = if is_own { "" } else { &format!(", which {own} provides") };
                    return Some(format!("{owner} cannot be with {relation}{end}"));
                }
            }
        }
        for relation in excluded(index, id) {
            let there = self.provided.get(relation.name).copied().flatten();
            let chosen = state.chosen.get(relation.name);
            let by_name = chosen.is_some_and(|other| relation.takes(index.version(*other)));
            let by_provider =
                state.provided.get(relation.name).into_iter().flatten().any(|other| {
                    let provided = index.provides(*other, relation.name);
                    provided.is_some_and(|version| takes(&relation, version.unwrap_or_default()))
                });
            if by_name || by_provider || there.is_some_and(|version| takes(&relation, version)) {
                return Some(format!("{} cannot be with {relation}", self.shown(id)));
            }
        }
        None
    }

    fn choose(&mut self, state: &mut State<'a>, id: Id, owner: Option<Id>) -> Result<(), String> {
        let index = self.index;
        state.chosen.insert(index.name(id), id);
        state.order.push(id);
        state.owners.insert(id, owner);
        for (name, _) in names(index, id) {
            state.provided.entry(name).or_default().push(id);
        }
        for relation in excluded(index, id) {
            state.conflicts.entry(relation.name).or_default().push((id, relation));
        }
        for name in ["Pre-Depends", "Depends"] {
            for alternatives in index.relations(id, name) {
                let group = Group { alternatives, owner: Some(id) };
                let can_be = group.alternatives.iter().any(|relation| {
                    self.is_provided(relation)
                        || self.candidates(relation).any(|id| !self.broken.contains(&id))
                });
                if !can_be {
                    self.broken.insert(id);
                    return Err(self.chain(state, &group, ""));
                }
                state.fresh.push_back(Rc::new(group));
            }
        }
        Ok(())
    }

    fn shown(&self, id: Id) -> String {
        format!("{} {}", self.index.name(id), self.index.version(id))
    }

    /// What is wanted by whom, up to what was asked for, and why it cannot be had.
    fn chain(&self, state: &State<'a>, group: &Group<'a>, obstacle: &str) -> String {
        let shown: Vec<String> = group.alternatives.iter().map(ToString::to_string).collect();
        let wanted = shown.join(" | ");
        let mut text = String::new();
        let mut owner = group.owner;
        let mut asked = Vec::new();
        while let Some(id) = owner.filter(|_| asked.len() < 50) {
            asked.push(self.shown(id));
            owner = state.owners.get(&id).copied().flatten();
        }
        asked.reverse();
        for (at, package) in asked.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { ", which needs " });
            text.push_str(package);
        }
        if asked.is_empty() {
            text.push_str(&format!("`{wanted}` cannot be had"));
        } else {
            text.push_str(&format!(", which needs `{wanted}`"));
        }
        if !obstacle.is_empty() {
            let link = if asked.is_empty() { ":" } else { ", but" };
            return format!("{text}{link} {obstacle}");
        }
        let mut versions: Vec<String> = Vec::new();
        for relation in &group.alternatives {
            match self.provided.get(relation.name).copied().flatten() {
                Some(version) if !version.is_empty() => {
                    versions.push(format!("the base has {} {version}", relation.name));
                }
                _ => {}
            }
            let known = self.index.versions(relation.name);
            if let Some(best) = known.first() {
                let id = *best;
                let is_broken = relation.takes(self.index.version(id));
                let end = if is_broken { ", which cannot be had either" } else { "" };
                versions.push(format!("the archive has {}{end}", self.shown(id)));
            }
        }
        if versions.is_empty() {
            return format!("{text}, but no package has that name or provides it");
        }
        format!("{text}, but {}", versions.join(" and "))
    }
}

/// Whether a relation takes what has, or is provided in, a version; one that is provided in
/// none only where none is asked for (Debian policy 7.5).
fn takes(relation: &Relation<'_>, version: &str) -> bool {
    if version.is_empty() { relation.version.is_none() } else { relation.takes(version) }
}

#[cfg(test)]
mod tests;
