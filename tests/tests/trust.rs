//! A hub in the enemy's hand, with all its keys: it can offer what it likes, and what operators did not sign never runs.

mod common {
    pub(crate) mod forgery;
    pub(crate) mod hub_tls;
    pub(crate) mod siege;
    pub(crate) mod taken_hub;
}
#[path = "taken/enemy.rs"]
mod enemy;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use common::forgery::{admin, changed, signatures_by, signed_authority};
use common::siege::{OPEN, Siege, unsigned};
use holdfast_pki::authority::Authority;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::release::{Manifest, SliceRef};
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use holdfast_tests::fleet::PATIENCE;
use holdfast_tests::need;
use holdfast_tests::socket::Reach;
use holdfast_tests::wait;

/// As the fleet's own agents have it.
const GUARD_TIME: &str = "10s";

#[test]
fn release_that_no_operator_signed_is_refused() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("forged", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, OPEN)?;
    let bare = unsigned(&manifest)?;
    let not_signed = "0 good of 1 signatures";
    siege.refuses("not signed at all", &bare, "0 good of 0 signatures")?;

    let mut forged = bare.clone();
    SigningKey::generate().sign(Manifest::KIND, &mut forged);
    siege.refuses("signed by a stranger", &forged, not_signed)?;
    forged.signatures[0].key_id = siege.key.key_id();
    siege.refuses("signed by a stranger in an operator's name", &forged, not_signed)?;

    // Every key that an enemy finds on the hub, and the one that opens the operators' API.
    let (hub, operator) = (siege.fleet.hub_dir(), siege.fleet.context_dir());
    for key in ["ca/node-root.key", "ca/issuing.key", "ca/operator-root.key"] {
        let path = hub.join(key);
        let (own, borrowed) = signatures_by(&path, &bare, siege.key.key_id())?;
        siege.refuses(key, &own, not_signed)?;
        siege.refuses(key, &borrowed, not_signed)?;
    }
    let (own, borrowed) = signatures_by(&operator.join("api.pem"), &bare, siege.key.key_id())?;
    siege.refuses("the API key", &own, not_signed)?;
    siege.refuses("the API key in an operator's name", &borrowed, not_signed)?;

    // What operators did sign, for something else.
    let mut as_grant = bare.clone();
    siege.key.sign(JoinGrant::KIND, &mut as_grant);
    siege.refuses("signed as a join grant", &as_grant, not_signed)?;
    let grant: Envelope = serde_json::from_value(siege.ledger()?["grant"].take())?;
    siege.refuses("the node's own join grant", &grant, not_signed)?;
    let lifted = Envelope {
        signatures: siege.held.signatures.clone(),
        ..bare
    };
    siege.refuses("with the signature of the release in force", &lifted, not_signed)?;

    siege.is_open_to_web_alone()?;
    siege.opens_once_operators_sign(1)
}

#[test]
fn release_with_one_byte_changed_is_refused() -> Result<()> {
    const SAMPLES: usize = 20;
    need!(namespaces);
    let siege = Siege::begin("onebyte", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, OPEN)?;
    let signed = siege.signed(&manifest)?;
    let not_signed = "0 good of 1 signatures";
    for n in 0..SAMPLES {
        let (mut payload, mut signature) = (signed.clone(), signed.clone());
        let at = changed(&mut signature.signatures[0].signature, n, SAMPLES);
        siege.refuses(&format!("byte {at} of the signature"), &signature, not_signed)?;
        let at = changed(&mut payload.payload, n, SAMPLES);
        siege.refuses(&format!("byte {at} of the payload"), &payload, not_signed)?;
    }
    let text = String::from_utf8(signed.payload.clone())?;
    let renumbered = text.replace("\"number\":2", "\"number\":3");
    assert_ne!(renumbered, text);
    let renumbered = Envelope {
        payload: renumbered.into_bytes(),
        ..signed.clone()
    };
    siege.refuses("one digit of the number", &renumbered, not_signed)?;
    let mut longer = signed.clone();
    longer.payload.push(b' ');
    siege.refuses("a byte more", &longer, not_signed)?;
    siege.is_open_to_web_alone()?;
    siege.takes(&signed)
}

