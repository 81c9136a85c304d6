//! The walker: takes nodes for what they should be, and collects a diagnostic for each that is not.
//!
//! After a mistake its methods return something empty, so that the walk goes on; no result is used once there is a diagnostic.

use super::DIAGNOSTICS_MAX;
use super::diagnostic::{Diagnostic, Position};
use super::nearest::nearest;
use super::node::{Key, Node, Value};

/// Walks the tree of one file.
pub(super) struct Walker<'a> {
    file: &'a str,
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(file: &'a str, found: &'a mut Vec<Diagnostic>) -> Self {
        Self { file, found }
    }

    /// Adds a diagnostic while there is room: a file of nothing but mistakes must not fill the memory.
    pub(super) fn report(&mut self, at: Position, message: impl Into<String>, help: impl Into<String>) {
        if !self.has_room() {
            return;
        }
        self.found.push(Diagnostic {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            message: message.into(),
            help: help.into(),
        });
    }

    /// Whether a further diagnostic would be kept, so that it is worth finding good words for it.
    pub(super) fn has_room(&self) -> bool {
        self.found.len() < DIAGNOSTICS_MAX
    }

    /// Where a rule stands, for plans and nft comments.
    pub(super) fn origin(&self, at: Position) -> String {
        format!("{}:{}", self.file, at.line)
    }

    /// The values of the known keys of a mapping, in the order of `known`; none if it is no mapping.
    pub(super) fn fields<'n, const N: usize>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: [&str; N],
    ) -> Option<[Option<&'n Node>; N]> {
        let mut values = [None; N];
        for (key, value) in self.entries(node, what, &known.join(", "))? {
            match known.iter().position(|name| *name == key.text) {
                Some(at) => values[at] = Some(value),
                None => {
                    let help = match nearest(&key.text, known) {
                        Some(name) => format!("did you mean '{name}'?"),
                        None => format!("{what} has the keys {}", known.join(", ")),
                    };
                    self.report(key.at, format!("{what} has no key '{}'", cut(&key.text)), help);
                }
            }
        }
        Some(values)
    }

    /// The entries of a mapping of `of_what`.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        of_what: &str,
    ) -> Option<&'n [(Key, Node)]> {
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        let message = format!("{what} is a mapping, but here is {}", node.described());
        self.report(node.at, message, format!("write `key: value` pairs of {of_what}"));
        None
    }

    /// The items of a list, which may be empty.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        let message = format!("{what} is a list, but here is {}", node.described());
        self.report(
            node.at,
            message,
            "write [one, two], or one line for each item beginning with '- '",
        );
        &[]
    }

    /// The items of a list in which an empty one would mean something surprising.
    pub(super) fn items<'n>(&mut self, node: &'n Node, what: &str, max: usize, if_empty: &str) -> &'n [Node] {
        let items = self.list(node, what);
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            self.report(node.at, format!("{what} is an empty list"), if_empty);
        }
        if items.len() > max {
            let message = format!("{what} has {} entries where at most {max} fit", items.len());
            self.report(
                node.at,
                message,
                "write fewer and wider entries, such as networks and ranges, or split it",
            );
        }
        &items[..items.len().min(max)]
    }

    /// A text.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => return Some(text),
            Value::Number(_) | Value::Other(_) => {
                let message = format!("{what} is a text, but YAML reads {}", node.described());
                self.report(node.at, message, "put it in quotes");
            }
            Value::Nothing | Value::List(_) | Value::Map(_) => {
                let message = format!("{what} is a text, but here is {}", node.described());
                self.report(node.at, message, "write one word");
            }
        }
        None
    }
}

/// A text, short enough to be quoted in a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
