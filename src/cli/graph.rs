//! A plan as text: a tree, or a graph for Graphviz or Mermaid.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::since::{Since, TouchedImage, TouchedUnit};
use crate::plan::explanation::{Explained, State};

/// A tree that starts at what nothing else needs. What was shown is not shown again; where
/// everything is cached, what is below is only counted, unless all is asked for.
pub fn tree(units: &[Explained], all: bool) -> String {
    let places = places(units);
    let needed: BTreeSet<&str> =
        units.iter().flat_map(|unit| unit.needs.iter().map(String::as_str)).collect();
    let mut tree = Tree { units, places, all, shown: BTreeSet::new(), text: String::new() };
    for (index, unit) in units.iter().enumerate() {
        if !needed.contains(unit.unit.as_str()) {
            tree.show(index, "", "");
        }
    }
    let count = |state| units.iter().filter(|unit| unit.state == state).count();
    let (will, may, cached) = (count(State::WillRun), count(State::MayRun), count(State::Cached));
    tree.text.push_str(&format!("\n{will} units will run, {may} may run, {cached} are cached\n"));
    tree.text
}

fn places(units: &[Explained]) -> BTreeMap<&str, usize> {
    units.iter().enumerate().map(|(index, unit)| (unit.unit.as_str(), index)).collect()
}

struct Tree<'a> {
    units: &'a [Explained],
    places: BTreeMap<&'a str, usize>,
    all: bool,
    shown: BTreeSet<usize>,
    text: String,
}

impl Tree<'_> {
    fn show(&mut self, index: usize, first: &str, rest: &str) {
        let units = self.units;
        let unit = &units[index];
        let again = !self.shown.insert(index);
        let below = self.below(index);
        let is_cached = unit.state == State::Cached
            && below.iter().all(|&need| units[need].state == State::Cached);
        let hidden = is_cached && !self.all && !below.is_empty();
        let note = match (again, hidden) {
            (true, _) if !unit.needs.is_empty() => " (see above)".to_owned(),
            (false, true) => match below.len() {
                1 => ", as is the unit below it".to_owned(),
                count => format!(", as are the {count} units below it"),
            },
            _ => String::new(),
        };
        self.text.push_str(&format!("{first}{}  {}{note}\n", unit.unit, unit.text(self.all)));
        if again || hidden {
            return;
        }
        let needs: BTreeSet<usize> =
            unit.needs.iter().filter_map(|name| self.places.get(name.as_str()).copied()).collect();
        let last = needs.last().copied();
        for need in needs {
            let (corner, line) = match Some(need) == last {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            self.show(need, &format!("{rest}{corner}"), &format!("{rest}{line}"));
        }
    }

    /// All that a unit needs, and what that needs.
    fn below(&self, index: usize) -> BTreeSet<usize> {
        let mut below = BTreeSet::new();
        let mut left = vec![index];
        while let Some(at) = left.pop() {
            for name in &self.units[at].needs {
                if let Some(&need) = self.places.get(name.as_str())
                    && below.insert(need)
                {
                    left.push(need);
                }
            }
        }
        below
    }
}

/// Images that changes touch, and their units; only the names of images where that is wanted.
pub fn since(since: &Since, names_only: bool) -> String {
    let mut text = String::new();
    for TouchedImage { image, because } in &since.images {
        if names_only {
            text.push_str(&format!("{image}\n"));
        } else {
            text.push_str(&format!("image {image}: {}\n", list(because)));
        }
    }
    if names_only {
        return text;
    }
    for TouchedUnit { unit, because } in &since.units {
        text.push_str(&format!("  {unit}: {}\n", list(because)));
    }
    let (files, images, units) = (since.files.len(), since.images.len(), since.units.len());
    text.push_str(&format!(
        "\n{files} files changed since {}: {images} images and {units} units are touched\n",
        since.since
    ));
    text
}

fn list(because: &BTreeSet<String>) -> String {
    let mut shown: Vec<String> = because.iter().take(3).cloned().collect();
    if because.len() > 3 {
        shown.push(format!("{} more", because.len() - 3));
    }
    shown.join(", ")
}

