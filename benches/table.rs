//! The table: what was measured, beside the target that it is held to.

use serde::Serialize;

use crate::measure::{Sample, machine};

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether a value is as it should be.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    subject: &'static str,
    measure: String,
    /// `None` where it was skipped.
    sample: Option<Sample>,
    unit: &'static str,
    target: Option<Target>,
    /// Whether the median holds the target.
    met: Option<bool>,
    note: String,
}

impl Row {
    /// A figure without a target.
    pub fn new(measure: impl Into<String>, sample: Sample, unit: &'static str) -> Self {
        Self {
            subject: "",
            measure: measure.into(),
            sample: Some(sample),
            unit,
            target: None,
            met: None,
            note: String::new(),
        }
    }

    /// A figure that could not be taken; says so at once, too.
    pub fn skipped(measure: impl Into<String>, why: &str) -> Self {
        let measure = measure.into();
        eprintln!("SKIPPED: {measure}: {why}");
        let row = Self::new(measure, Sample::of([0.0]), "");
        Self { sample: None, note: format!("SKIPPED: {why}"), ..row }
    }

    /// Holds it to a target.
    #[must_use]
    pub fn held_to(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.met = self.sample.map(|sample| target.holds(sample.median));
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Table {
    version: u32,
    machine: String,
    /// By subject, the share of the machine that other processes used meanwhile.
    others: Vec<(&'static str, f64)>,
    rows: Vec<Row>,
}

impl Table {
    /// An empty one.
    pub fn new() -> Self {
        Self { version: 1, machine: machine(), others: Vec::new(), rows: Vec::new() }
    }

    /// Adds what was found of a subject.
    pub fn add(&mut self, subject: &'static str, rows: Vec<Row>, others: f64) {
        self.others.push((subject, others));
        self.rows.extend(rows.into_iter().map(|row| Row { subject, ..row }));
    }

    /// For programs.
    pub fn json(&self) -> String {
        format!("{}\n", serde_json::to_string_pretty(self).unwrap())
    }

    /// For people.
    pub fn text(&self) -> String {
        let head = ["SUBJECT", "MEASURE", "MEDIAN", "RANGE", "RUNS", "TARGET", "", "NOTE"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            let amount = |value: f64| number(value, row.unit);
            let sample = |form: fn(&Sample) -> String| row.sample.as_ref().map(form);
            let text = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let range = row.sample.map(|s| format!("{} to {}", amount(s.low), amount(s.high)));
            [
                row.subject.to_owned(),
                row.measure.clone(),
                text(row.sample.map(|s| format!("{} {}", amount(s.median), row.unit))),
                text(range),
                text(sample(|sample| sample.runs.to_string())),
                match row.target {
                    Some(Target::AtMost(limit)) => format!("<= {limit} {}", row.unit),
                    Some(Target::AtLeast(limit)) => format!(">= {limit} {}", row.unit),
                    None => String::new(),
                },
                row.met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned(),
                row.note.clone(),
            ]
        }));
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut text = format!("{}\n", self.machine);
        for (subject, share) in &self.others {
            text.push_str(&format!("{subject}: other processes used {:.0} %\n", share * 100.0));
        }
        text.push('\n');
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        "MB" if value < 10.0 => format!("{value:.2}"),
        "MB" | "MB/s" | "%" => format!("{value:.0}"),
        "x" => format!("{value:.2}"),
        "s" if value >= 10.0 => format!("{value:.1}"),
        "s" => format!("{value:.3}"),
        _ => format!("{value}"),
    }
}
