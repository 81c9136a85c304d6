//! How results look: aligned tables of at most 100 columns for people, JSON with a format number for programs.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs; the shape is in docs/json.md
    Json,
}

/// The widest line of a table.
const COLUMNS: usize = 100;
/// The widest cell but the last: a name may have 63 characters, few have 30.
const CELL: usize = 30;

fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// Prints `value` with `"format": 1` before its fields.
pub(super) fn json(value: Value) {
    let mut shape = serde_json::Map::from_iter([("format".to_owned(), Value::from(1))]);
    if let Value::Object(fields) = value {
        shape.extend(fields);
    }
    let text = serde_json::to_string_pretty(&Value::Object(shape)).expect("JSON values are JSON");
    // JSON escapes only the first 32 control characters; a terminal obeys more.
    say(&clean_lines(&text));
}

/// Prints a line of data. A reader that went away ends nothing: whoever closed the pipe has seen enough.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints progress or a remark, which is no data.
pub(super) fn remark(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints an error with its causes, each once.
pub(super) fn complain(error: &anyhow::Error) {
    let mut told = String::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<tonic::Status>() {
            // A status' own text repeats codes and metadata.
            Some(status) => status.message().to_owned(),
            None => cause.to_string(),
        };
        if !text.is_empty() && !told.contains(&text) {
            told = if told.is_empty() {
                text
            } else {
                format!("{told}\n  because: {text}")
            };
        }
    }
    remark(&format!("{} {}", paint("error:", "31;1"), clean_lines(&told)));
}

/// Colours `text` where a person reads it and did not ask otherwise (no-color.org).
pub(super) fn paint(text: &str, code: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    if plain || !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// `rows` under `head` as aligned lines: each cell but the last is cut to [`CELL`], and the last where a line would grow
/// over [`COLUMNS`], so that no node can push the others' columns out of sight.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cut = |(column, cell): (usize, &String)| match column + 1 == head.len() {
        true => cell.clone(),
        false => shorten(cell, CELL),
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().enumerate().map(cut).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        shorten(line.trim_end(), COLUMNS)
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A time that is left, in its largest unit: `3 d`, `7 h`, `12 min`, `40 s`.
pub(super) fn left(secs: u64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        7200..=172_799 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// Text from a node, a hub or a file, made safe for a terminal: what would steer it is shown, not sent.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The same for text of several lines.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Control characters, and those that hide or turn around what stands beside them (Unicode TR 36, section 3.6).
fn steers(c: char) -> bool {
    let hides = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_keep_within_a_hundred_columns() {
        let rows = vec![
            vec!["a".to_owned(), "x".repeat(200)],
            vec!["long".to_owned(), "y".to_owned()],
        ];
        let text = table(&["NAME", "DETAIL"], &rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "NAME  DETAIL");
        assert!(lines[1].starts_with("a     xxx") && lines[1].chars().count() == COLUMNS);
        assert_eq!(lines[2], "long  y");
    }

    #[test]
    fn what_nodes_say_cannot_drive_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
