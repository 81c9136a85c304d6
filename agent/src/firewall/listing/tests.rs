use super::*;

fn listed(counter: u64, order: [&str; 2], rules: [&str; 2]) -> Vec<Value> {
    let rule = |comment: &str| {
        json!({"rule": {"family": "inet", "table": "holdfast", "chain": "input", "handle": counter, "comment": comment,
            "expr": [{"counter": {"packets": counter, "bytes": counter}}, {"accept": null}]}})
    };
    vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"table": {"family": "inet", "name": "holdfast", "handle": counter}}),
        json!({"set": {"family": "inet", "table": "holdfast", "name": "g_0_v4", "comment": "web", "handle": counter,
            "type": "ipv4_addr", "flags": ["interval"], "elem": order}}),
        rule(rules[0]),
        rule(rules[1]),
    ]
}

#[test]
fn handles_counters_and_the_order_within_sets_do_not_count() {
    let one = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.2"], ["a", "b"]));
    let two = Listing::of(&listed(2, ["10.0.0.2", "10.0.0.1"], ["a", "b"]));
    assert_eq!(one, two);
}

#[test]
fn elements_and_the_order_of_rules_count() {
    let one = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.2"], ["a", "b"]));
    let other_element = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.3"], ["a", "b"]));
    assert_ne!(one, other_element);
    assert_eq!(
        one.difference(&other_element).missing,
        ["set g_0_v4 with 2 elements"]
    );
    let reordered = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.2"], ["b", "a"]));
    assert_ne!(one, reordered);
    assert!(!one.has_shape_of(&reordered) && one.difference(&reordered).is_empty());
}

#[test]
fn a_difference_names_the_rules_by_their_comments() {
    let one = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.2"], ["a", "a"]));
    let two = Listing::of(&listed(1, ["10.0.0.1", "10.0.0.2"], ["a", "c"]));
    let difference = one.difference(&two);
    assert_eq!(
        difference.to_string(),
        "missing: input accept a; added: input accept c"
    );
}

#[test]
fn restoring_adds_everything_again_but_handles() {
    let commands: Value =
        serde_json::from_str(&restore(Some(&listed(7, ["10.0.0.1", "10.0.0.2"], ["a", "b"])))).unwrap();
    let commands = commands["nftables"].as_array().unwrap();
    assert_eq!(commands.len(), 6, "add and delete the table, then four objects");
    assert!(!Value::from(commands.clone()).to_string().contains("handle"));
    assert_eq!(commands[5]["add"]["rule"]["expr"][0]["counter"]["packets"], 7);
    let absent: Value = serde_json::from_str(&restore(None)).unwrap();
    assert_eq!(absent["nftables"].as_array().unwrap().len(), 2);
}
