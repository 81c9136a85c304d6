//! What a hub in the enemy's hand can and cannot do beside forging releases: a test for each line of the table in
//! SECURITY.md, those that succeed among them.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use holdfast_pki::authority::Authority;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::release::{Manifest, ReturnTo};
use holdfast_proto::ids::{Digest, NodeId};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use holdfast_proto::v1::{self, hub_message};
use holdfast_tests::fleet::{PATIENCE, TRUST_DOMAIN};
use holdfast_tests::need;
use holdfast_tests::socket::Reach;
use holdfast_tests::wait;
use serde::Serialize;

use crate::GUARD_TIME;
use crate::common::forgery::{admin, signed_authority};
use crate::common::siege::{OPEN, Siege, unsigned};
use crate::common::taken_hub::Keeps;

/// `document`, signed by `key` as a document of `kind`.
fn signed(document: &impl Serialize, kind: &str, key: &SigningKey) -> Result<Envelope> {
    let mut envelope = Envelope::unsigned(serde_json::to_vec(document)?);
    key.sign(kind, &mut envelope);
    Ok(envelope)
}

fn labels(pairs: &[(&str, &str)]) -> Result<Labels> {
    let pairs: BTreeMap<_, _> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Ok(pairs.try_into()?)
}

/// A change of the labels of `node` to those of a web server.
fn to_web(node: NodeId, version: u64, previous: Digest) -> Result<LabelChange> {
    Ok(LabelChange {
        kind: LabelChange::KIND.to_owned(),
        format: LabelChange::FORMAT,
        trust_domain: TRUST_DOMAIN.parse()?,
        node,
        version,
        previous: Some(previous),
        labels: labels(&[("role", "web")])?,
    })
}

fn raise(old: u64, new: u64) -> Result<EpochRaise> {
    Ok(EpochRaise {
        kind: EpochRaise::KIND.to_owned(),
        format: EpochRaise::FORMAT,
        trust_domain: TRUST_DOMAIN.parse()?,
        old,
        new,
        checkpoint: None,
    })
}

/// Waits until the node has judged what it was told: an offer is taken after the documents that came before it.
fn judged(siege: &Siege) -> Result<()> {
    let (behind, _) = siege.manifest(9, OPEN)?;
    siege.refuses("behind it", &unsigned(&behind)?, "0 good of 0 signatures")
}

#[test]
fn labels_that_no_operator_signed_move_no_slice() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("labels", GUARD_TIME)?;
    let (node, before) = (siege.node_id()?, siege.ledger()?);
    let held: Digest = serde_json::from_value(before["labels"]["digest"].clone())?;
    let (enemy, kind) = (SigningKey::generate(), LabelChange::KIND);

    // All of the version of the true one below, or a higher one: had one been taken, that one would be refused.
    let forged = to_web(node, 2, held)?;
    let bare = Envelope::unsigned(serde_json::to_vec(&forged)?);
    let mut in_operators_name = signed(&forged, kind, &enemy)?;
    in_operators_name.signatures[0].key_id = siege.key.key_id();
    let another_node = to_web(NodeId::of_public_key(b"another"), 2, held)?;
    // An honest operator signed these, upon what the hub showed: a join grant names no node.
    let upon_anothers_grant = to_web(node, 2, Digest::of(b"the grant of another"))?;
    let upon_that = Digest::of(&serde_json::to_vec(&upon_anothers_grant)?);
    let another_fleet = LabelChange {
        trust_domain: "other.example".parse()?,
        ..forged.clone()
    };
    for document in [
        bare,
        signed(&forged, kind, &enemy)?,
        in_operators_name,
        signed(&forged, JoinGrant::KIND, &siege.key)?,
        signed(&another_node, kind, &siege.key)?,
        signed(&another_fleet, kind, &siege.key)?,
        signed(&upon_anothers_grant, kind, &siege.key)?,
        signed(&to_web(node, 3, upon_that)?, kind, &siege.key)?,
        signed(&to_web(node, 7, held)?, kind, &siege.key)?,
        // What the version that the node holds says is no change either.
        signed(&to_web(node, 1, held)?, kind, &siege.key)?,
    ] {
        siege.hub.tell_labels(&document)?;
        judged(&siege)?;
        ensure!(
            siege.ledger()?["labels"] == before["labels"],
            "the labels moved to {}",
            siege.ledger()?["labels"]
        );
    }
    let second = LabelChange {
        labels: labels(&[("role", "db"), ("tier", "1")])?,
        ..to_web(node, 2, held)?
    };
    siege.hub.tell_labels(&signed(&second, kind, &siege.key)?)?;
    siege.until_ledger("the labels that an operator signed", |ledger| {
        ledger["labels"]["version"] == 2 && ledger["labels"]["labels"]["tier"] == "1"
    })?;
    // Nor do those of before come back, or others under the same number.
    for back in [to_web(node, 1, held)?, to_web(node, 2, held)?] {
        siege.hub.tell_labels(&signed(&back, kind, &siege.key)?)?;
        judged(&siege)?;
    }
    ensure!(siege.ledger()?["labels"]["labels"]["role"] == "db");
    siege.is_open_to_web_alone()
}