#[test]
fn release_with_a_lower_or_the_same_number_is_refused() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("lower", GUARD_TIME)?;
    // The first release was open to web alone; the second is, to nobody. Going back to the first would open it again.
    let (closed, _) = siege.manifest(5, "policies: [{ select: { role: db } }]")?;
    siege.takes(&siege.signed(&closed)?)?;
    assert_eq!(siege.reach("web")?, Reach::Silent);

    siege.refuses("the release before", &siege.held, "is older than 1.6")?;
    let (older, _) = siege.manifest(4, OPEN)?;
    siege.refuses(
        "one that was skipped",
        &siege.signed(&older)?,
        "is older than 1.6",
    )?;
    let (twin, _) = siege.manifest(5, OPEN)?;
    siege.refuses(
        "another of the same number",
        &siege.signed(&twin)?,
        "differs from the 1.6",
    )?;
    let (mut next, _) = siege.manifest(6, OPEN)?;
    next.epoch += 1;
    siege.refuses(
        "one of the next epoch",
        &siege.signed(&next)?,
        "is of another epoch",
    )?;
    let (mut foreign, _) = siege.manifest(6, OPEN)?;
    foreign.trust_domain = "other.example".parse()?;
    siege.refuses(
        "one for another fleet",
        &siege.signed(&foreign)?,
        "is for the trust domain other.example",
    )?;

    assert_eq!(
        (siege.reach("web")?, siege.reach("gateway")?),
        (Reach::Silent, Reach::Silent)
    );
    siege.opens_once_operators_sign(6)
}

#[test]
fn release_with_a_slice_left_out_is_refused() -> Result<()> {
    /// Open to all by its role, closed to the gateway by the slice for all: left out, that one would open it.
    const TWO_SLICES: &str = "
policies:
  - select: all
    inbound:
      - deny: { from: [10.77.0.13] }
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
  - select: { role: web }
    inbound:
      - allow: { from: any }
";
    need!(namespaces);
    let siege = Siege::begin("leftout", GUARD_TIME)?;
    let (manifest, slices) = siege.manifest(1, TWO_SLICES)?;
    let signed = siege.signed(&manifest)?;
    let [all, db, web] = slices.as_slice() else {
        panic!("three slices wanted, got {slices:?}")
    };
    for left_out in [all, db] {
        siege.hub.serve_slice(left_out.digest(), None);
        siege.refuses("left out", &signed, "was left out")?;
        siege
            .hub
            .serve_slice(left_out.digest(), Some(left_out.to_bytes()));
    }

    // Something else in the place of the slice that closes.
    let (closing, altered) = (all.to_bytes(), "are no slice that the manifest lists");
    let another_address = String::from_utf8(closing.clone())?.replace("10.77.0.13", "10.77.0.19");
    siege
        .hub
        .serve_slice(all.digest(), Some(another_address.into_bytes()));
    siege.refuses("one digit of a slice", &signed, altered)?;
    for n in 0..5 {
        let mut bytes = closing.clone();
        let at = changed(&mut bytes, n, 5);
        siege.hub.serve_slice(all.digest(), Some(bytes));
        siege.refuses(&format!("byte {at} of a slice"), &signed, altered)?;
    }
    for (case, bytes) in [
        ("others' slice instead", web.to_bytes()),
        ("others' slice added", [closing.clone(), web.to_bytes()].concat()),
        ("nothing", Vec::new()),
    ] {
        siege.hub.serve_slice(all.digest(), Some(bytes));
        siege.refuses(case, &signed, altered)?;
    }
    siege.hub.serve_slice(all.digest(), Some(db.to_bytes()));
    siege.refuses("another of the node's own twice", &signed, "was given twice")?;

    // Signed, but by an operator whose tool put others' slice under this node's selector.
    siege.hub.serve_slice(all.digest(), Some(closing));
    let mut mislabelled = manifest.clone();
    let [_, for_db, for_web] = mislabelled.slices.as_mut_slice() else {
        panic!("three slices wanted")
    };
    *for_db = SliceRef {
        selector: for_db.selector.clone(),
        ..for_web.clone()
    };
    siege.refuses(
        "others' slice listed for this node",
        &siege.signed(&mislabelled)?,
        "for selector role=web",
    )?;

    siege.is_open_to_web_alone()?;
    siege.takes(&signed)?;
    siege.is_open_to_web_alone()?;
    siege.opens_once_operators_sign(2)
}