/// A graph for Graphviz.
pub fn dot(units: &[Explained], all: bool) -> String {
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=filled];\n".to_owned();
    let places = places(units);
    for (index, unit) in units.iter().enumerate() {
        let color = match unit.state {
            State::Cached => "white",
            State::WillRun => "orange",
            State::MayRun => "lightyellow",
        };
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let (name, state) = (quote(&unit.unit), quote(&unit.text(all)));
        text.push_str(&format!("  u{index} [label=\"{name}\\n{state}\", fillcolor={color}];\n"));
        for need in unit.needs.iter().filter_map(|need| places.get(need.as_str())) {
            text.push_str(&format!("  u{index} -> u{need};\n"));
        }
    }
    text.push_str("}\n");
    text
}

/// A graph for Mermaid.
pub fn mermaid(units: &[Explained], all: bool) -> String {
    let mut text = "flowchart LR\n  classDef cached fill:#fff,stroke:#888\n  \
                    classDef will fill:#fa0,stroke:#333\n  \
                    classDef may fill:#ffd,stroke:#888\n"
        .to_owned();
    let places = places(units);
    for (index, unit) in units.iter().enumerate() {
        let class = match unit.state {
            State::Cached => "cached",
            State::WillRun => "will",
            State::MayRun => "may",
        };
        // Entities, with `#` for `&`, as its syntax has it.
        let quote = |text: &str| {
            let text = text.replace('#', "#35;").replace('"', "#quot;").replace('`', "#96;");
            text.replace('<', "#lt;").replace('>', "#gt;")
        };
        let (name, state) = (quote(&unit.unit), quote(&unit.text(all)));
        text.push_str(&format!("  u{index}[\"{name}<br/>{state}\"]:::{class}\n"));
        for need in unit.needs.iter().filter_map(|need| places.get(need.as_str())) {
            text.push_str(&format!("  u{index} --> u{need}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::reason::{Reason, Why};

    fn plan() -> Vec<Explained> {
        let unit = |name: &str, state: State, reasons: &[Reason], needs: &[&str]| Explained {
            unit: name.into(),
            kind: "compile",
            state,
            key: None,
            reasons: reasons.to_vec(),
            needs: needs.iter().map(|need| need.to_string()).collect(),
        };
        let source = Reason::of_change(Why::Source, "source", "src/\"a\".c", "changed");
        let need = Reason::new(Why::Need, "binary a", "needs binary a");
        vec![
            unit("userland", State::Cached, &[], &[]),
            unit("sysroot", State::Cached, &[], &["userland"]),
            unit("binary a", State::WillRun, &[source], &["userland", "sysroot"]),
            unit("layer a", State::MayRun, std::slice::from_ref(&need), &["binary a"]),
            unit("index a", State::MayRun, &[need], &["layer a", "sysroot"]),
            unit("index b", State::Cached, &[], &["sysroot"]),
        ]
    }

    #[test]
    fn trees() {
        insta::assert_snapshot!(tree(&plan(), false), @r#"
        index a  may run: needs binary a
        ├─ sysroot  cached, as is the unit below it
        └─ layer a  may run: needs binary a
           └─ binary a  will run: source src/"a".c changed
              ├─ userland  cached
              └─ sysroot  cached (see above)
        index b  cached, as are the 2 units below it

        1 units will run, 2 may run, 3 are cached
        "#);
        let all = tree(&plan(), true);
        assert!(all.contains("index b  cached\n└─ sysroot  cached (see above)\n"), "{all}");
    }

    #[test]
    fn graphs() {
        insta::assert_snapshot!(dot(&plan()[1..3], false), @r#"
        digraph plan {
          rankdir=LR;
          node [shape=box, style=filled];
          u0 [label="sysroot\ncached", fillcolor=white];
          u1 [label="binary a\nwill run: source src/\"a\".c changed", fillcolor=orange];
          u1 -> u0;
        }
        "#);
        insta::assert_snapshot!(mermaid(&plan()[1..3], false), @r##"
        flowchart LR
          classDef cached fill:#fff,stroke:#888
          classDef will fill:#fa0,stroke:#333
          classDef may fill:#ffd,stroke:#888
          u0["sysroot<br/>cached"]:::cached
          u1["binary a<br/>will run: source src/#quot;a#quot;.c changed"]:::will
          u1 --> u0
        "##);
    }
}