#[test]
fn epoch_that_no_operator_raised_is_not_reached() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("epoch", GUARD_TIME)?;
    let (enemy, kind) = (SigningKey::generate(), EpochRaise::KIND);
    let mut in_operators_name = signed(&raise(1, 2)?, kind, &enemy)?;
    in_operators_name.signatures[0].key_id = siege.key.key_id();
    for document in [
        Envelope::unsigned(serde_json::to_vec(&raise(1, 2)?)?),
        signed(&raise(1, 2)?, kind, &enemy)?,
        in_operators_name,
        signed(&raise(1, 2)?, Manifest::KIND, &siege.key)?,
        // By more than one, and from an epoch that is not the node's.
        signed(&raise(1, 3)?, kind, &siege.key)?,
        signed(&raise(2, 3)?, kind, &siege.key)?,
    ] {
        siege.hub.tell_epoch(&document)?;
        judged(&siege)?;
    }
    let (mut next, _) = siege.manifest(1, OPEN)?;
    next.epoch = 2;
    siege.refuses(
        "a release of the epoch that nobody raised",
        &siege.signed(&next)?,
        "is of another epoch",
    )?;
    siege.is_open_to_web_alone()?;

    // Once an operator signs it, the same hub brings it, and the old epoch is over.
    siege.hub.tell_epoch(&signed(&raise(1, 2)?, kind, &siege.key)?)?;
    siege.until_ledger("the epoch that an operator raised", |ledger| ledger["epoch"] == 2)?;
    let (old, _) = siege.manifest(9, OPEN)?;
    siege.refuses(
        "a release of the epoch before",
        &siege.signed(&old)?,
        "is of another epoch",
    )?;
    siege.takes(&siege.signed(&next)?)
}

#[test]
fn trust_bundle_that_operators_did_not_sign_is_not_followed() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("bundle", GUARD_TIME)?;
    let first: Envelope = serde_json::from_value(siege.ledger()?["authority"].take())?;
    let enemy = SigningKey::generate();
    let mut swapped: Authority = parse_payload(&first.payload)?;
    swapped.version = 2;
    swapped.previous = Some(first.digest());
    let honest = swapped.clone();
    swapped.node_roots = [Digest::of(b"the enemy's root")].into();
    let beside = Authority {
        keys: [swapped.keys.clone(), vec![admin(&enemy, "enemy")?]].concat(),
        ..swapped.clone()
    };
    for forged in [
        signed_authority(&swapped, &[])?,
        signed_authority(&swapped, &[&enemy])?,
        signed_authority(&beside, &[&enemy])?,
    ] {
        siege.hub.serve_authority(&[first.clone(), forged]);
        siege.hub.tell_authority(2)?;
    }
    let signed = signed_authority(&honest, &[&siege.key])?;
    let digest = signed.digest().to_string();
    // The forgeries were asked for by then, or never: this one comes after them on the same link.
    siege.hub.say_the_unknown(5)?;
    ensure!(
        siege.ledger()?["authority"] == serde_json::to_value(&first)?,
        "the authority moved: {}",
        siege.ledger()?
    );
    siege.hub.serve_authority(&[first, signed.clone()]);
    siege.hub.tell_authority(2)?;
    siege.until_ledger("the version that operators signed", |ledger| {
        serde_json::from_value::<Envelope>(ledger["authority"].clone())
            .is_ok_and(|held| held.digest().to_string() == digest)
    })?;

    // Neither does an older one take it back, also not from an agent that begins anew.
    siege.hub.serve_authority(&[]);
    siege.hub.tell_authority(1)?;
    siege.hub.say_the_unknown(6)?;
    let held: Envelope = serde_json::from_value(siege.ledger()?["authority"].take())?;
    ensure!(held.digest() == signed.digest(), "the authority went back");
    siege.opens_once_operators_sign(1)
}

