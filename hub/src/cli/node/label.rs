//! `holdfast node label`: the whole set of a node's labels, composed from what operators signed before.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::InvalidId;
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload as _;
use serde_json::json;

use crate::cli::cosign::{self, Finished, Place, Proposal};
use crate::cli::labels::{self, Held};
use crate::cli::session::Session;
use crate::cli::{Ending, Format, Operator, ask, document, output};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast node label db-1 tier=1 site-      # set tier, remove site\n  \
    holdfast node label db-1 --set role=db     # this one label, and no other\n\n\
    The node then takes the slices of the current release that its new labels select, under the guard.")]
pub(in crate::cli) struct Label {
    /// The node's name
    name: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(value_name = "LABEL")]
    edits: Vec<Edit>,
    /// Give the node these labels and no other
    #[arg(long)]
    set: bool,
    /// Do not ask where what the node is now cannot be verified
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

/// One word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    Put(String, String),
    Drop(String),
}

impl FromStr for Edit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let checked = |key: &str, value: &str| {
            let pair = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            Labels::try_from(pair).map_err(|error: InvalidId| error.to_string())
        };
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => {
                checked(key, value)?;
                Ok(Self::Put(key.to_owned(), value.to_owned()))
            }
            (None, Some(key)) => {
                checked(key, "x")?;
                Ok(Self::Drop(key.to_owned()))
            }
            (None, None) => Err("KEY=VALUE, such as role=db, or KEY- wanted".to_owned()),
        }
    }
}

/// Why labels are not composed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum RefuseEdit {
    #[error("the label '{0}' is named twice")]
    Twice(String),
    #[error("the node has no label '{0}'")]
    Absent(String),
    #[error("'{0}-' removes a label, and --set gives the whole set: leave it out")]
    DropOfSet(String),
    #[error("name a label, or give --set to leave the node none")]
    Nothing,
    #[error(transparent)]
    Invalid(#[from] InvalidId),
}

/// The labels that `edits` make of `held`.
fn compose(held: &Labels, edits: &[Edit], set: bool) -> Result<Labels, RefuseEdit> {
    if edits.is_empty() && !set {
        return Err(RefuseEdit::Nothing);
    }
    let mut labels: BTreeMap<String, String> = if set { BTreeMap::new() } else { held.clone().into() };
    let mut named = Vec::new();
    for edit in edits {
        let (Edit::Put(key, _) | Edit::Drop(key)) = edit;
        if named.contains(&key) {
            return Err(RefuseEdit::Twice(key.clone()));
        }
        named.push(key);
        match edit {
            Edit::Put(key, value) => {
                labels.insert(key.clone(), value.clone());
            }
            Edit::Drop(key) if set => return Err(RefuseEdit::DropOfSet(key.clone())),
            Edit::Drop(key) => {
                labels
                    .remove(key)
                    .ok_or_else(|| RefuseEdit::Absent(key.clone()))?;
            }
        }
    }
    Ok(labels.try_into()?)
}

