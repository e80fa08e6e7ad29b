//! Structured log lines: one JSON object per line on standard error.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    msg: &'a str,
    service: &'a str,
    #[serde(flatten)]
    fields: Value,
}

/// Logs something that went as expected; `fields` is a JSON object.
pub fn info(message: &str, fields: Value) {
    write("INFO", message, fields);
}

/// Logs something that failed; `fields` is a JSON object.
pub fn error(message: &str, fields: Value) {
    write("ERROR", message, fields);
}

/// Seconds since 1970-01-01T00:00:00Z.
pub fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn write(level: &str, message: &str, fields: Value) {
    let line = Line { time: rfc3339(unix_secs()), level, msg: message, service: "auth", fields };
    if let Ok(mut text) = serde_json::to_string(&line) {
        text.push('\n');
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The civil date of a day count, after Howard Hinnant's `civil_from_days`.
fn rfc3339(unix_secs: u64) -> String {
    let (days, second) = (unix_secs / 86_400 + 719_468, unix_secs % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