#[test]
fn members_outside_the_signed_bounds_open_nothing() -> Result<()> {
    const BOUNDED: &str = "
groups:
  web: { select: { role: web }, within: [10.77.0.12/32] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [web] }
";
    need!(namespaces);
    let siege = Siege::begin("members", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, BOUNDED)?;
    siege.takes(&siege.signed(&manifest)?)?;
    assert_eq!(
        siege.reach("web")?,
        Reach::Silent,
        "nobody was said to be in the group"
    );

    let (web, gateway) = (siege.fleet.world.v4("web"), siege.fleet.world.v4("gateway"));
    let mapped = gateway.to_ipv6_mapped().to_string();
    for more in [vec![], vec![gateway.to_string(), mapped, "0.0.0.0".to_owned()]] {
        siege
            .hub
            .tell_members("role=web", &[vec![web.to_string()], more].concat())?;
        // The one that may be in the group shows that the others have arrived.
        wait::until("the group to be known", PATIENCE, || match siege.reach("web") {
            Ok(Reach::Open) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        siege.is_open_to_web_alone()?;
        siege.hub.tell_members("role=web", &[])?;
        wait::until("the group to be empty", PATIENCE, || match siege.reach("web") {
            Ok(Reach::Silent) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    siege.hub.tell_members("all", &[gateway.to_string()])?;
    siege
        .hub
        .tell_members("role=web", &[web.to_string(), gateway.to_string()])?;
    wait::until("the group to be known", PATIENCE, || match siege.reach("web") {
        Ok(Reach::Open) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    siege.is_open_to_web_alone()?;
    siege.opens_once_operators_sign(2)
}

#[test]
fn authority_that_the_one_before_did_not_sign_is_refused() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("authority", GUARD_TIME)?;
    let first: Envelope = serde_json::from_value(siege.ledger()?["authority"].take())?;
    let enemy = SigningKey::generate();
    let (mut manifest, _) = siege.manifest(1, OPEN)?;
    let by_operator = siege.signed(&manifest)?;
    manifest.authority_version = 2;
    let mut by_enemy = unsigned(&manifest)?;
    enemy.sign(Manifest::KIND, &mut by_enemy);

    // The enemy alone; the enemy beside the operator, whose signature is not there; in the operator's place.
    let mut alone: Authority = parse_payload(&first.payload)?;
    alone.version = 2;
    alone.previous = Some(first.digest());
    let beside = Authority {
        keys: [alone.keys.clone(), vec![admin(&enemy, "enemy")?]].concat(),
        ..alone.clone()
    };
    alone.keys = vec![admin(&enemy, "enemy")?];
    let in_place = Authority {
        keys: vec![admin(&enemy, beside.keys[0].name.as_str())?],
        ..alone.clone()
    };
    let not_signed = "the authority carries 0 good of 1 signatures, authority version 1 asks";
    for (case, authority) in [
        ("alone", &alone),
        ("beside", &beside),
        ("in the operator's place", &in_place),
    ] {
        let next = signed_authority(authority, &[&enemy])?;
        siege.hub.serve_authority(&[first.clone(), next]);
        siege.refuses(case, &by_enemy, not_signed)?;
        siege.refuses(case, &by_operator, not_signed)?;
    }
    // Signed by an operator, but not the next one: of another number, and after another.
    let leap = Authority {
        version: 3,
        ..beside.clone()
    };
    let fork = Authority {
        previous: Some(Digest::of(b"another")),
        ..beside.clone()
    };
    for (case, authority) in [("a leap", &leap), ("a fork", &fork)] {
        siege
            .hub
            .serve_authority(&[signed_authority(authority, &[&siege.key, &enemy])?]);
        siege.refuses(case, &by_enemy, "does not follow version 1")?;
    }
    siege.hub.serve_authority(&[]);
    siege.refuses(
        "a version that was kept back",
        &siege.signed(&manifest)?,
        "this node has reached 1",
    )?;
    siege.is_open_to_web_alone()?;

    // Once an operator signs the very same document, the new key counts.
    siege
        .hub
        .serve_authority(&[signed_authority(&beside, &[&siege.key])?]);
    siege.takes(&by_enemy)?;
    assert_eq!(siege.reach("gateway")?, Reach::Open);
    Ok(())
}

#[test]
fn confirmation_of_another_change_confirms_nothing() -> Result<()> {
    const LIES: [fn(&mut v1::ConfirmReply); 4] = [
        |reply| reply.nonce = vec![0; 16].into(),
        |reply| reply.node_id = Digest::of(b"another node").to_string(),
        |reply| reply.manifest_digest = Digest::of(b"another release").to_string(),
        |reply| reply.generation = Some(v1::Generation { epoch: 1, number: 1 }),
    ];
    need!(namespaces);
    let siege = Siege::begin("confirm", "5s")?;
    let (manifest, _) = siege.manifest(1, OPEN)?;
    let signed = siege.signed(&manifest)?;
    let (before, told) = (siege.ledger()?, Arc::new(AtomicUsize::new(0)));
    let count = told.clone();
    siege.hub.confirm_by(Some(Box::new(move |reply| {
        LIES[count.fetch_add(1, Ordering::SeqCst) % LIES.len()](reply);
    })));
    let report = siege.hub.offer(&signed)?;
    ensure!(report.outcome == "undone", "undone wanted, got {report:?}");
    ensure!(
        report
            .detail
            .contains("the hub's confirmation is for another change"),
        "it says: {}",
        report.detail
    );
    ensure!(
        told.load(Ordering::SeqCst) >= LIES.len(),
        "not every lie was told"
    );
    let after = siege.ledger()?;
    assert_eq!(
        (&after["confirmed"], &after["pending"]),
        (&before["confirmed"], &before["pending"])
    );
    siege.is_open_to_web_alone()?;

    siege.hub.confirm_by(None);
    siege.opens_once_operators_sign(2)
}

#[test]
fn hub_that_falls_silent_does_not_stop_the_repair() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("silent", GUARD_TIME)?;
    let (manifest, _) = siege.manifest(1, OPEN)?;
    siege.hub.offer_and_fall_silent(&siege.signed(&manifest)?)?;
    let table = ["nft", "delete", "table", "inet", "holdfast"];
    siege.fleet.world.run("db", &table)?.ok()?;
    // The agent gives an offer 20 s, and looks at the host every 3 s.
    wait::until("the torn out table to come back", PATIENCE * 2, || {
        let reached = siege.reach("gateway").map_err(|error| format!("{error:#}"))?;
        (reached == Reach::Silent)
            .then_some(())
            .ok_or_else(|| format!("{reached:?}"))
    })?;
    siege.is_open_to_web_alone()
}

#[test]
fn message_that_the_agent_does_not_know_is_answered_unsupported() -> Result<()> {
    need!(namespaces);
    let siege = Siege::begin("newer", GUARD_TIME)?;
    siege.hub.say_the_unknown(77)?;
    // The link goes on.
    siege.opens_once_operators_sign(1)
}