#[test]
fn address_inside_the_signed_bounds_is_let_in_whatever_it_is() -> Result<()> {
    const BOUNDED: &str = "
groups:
  web: { select: { role: web }, within: [10.77.0.0/24] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [web] }
";
    need!(namespaces);
    let siege = Siege::begin("inside", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, BOUNDED)?;
    siege.takes(&siege.signed(&manifest)?)?;
    // The gateway is no web server. An enemy may say so: that is what `within` bounds.
    let gateway = siege.fleet.world.v4("gateway").to_string();
    siege.hub.tell_members("role=web", &[gateway])?;
    wait::until("the gateway to be let in", PATIENCE, || {
        match siege.reach("gateway") {
            Ok(Reach::Open) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn false_witness_lets_a_signed_release_stand_that_closes_what_it_keeps() -> Result<()> {
    // Keeps what its own rules close. An honest witness would see it lost, and the guard would undo it.
    const CLOSED: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [80], from: any }
    keep:
      - { tcp: 5432, from: [10.77.0.12] }
";
    need!(namespaces);
    let siege = Siege::begin("witness", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, CLOSED)?;
    siege.hub.say_of_keeps(Keeps::Pass);
    siege.takes(&siege.signed(&manifest)?)?;
    assert_eq!(siege.reach("web")?, Reach::Silent);
    Ok(())
}

#[test]
fn release_whose_witness_did_not_look_again_is_undone_and_taken_later() -> Result<()> {
    const KEPT: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
    keep:
      - { tcp: 5432, from: [10.77.0.12] }
";
    need!(namespaces);
    let siege = Siege::begin("unseen", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, KEPT)?;
    let envelope = siege.signed(&manifest)?;
    siege.hub.say_of_keeps(Keeps::PassBefore);
    let report = siege.hub.offer(&envelope)?;
    ensure!(
        report.outcome == "undone" && report.detail.contains("may be tried again"),
        "undone wanted, got {report:?}"
    );
    siege.is_open_to_web_alone()?;
    // Whoever kept the witness busy has not had the release pinned out.
    siege.hub.say_of_keeps(Keeps::Pass);
    siege.takes(&envelope)?;
    ensure!(siege.reach("gateway")? == Reach::Open);
    Ok(())
}

#[test]
fn return_that_a_manifest_allows_is_taken_once() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("return", GUARD_TIME)?;
    let (mut opened, _) = siege.manifest(1, OPEN)?;
    opened.return_to = Some(ReturnTo {
        manifest: siege.held.digest(),
        within_secs: 3600,
    });
    let opened = siege.signed(&opened)?;
    siege.takes(&opened)?;
    assert_eq!(siege.reach("gateway")?, Reach::Open);

    let report = siege.hub.offer(&siege.held)?;
    ensure!(report.outcome == "confirmed", "the return: {report:?}");
    siege.is_open_to_web_alone()?;
    siege.refuses("the release that was left", &opened, "it is not tried again")?;

    // The next is again above all; and from there the first is no more to be had.
    let (next, _) = siege.manifest(2, OPEN)?;
    siege.takes(&siege.signed(&next)?)?;
    siege.refuses("the same return again", &siege.held, "is older than")
}

#[test]
fn older_release_is_taken_by_a_node_whose_disk_went_back_and_by_no_other() -> Result<()> {
    need!(namespaces);
    let mut siege = Siege::begin("rollback", GUARD_TIME)?;
    let (second, _) = siege.manifest(1, OPEN)?;
    let second = siege.signed(&second)?;
    let state = siege.fleet.agent_dir("db");
    let copy = state.with_file_name("copy");
    copy_dir(&state, &copy)?;
    siege.takes(&second)?;
    let (third, _) = siege.manifest(2, "policies: [{ select: { role: db } }]")?;
    siege.takes(&siege.signed(&third)?)?;
    siege.refuses("the release before", &second, "is older than")?;

    // A snapshot of the machine is rolled back: nothing on it can tell.
    siege.fleet.kill_agent("db");
    std::fs::rename(&state, state.with_file_name("ahead"))?;
    copy_dir(&copy, &state)?;
    siege.fleet.start_agent("db", None)?;
    siege.takes(&second)?;
    assert_eq!(siege.reach("gateway")?, Reach::Open);
    siege.refuses("below what the disk holds", &siege.held, "is older than")
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a test's own copy of a directory")]
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    Ok(())
}

#[test]
fn nothing_is_accepted_past_the_authoritys_end_but_a_newer_authority() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("expiry", GUARD_TIME)?;
    let first: Envelope = serde_json::from_value(siege.ledger()?["authority"].take())?;
    let mut ended: Authority = parse_payload(&first.payload)?;
    ended.version = 2;
    ended.previous = Some(first.digest());
    ended.expires_secs = SystemClock.unix_secs() - 1;
    let second = signed_authority(&ended, &[&siege.key])?;
    siege.hub.serve_authority(std::slice::from_ref(&second));
    siege.hub.tell_authority(2)?;
    let digest = second.digest();
    siege.until_ledger("the authority that ended", |ledger| {
        serde_json::from_value::<Envelope>(ledger["authority"].clone())
            .is_ok_and(|held| held.digest() == digest)
    })?;

    let (manifest, _) = siege.manifest(1, OPEN)?;
    let manifest = siege.signed(&manifest)?;
    siege.refuses("a release", &manifest, "authority version 2 expired")?;
    siege
        .hub
        .tell_epoch(&signed(&raise(1, 2)?, EpochRaise::KIND, &siege.key)?)?;
    let held: Digest = serde_json::from_value(siege.ledger()?["labels"]["digest"].clone())?;
    let change = to_web(siege.node_id()?, 2, held)?;
    siege
        .hub
        .tell_labels(&signed(&change, LabelChange::KIND, &siege.key)?)?;
    siege.refuses("a release, after them", &manifest, "authority version 2 expired")?;
    let ledger = siege.ledger()?;
    ensure!(
        ledger["epoch"] == 1 && ledger["labels"]["version"] == 1,
        "past its end the authority brought about: {ledger}"
    );
    siege.is_open_to_web_alone()?;

    ended.version = 3;
    ended.previous = Some(digest);
    ended.expires_secs = SystemClock.unix_secs() + 86_400;
    let third = signed_authority(&ended, &[&siege.key])?;
    siege.hub.serve_authority(&[second, third]);
    siege.takes(&manifest)
}

#[test]
fn no_hub_makes_a_scanner_of_a_node() -> Result<()> {
    /// In the network, but nobody's: whoever connects there waits for an answer.
    const NOBODY: &str = "10.77.0.250";
    const AT_ONCE: u64 = 32;
    need!(namespaces);
    let siege = Siege::begin("scanner", GUARD_TIME)?;
    let own = siege.fleet.world.v4("db").to_string();
    let itself = ["127.0.0.1", "::ffff:127.0.0.1", &own];
    for (id, address) in (1..).zip(itself) {
        siege.hub.probe(id, address, 22)?;
    }
    for id in 100..100 + AT_ONCE + 8 {
        siege.hub.probe(id, NOBODY, 22)?;
    }
    let mut refused = Vec::new();
    wait::until("the node to make no more probes", PATIENCE, || {
        refused = siege.hub.unsupported();
        let is_full = refused.iter().any(|id| *id >= 100 + AT_ONCE);
        is_full.then_some(()).ok_or_else(|| format!("{refused:?}"))
    })?;
    refused.retain(|id| *id < 100 + AT_ONCE);
    ensure!(
        refused == [1, 2, 3],
        "refused of those that it should make, or not: {refused:?}"
    );
    siege.opens_once_operators_sign(1)
}

#[test]
fn garbage_of_every_kind_changes_nothing() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("garbage", GUARD_TIME)?;
    let before = siege.ledger()?;
    let garbage = |payload: Vec<u8>| {
        let envelope = Envelope::unsigned(payload);
        Some(v1::Envelope::from(&envelope))
    };
    let many_signatures = {
        let (manifest, _) = siege.manifest(1, OPEN)?;
        let mut envelope = unsigned(&manifest)?;
        SigningKey::generate().sign(Manifest::KIND, &mut envelope);
        let mut wire = v1::Envelope::from(&envelope);
        wire.signatures = vec![wire.signatures[0].clone(); 500];
        Some(wire)
    };
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)).into_bytes();
    for document in [
        None,
        garbage(Vec::new()),
        garbage(vec![0xff; 200_000]),
        garbage(deep),
        garbage(b"{\"kind\":\"labels\",\"format\":1}".to_vec()),
        many_signatures,
    ] {
        for kind in [
            hub_message::Kind::ReleaseOffer(v1::ReleaseOffer {
                manifest: document.clone(),
            }),
            hub_message::Kind::LabelChange(v1::LabelChange {
                document: document.clone(),
            }),
            hub_message::Kind::EpochRaise(v1::EpochRaise {
                document: document.clone(),
            }),
            hub_message::Kind::Checkpoint(v1::Checkpoint {
                document: document.clone(),
            }),
        ] {
            siege.hub.say(kind)?;
        }
        judged(&siege)?;
    }
    let refused = v1::RefusedAddress {
        address: "\u{1b}[2J".to_owned(),
        holder: "x".repeat(10_000),
    };
    siege
        .hub
        .say(hub_message::Kind::AddressesRefused(v1::AddressesRefused {
            addresses: vec![refused; 20],
        }))?;
    siege.hub.tell_authority(u64::MAX)?;
    siege.hub.say_the_unknown(99)?;
    // Whatever else it may have written, what operators signed stands: only reports of refusals are left.
    let after = siege.ledger()?;
    for part in ["authority", "labels", "epoch", "highest", "confirmed", "pending"] {
        ensure!(
            before[part] == after[part],
            "{part} changed from {before} to {after}"
        );
    }
    siege.is_open_to_web_alone()?;
    siege.opens_once_operators_sign(1).context("the agent works on")
}
