//! Who is told that an address of theirs is another's.

use super::*;

/// What a node that has this address says as it comes.
fn hello_with(address: &str) -> v1::NodeHello {
    let eth0 = v1::Interface {
        name: "eth0".to_owned(),
        addresses: vec![address.to_owned()],
    };
    v1::NodeHello {
        inventory: Some(v1::Inventory {
            interfaces: vec![eth0],
            ..v1::Inventory::default()
        }),
        ..hello(1)
    }
}

/// Refusals that a node is told, as "ADDRESS of HOLDER".
fn refusals(kind: hub_message::Kind) -> Option<Vec<String>> {
    let hub_message::Kind::AddressesRefused(refused) = kind else {
        return None;
    };
    let told = refused.addresses.iter();
    Some(
        told.map(|one| format!("{} of {}", one.address, one.holder))
            .collect(),
    )
}

#[tokio::test]
async fn a_node_that_claims_anothers_address_is_told_until_the_other_is_removed() {
    let hub = TestHub::new().await;
    let (db, thief) = (hub.enrolled("db-1").await, hub.enrolled("web-1").await);
    let (mut of_db, _) = hub.link(db.id, hello_with("10.77.0.11")).await;
    hub.clock.advance(Duration::from_secs(1));
    let (mut of_thief, _) = hub.link(thief.id, hello_with("10.77.0.11")).await;
    assert_eq!(of_thief.due(refusals).await, ["10.77.0.11 of db-1"]);
    assert_eq!(of_db.undue(refusals).await, None);

    let seen = hub
        .hub
        .list_nodes(&hub.operator("ann"), v1::ListNodesRequest::default())
        .await;
    let seen: Vec<_> = seen
        .unwrap()
        .nodes
        .iter()
        .map(|node| (node.name.clone(), node.refused_addresses.len()))
        .collect();
    assert_eq!(seen, [("db-1".to_owned(), 0), ("web-1".to_owned(), 1)]);

    // Told again over a new link, and still refused, though the holder is away.
    drop(of_db);
    let (mut of_thief, _) = hub.link(thief.id, hello_with("10.77.0.11")).await;
    assert_eq!(of_thief.due(refusals).await, ["10.77.0.11 of db-1"]);

    let name = "db-1".to_owned();
    hub.hub
        .remove_node(&hub.operator("ann"), v1::RemoveNodeRequest { name })
        .await
        .unwrap();
    assert_eq!(of_thief.due(refusals).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_holder_that_reports_without_the_address_loses_it() {
    let hub = TestHub::new().await;
    let (one, other) = (hub.enrolled("db-1").await, hub.enrolled("db-2").await);
    let (_of_one, _) = hub.link(one.id, hello_with("10.77.0.11")).await;
    hub.clock.advance(Duration::from_secs(1));
    let (mut of_other, _) = hub.link(other.id, hello_with("10.77.0.11")).await;
    assert_eq!(of_other.due(refusals).await, ["10.77.0.11 of db-1"]);
    let (_of_one, _) = hub.link(one.id, hello_with("10.77.0.12")).await;
    assert_eq!(of_other.due(refusals).await, Vec::<String>::new());
    hub.clock.advance(Duration::from_secs(1));
    let (mut of_one, _) = hub.link(one.id, hello_with("10.77.0.11")).await;
    assert_eq!(of_one.due(refusals).await, ["10.77.0.11 of db-2"]);
}
