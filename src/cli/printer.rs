//! The one printer: data to standard output, everything else to standard error.

#![allow(clippy::disallowed_macros, reason = "this is the door")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::arguments::Screen;
use crate::engine::report::Report;
use crate::engine::vendor::{Fetched, Vendored};
use crate::machine::environment::Environment;
use crate::model::event::Event;
use crate::source::lock::Lock;
use crate::source::pins::Move;

/// Shows events: as bars on a terminal, as lines elsewhere.
pub struct Printer {
    screen: Screen,
    bars: bool,
}

impl Printer {
    /// A printer for this terminal.
    pub fn new(environment: &Environment, screen: Screen) -> Self {
        let bars = screen == Screen::Normal
            && std::io::stderr().is_terminal()
            && environment.get("CI").is_none()
            && environment.get("TERM") != Some("dumb");
        Self { screen, bars }
    }

    /// Shows events until there are no more.
    pub fn show(&self, events: Receiver<Event>) {
        let screen = MultiProgress::new();
        let mut bars: BTreeMap<String, ProgressBar> = BTreeMap::new();
        let mut whole: Option<ProgressBar> = None;
        let line = |text: String| {
            if self.bars {
                let _ = screen.println(text);
            } else {
                eprintln!("{text}");
            }
        };
        for event in events {
            match event {
                Event::Planned { units } if self.bars => {
                    let style = ProgressStyle::with_template("  {pos}/{len} units {elapsed}");
                    let bar = screen.add(ProgressBar::new(units as u64));
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    whole = Some(bar);
                }
                Event::Cached { .. } => whole.iter().for_each(|bar| bar.inc(1)),
                Event::Failed { .. } | Event::Planned { .. } => {}
                _ if self.screen == Screen::Quiet => {
                    if let Event::Warning { text } = event {
                        eprintln!("warning: {text}");
                    }
                }
                Event::Note { text } => line(format!("  {text}")),
                Event::Warning { text } => line(format!("warning: {text}")),
                Event::Download { what, size_bytes, to } => {
                    let size = size_bytes
                        .map_or_else(String::new, |size| format!(" ({})", HumanBytes(size)));
                    line(format!("  downloading {what}{size} to {to}"));
                }
                Event::Downloaded { what, size_bytes } => {
                    line(format!("  downloaded {what} ({})", HumanBytes(size_bytes)));
                }
                Event::Started { unit, .. } if self.bars => {
                    let style = ProgressStyle::with_template("  {spinner} {msg} {elapsed}");
                    let bar = ProgressBar::new_spinner();
                    let bar = match &whole {
                        Some(whole) => screen.insert_before(whole, bar),
                        None => screen.add(bar),
                    };
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                    bar.set_message(unit.clone());
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bars.insert(unit, bar);
                }
                Event::Started { unit, why } => {
                    if self.screen == Screen::Verbose {
                        let why = if why.is_empty() { why } else { format!(": {why}") };
                        line(format!("  starting {unit}{why}"));
                    }
                }
                Event::Command { unit, line: command } => {
                    if self.screen == Screen::Verbose {
                        line(format!("  {unit}: {command}"));
                    }
                }
                Event::Output { unit, text } => {
                    if self.screen == Screen::Verbose {
                        text.lines().for_each(|output| line(format!("  {unit}: {output}")));
                    }
                }
                Event::Finished { unit, elapsed } => {
                    whole.iter().for_each(|bar| bar.inc(1));
                    if let Some(bar) = bars.remove(&unit) {
                        bar.finish_and_clear();
                    }
                    line(format!("  {unit} ({:.1} s)", elapsed.as_secs_f64()));
                }
            }
        }
        for bar in bars.values().chain(&whole) {
            bar.finish_and_clear();
        }
    }
}

/// Shows an error.
pub fn error(text: &str) {
    eprintln!("error: {text}");
}

/// Writes data. A reader that has gone away is no error.
pub fn data(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A size for people.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("reports have string keys only");
    text.push('\n');
    text
}

/// The table at the end of a build.
pub fn summary(report: &Report) -> String {
    let mut rows =
        vec![["IMAGE", "PLATFORM", "DIGEST", "SIZE", "LAYERS", "TIME"].map(str::to_owned)];
    for image in &report.images {
        rows.push([
            image.image.clone(),
            image.platform.as_ref().map_or_else(|| "(index)".to_owned(), ToString::to_string),
            image.digest.to_string()[..19].to_owned(),
            HumanBytes(image.size_bytes).to_string(),
            format!("{} new, {} shared", image.layers_new, image.layers_shared),
            format!("{:.1} s", Duration::from_millis(image.time_ms).as_secs_f64()),
        ]);
    }
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(&format!(
        "\n{} units ran, {} were there; {:.1} s; {} {}\n",
        report.units_run,
        report.units_cached,
        Duration::from_millis(report.elapsed_ms).as_secs_f64(),
        if report.written { "wrote" } else { "unchanged:" },
        report.layout.display()
    ));
    if let Some(remote) = &report.remote {
        text.push_str(&format!(
            "the shared cache {} knew {} results and sent {}; {} were added, {}\n",
            remote.at,
            remote.hits,
            HumanBytes(remote.downloaded_bytes),
            remote.uploads,
            HumanBytes(remote.uploaded_bytes)
        ));
    }
    text
}

/// What a lock pins, what is another than before, and what a folder keeps of it.
pub fn pins(
    lock: &Lock,
    moves: &BTreeSet<Move>,
    is_check: bool,
    vendored: Option<&Vendored>,
) -> String {
    let mut text: String = moves.iter().map(|moved| format!("{moved}\n")).collect();
    let packages: BTreeSet<_> =
        lock.packages.values().flat_map(|locked| &locked.set.packages).collect();
    text.push_str(&match (is_check, moves.is_empty()) {
        (true, true) => "nothing is newer than what images.lock pins\n".to_owned(),
        (true, false) => "`xstitch lock --update` moves images.lock to these\n".to_owned(),
        (false, _) => format!(
            "images.lock pins {} packages in {} sets, {} toolchains, {} sources, {} crate locks\n",
            packages.len(),
            lock.packages.len(),
            lock.toolchains.len(),
            lock.sources.len(),
            lock.cargo.len()
        ),
    });
    if let Some(Vendored { folder, files, size_bytes, removed, is_used }) = vendored {
        let size = HumanBytes(*size_bytes);
        text.push_str(&format!("{} keeps {files} files, {size}", folder.display()));
        if *removed > 0 {
            text.push_str(&format!("; {removed} that nothing pins were removed"));
        }
        text.push('\n');
        if !is_used {
            text.push_str("say `vendor = \"DIR\"` in [project], so that builds look there\n");
        }
    }
    text
}

/// What was downloaded.
pub fn fetched(fetched: &Fetched) -> String {
    let Fetched { units, units_run, size_bytes, .. } = fetched;
    let size = HumanBytes(*size_bytes);
    format!("{units_run} of {units} downloads were missing; everything is here, {size} unpacked\n")
}

/// Variables as a shell reads them.
pub fn variables(variables: &BTreeMap<String, String>) -> String {
    variables
        .iter()
        .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
        .collect()
}
