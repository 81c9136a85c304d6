//! The link to a hub in memory. Time is tokio's own: it passes when nobody has anything to do.

use holdfast_pki::checkpoint::Checkpoint;
use holdfast_pki::files_testing::FaultFiles;
use holdfast_pki::random::SeededRandom;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;

use super::*;
use crate::testing::fleet;
use crate::testing::hub::FakeHub;

/// A link, and what this process has at its other ends.
struct Ends {
    inbox: Arc<Inbox>,
    held: watch::Sender<Held>,
    _reports: mpsc::Sender<v1::Report>,
}

fn link(hub: &FakeHub, files: &FaultFiles) -> (Link, Ends) {
    let (reports, from_keeper) = mpsc::channel(1);
    let in_the_first_epoch = Held {
        epoch: 1,
        ..Held::default()
    };
    let (held, inbox) = (watch::Sender::new(in_the_first_epoch), Arc::new(Inbox::default()));
    let link = Link {
        dialer: hub.dialer(),
        clock: hub.clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        root: HostRoot::at(std::path::Path::new("/nonexistent")),
        inbox: inbox.clone(),
        reports: from_keeper,
        held: held.subscribe(),
        checkpoints: Checkpoints::load(std::path::Path::new("/state"), Arc::new(files.clone())),
    };
    let ends = Ends {
        inbox,
        held,
        _reports: reports,
    };
    (link, ends)
}

/// Runs `link` until `scene` is over.
async fn while_linked(link: Link, scene: impl Future<Output = ()>) {
    tokio::select! {
        () = link.run() => panic!("the link ended for good"),
        () = scene => {}
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(600), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn hellos(hub: &FakeHub) -> Vec<v1::NodeHello> {
    let heard = hub.plot().heard.clone();
    heard
        .into_iter()
        .filter_map(|kind| match kind {
            node_message::Kind::Hello(hello) => Some(hello),
            _ => None,
        })
        .collect()
}

/// A checkpoint as the hub of this id would make one.
fn checkpoint(hub: UniqueId, revision: u64) -> v1::Checkpoint {
    let checkpoint = Checkpoint {
        kind: Checkpoint::KIND.to_owned(),
        format: 1,
        trust_domain: fleet(),
        hub,
        epoch: 1,
        start: 1,
        instance: hub,
        revision,
    };
    v1::Checkpoint {
        document: Some((&checkpoint.sign(&SigningKey::generate())).into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_is_shown_its_own_newest_checkpoint_over_the_next_link() {
    let (hub, files) = (FakeHub::new(1), FaultFiles::new());
    let (newest, of_another) = (checkpoint(hub.id, 9), checkpoint([2; 16].into(), 99));
    let (first, _ends) = link(&hub, &files);
    while_linked(first, async {
        until("a first link", || hellos(&hub).len() == 1).await;
        for checkpoint in [newest.clone(), of_another, checkpoint(hub.id, 8)] {
            hub.say(hub_message::Kind::Checkpoint(checkpoint)).await;
        }
        hub.hang_up();
        until("a second link", || hellos(&hub).len() == 2).await;
    })
    .await;
    // And by an agent that was started again.
    let (again, _ends) = link(&hub, &files);
    while_linked(again, until("a third link", || hellos(&hub).len() == 3)).await;
    let shown: Vec<_> = hellos(&hub).into_iter().map(|hello| hello.checkpoint).collect();
    assert_eq!(shown, [None, newest.document.clone(), newest.document]);
}

#[tokio::test(start_paused = true)]
async fn a_hub_with_less_has_it_shown_once_for_each_link() {
    let hub = FakeHub::new(1);
    hub.plot().hello.authority_version = 2;
    let (link, ends) = link(&hub, &FaultFiles::new());
    let held = |authority_version| Held {
        authority_version,
        epoch: 1,
        ..Held::default()
    };
    ends.held.send_replace(held(2));
    hub.plot().hello.epoch = 1;
    while_linked(link, async {
        until("a link", || hellos(&hub).len() == 1).await;
        // Nobody was ahead when it came up; the beat alone shows nothing.
        ends.held.send_replace(held(3));
        until("a beat", || hub.plot().heard.len() == 2).await;
        for link in 2..=3 {
            hub.hang_up();
            until("the next link", || hellos(&hub).len() == link).await;
            let arrived = ends.inbox.next().await.documents.unwrap();
            let lacking = arrived.lacking.unwrap();
            assert_eq!((lacking.authority_version, lacking.epoch), (2, 1));
        }
    })
    .await;
    let quiet = tokio::time::timeout(Duration::from_secs(1), ends.inbox.next()).await;
    assert!(quiet.is_err(), "shown again: {quiet:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hub_below_a_root_that_was_dropped_loses_its_link() {
    let hub = FakeHub::new(1);
    let (link, ends) = link(&hub, &FaultFiles::new());
    let dialer = link.dialer.clone();
    while_linked(link, async {
        until("a link", || hellos(&hub).len() == 1).await;
        dialer.trust(&[Digest::of(b"another root")].into()).unwrap();
        // As the keeper does, which has just walked to a newer authority.
        ends.held.send_modify(|held| held.authority_version += 1);
        until("the link to end", || hub.is_alone()).await;
        let minutes = Duration::from_secs(600);
        tokio::time::sleep(minutes).await;
        assert_eq!(
            hellos(&hub).len(),
            1,
            "it came back to a hub that nobody vouches for"
        );

        dialer.trust(&[hub.root].into()).unwrap();
        until("a link once the root counts again", || hellos(&hub).len() == 2).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hello_and_beats_say_which_epoch_and_labels_a_node_holds() {
    let hub = FakeHub::new(1);
    let (link, ends) = link(&hub, &FaultFiles::new());
    let held = |epoch, labels_version| Held {
        epoch,
        labels_version,
        ..Held::default()
    };
    ends.held.send_replace(held(3, 2));
    while_linked(link, async {
        until("a link", || hellos(&hub).len() == 1).await;
        ends.held.send_replace(held(4, 5));
        until("a beat", || hub.plot().heard.len() == 2).await;
    })
    .await;
    let hello = &hellos(&hub)[0];
    assert_eq!((hello.epoch, hello.labels_version), (3, 2));
    let node_message::Kind::Heartbeat(beat) = hub.plot().heard[1].clone() else {
        panic!("a beat wanted")
    };
    assert_eq!((beat.epoch, beat.labels_version), (4, 5));
}