impl Label {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let held = labels::held(&mut session, &self.name).await?;
        if let Err(refused) = &held.signers
            && !self.set
        {
            bail!(
                "what '{}' is now cannot be verified, so nothing can be added to it: {refused}. Give all of its labels \
                 with --set",
                self.name
            );
        }
        if held.version_on_node > held.version && !self.set {
            bail!(
                "'{}' holds labels version {}, and this hub knows of version {}: was an old backup restored? Give all of \
                 its labels with --set",
                self.name,
                held.version_on_node,
                held.version
            );
        }
        let labels = compose(&held.labels, &self.edits, self.set)?;
        if labels == held.labels && held.signers.is_ok() && held.version_on_node <= held.version {
            match self.operator.output {
                Format::Json => output::json(json!({ "labels": self.to_json(&held, held.version, &labels) })),
                Format::Table => output::say("nothing to do: the node has these labels"),
            }
            return Ok(Ending::Done);
        }
        let change = self.change(&session, &held, labels.clone())?;
        let reading = document::read_labels(&session.context.trust_domain, &held, &self.name, &change)?;
        output::remark(&reading.text());
        if held.signers.is_err() {
            ask::confirm("Set them nevertheless?", self.yes)?;
        }
        let proposal = Proposal {
            kind: DraftKind::Labels,
            envelope: Envelope::unsigned(serde_json::to_vec(&change).expect("texts and numbers")),
            slices: Vec::new(),
        };
        let finished = cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
        if let Finished::Waiting(waiting) = finished {
            return Ok(waiting.tell(self.operator.output));
        }
        match self.operator.output {
            Format::Json => output::json(json!({ "labels": self.to_json(&held, change.version, &labels) })),
            Format::Table => output::say(&format!(
                "labels of '{}' are version {} now; `holdfast node show {}` says when it has them",
                self.name, change.version, self.name
            )),
        }
        Ok(Ending::Done)
    }

    fn change(&self, session: &Session, held: &Held, labels: Labels) -> anyhow::Result<LabelChange> {
        let Some(version) = held.next(self.set) else {
            bail!(
                "the labels of '{}' are at the last version there can be: enrol the node anew",
                self.name
            );
        };
        Ok(LabelChange {
            kind: LabelChange::KIND.to_owned(),
            format: LabelChange::FORMAT,
            trust_domain: session.context.trust_domain.clone(),
            node: held.node,
            version,
            previous: (!self.set).then_some(held.digest),
            labels,
        })
    }

    fn to_json(&self, held: &Held, version: u64, labels: &Labels) -> serde_json::Value {
        json!({
            "name": self.name,
            "id": held.node,
            "version": version,
            "labels": labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Labels::try_from(pairs.collect::<BTreeMap<_, _>>()).unwrap()
    }

    fn edits(words: &str) -> Vec<Edit> {
        words
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }

    #[test]
    fn words_set_and_remove_labels_and_leave_the_others() {
        let held = labels(&[("role", "db"), ("site", "home")]);
        let made = |words, set| compose(&held, &edits(words), set);
        assert_eq!(
            made("tier=1 site-", false),
            Ok(labels(&[("role", "db"), ("tier", "1")]))
        );
        assert_eq!(
            made("role=web", false),
            Ok(labels(&[("role", "web"), ("site", "home")]))
        );
        assert_eq!(made("role=web", true), Ok(labels(&[("role", "web")])));
        assert_eq!(made("", true), Ok(Labels::default()));
    }

    #[test]
    fn words_that_contradict_are_refused() {
        let held = labels(&[("role", "db")]);
        let refused = |words, set| compose(&held, &edits(words), set).unwrap_err();
        assert_eq!(
            refused("role=a role=b", false),
            RefuseEdit::Twice("role".to_owned())
        );
        assert_eq!(
            refused("role=a role-", false),
            RefuseEdit::Twice("role".to_owned())
        );
        assert_eq!(refused("site-", false), RefuseEdit::Absent("site".to_owned()));
        assert_eq!(refused("role-", true), RefuseEdit::DropOfSet("role".to_owned()));
        assert_eq!(refused("", false), RefuseEdit::Nothing);
        for bad in ["role", "=db", "role=", "-", "a b=c", "role=a=b"] {
            assert!(bad.parse::<Edit>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_no_word_names_stays_as_it_is(
            held in proptest::collection::btree_map("[a-d]", "[x-z]", 0..4),
            words in proptest::collection::vec("[a-d]=[x-z]|[a-d]-", 1..4),
        ) {
            let held = Labels::try_from(held).unwrap();
            let edits: Vec<Edit> = words.iter().map(|word| word.parse().unwrap()).collect();
            let named = |key: &str| words.iter().any(|word| word.starts_with(key));
            if let Ok(new) = compose(&held, &edits, false) {
                for key in ["a", "b", "c", "d"] {
                    let wanted = words.iter().find_map(|word| word.strip_prefix(&format!("{key}=")));
                    let wanted = if named(key) { wanted } else { held.get(key) };
                    prop_assert_eq!(new.get(key), wanted, "{}", key);
                }
            } else {
                let drops_none = |word: &String| word.ends_with('-') && held.get(&word[..1]).is_none();
                let twice = words.iter().enumerate().any(|(n, word)| words[..n].iter().any(|w| w[..1] == word[..1]));
                prop_assert!(twice || words.iter().any(drops_none), "{:?}", words);
            }
        }

        #[test]
        fn no_word_is_read_but_as_it_is_written(text in "[a-c=-]{1,6}|\\PC{0,12}") {
            let written = |edit| match edit {
                Edit::Put(key, value) => format!("{key}={value}"),
                Edit::Drop(key) => format!("{key}-"),
            };
            if let Ok(edit) = text.parse::<Edit>() {
                prop_assert_eq!(written(edit), text);
            }
        }
    }
}
