//! Parsing: an operator's files become a [`Policy`], or a list of everything that is wrong with them.
//!
//! Three steps: `node` reads YAML into a tree in which every value knows its place (a syntax error ends that one file);
//! `groups`, then `rules`, walk the trees with a `walk::Walker`, which collects every mistake instead of the first; what
//! they made is merged into slices. Invariant: without a diagnostic every slice is sound.

mod diagnostic;
mod groups;
pub mod nearest;
mod node;
mod rules;
mod walk;

use std::collections::BTreeMap;

use holdfast_proto::SLICE_BYTES_MAX;

use crate::release::SLICES_MAX;
use crate::selector::Selector;
use crate::slice::{InvalidSlice, Slice, is_file_name};
pub use diagnostic::Diagnostic;
use diagnostic::Position;
use groups::Groups;
use node::Node;
use walk::Walker;

/// The most files in one policy.
pub const FILES_MAX: usize = 256;
/// The most bytes of one file.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The most diagnostics that are reported at once: nobody reads more before mending the first.
pub const DIAGNOSTICS_MAX: usize = 100;

/// A sound policy: its slices, sorted by selector, one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    slices: Vec<Slice>,
}

impl Policy {
    /// The slices, sorted by selector.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }
}

/// The outline of one file.
struct Outline<'a> {
    name: &'a str,
    groups: Option<&'a Node>,
    policies: &'a [Node],
}

/// A slice in the making, and where its selector was first written.
struct Draft<'a> {
    slice: Slice,
    file: &'a str,
    at: Position,
}

/// Reads a policy from `(file name, text)` pairs; their order does not matter.
///
/// # Errors
/// Every mistake that was found, at most [`DIAGNOSTICS_MAX`], in the order of files and lines.
pub fn load<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Policy, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut sources: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_ref(), text.as_ref()))
        .collect();
    sources.sort_unstable();
    check_set(&sources, &mut found);
    let trees: Vec<(&str, Node)> = sources
        .iter()
        .take(FILES_MAX)
        .filter_map(|&(name, text)| Some((name, read(name, text, &mut found)?)))
        .collect();
    let outlines: Vec<Outline> = trees
        .iter()
        .filter_map(|(name, root)| outline(name, root, &mut found))
        .collect();
    let groups = Groups::read(&outlines, trees.len() == sources.len(), &mut found);
    let drafts = merge(&outlines, &groups, &mut found);
    if found.is_empty() {
        check_drafts(&drafts, &mut found);
    }
    if found.is_empty() {
        return Ok(Policy {
            slices: drafts.into_iter().map(|draft| draft.slice).collect(),
        });
    }
    found.sort();
    found.truncate(DIAGNOSTICS_MAX);
    Err(found)
}

/// Checks what can be said of the files without reading them.
fn check_set(sources: &[(&str, &str)], found: &mut Vec<Diagnostic>) {
    if sources.is_empty() {
        let help = "name a directory with at least one file that ends in .yaml or .yml";
        found.push(Diagnostic::of_set("there are no policy files", help));
    }
    if sources.len() > FILES_MAX {
        let message = format!(
            "{} policy files where at most {FILES_MAX} are read",
            sources.len()
        );
        found.push(Diagnostic::of_set(
            message,
            "put several groups and policies into one file",
        ));
    }
    for pair in sources.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        Walker::new(pair[0].0, found).report(
            Position::FILE,
            "the file is given twice",
            "give each file once",
        );
    }
}

/// Reads one file's tree.
fn read(name: &str, text: &str, found: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut walker = Walker::new(name, found);
    if !is_file_name(name) {
        let help = "rename it: a letter or digit, then up to 63 letters, digits, '.', '-' and '_'; rules carry it as their origin";
        walker.report(Position::FILE, "the file's name cannot be used", help);
        return None;
    }
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes where at most {FILE_BYTES_MAX} are read",
            text.len()
        );
        walker.report(Position::FILE, message, "split it over several files");
        return None;
    }
    match node::read(text) {
        Ok(root) => Some(root),
        Err(error) => {
            walker.report(error.at, error.message, error.help);
            None
        }
    }
}

/// Finds the two sections of a file; a file that holds only comments has none.
fn outline<'a>(name: &'a str, root: &'a Node, found: &mut Vec<Diagnostic>) -> Option<Outline<'a>> {
    let mut walker = Walker::new(name, found);
    if root.is_nothing() {
        return None;
    }
    let [groups, policies] = walker.fields(root, "a policy file", ["groups", "policies"])?;
    let policies = policies
        .map(|node| walker.list(node, "policies"))
        .unwrap_or_default();
    Some(Outline {
        name,
        groups,
        policies,
    })
}

/// Merges the policies of all files into one slice for each selector, in the order of files, then lines.
fn merge<'a>(outlines: &[Outline<'a>], groups: &Groups, found: &mut Vec<Diagnostic>) -> Vec<Draft<'a>> {
    let mut drafts: BTreeMap<Selector, Draft> = BTreeMap::new();
    for outline in outlines {
        let mut walker = Walker::new(outline.name, found);
        for node in outline.policies {
            let Some(policy) = rules::policy(&mut walker, groups, node) else {
                continue;
            };
            let draft = drafts.entry(policy.selector.clone()).or_insert_with(|| Draft {
                slice: Slice::new(policy.selector),
                file: outline.name,
                at: node.at,
            });
            let slice = &mut draft.slice;
            slice.inbound.extend(policy.inbound);
            slice.outbound.extend(policy.outbound);
            slice.keep.extend(policy.keep);
            // Deny is the greater verdict: one entry that says it is enough.
            slice.outbound_default = slice.outbound_default.max(policy.outbound_default);
        }
    }
    drafts
        .into_values()
        .map(|mut draft| {
            draft.slice.groups = groups.named(&draft.slice);
            draft
        })
        .collect()
}

/// Checks what only whole slices can break: the bounds of what nodes load, links carry and stores take.
fn check_drafts(drafts: &[Draft], found: &mut Vec<Diagnostic>) {
    if drafts.is_empty() {
        found.push(Diagnostic::of_set(
            "the files hold no policies, which would leave every node without a firewall",
            "write `policies:` with at least one entry, such as `- select: all`",
        ));
    }
    if drafts.len() > SLICES_MAX {
        let message = format!(
            "{} different selectors where a release holds at most {SLICES_MAX}",
            drafts.len()
        );
        found.push(Diagnostic::of_set(message, "select by fewer labels"));
    }
    for Draft { slice, file, at } in drafts {
        let mut walker = Walker::new(file, found);
        let bytes = slice.to_bytes().len();
        if bytes > SLICE_BYTES_MAX {
            let message = format!(
                "all rules for '{}' come to {bytes} bytes where {SLICE_BYTES_MAX} fit",
                slice.selector
            );
            walker.report(
                *at,
                message,
                "name networks instead of single addresses, or split over more selectors",
            );
        } else if let Err(InvalidSlice::Unsound { place, flaw, .. }) = slice.check() {
            let message = format!(
                "all rules for '{}' cannot be sent: {place}: {flaw}",
                slice.selector
            );
            walker.report(
                *at,
                message,
                "count all entries with this selector, over all files",
            );
        }
    }
}

#[cfg(test)]
mod tests;
