//! Sessions that nodes hold by themselves go no further than the peer may, whoever opens them.

use reknit::core::dataset::Collection;
use reknit::core::members::Member;
use reknit::node::Grants;

use super::*;

const OFTEN: Duration = Duration::from_millis(50);

fn shop() -> Definition {
    let collections = ["users", "orders"].map(|name| Collection { name: name.into(), policy: "newest/1".into() });
    Definition { collections: collections.into(), ..definition() }.with_members()
}

fn put(store: &Store, collection: &str, key: &str) {
    store.collection(collection).expect("there").put(key.as_bytes(), b"of one").expect("written");
}

/// The keys of a collection.
fn keys(store: &Store, collection: &str) -> Vec<String> {
    let rows = store.collection(collection).expect("there").scan(b"").expect("scanned");
    rows.map(|row| String::from_utf8(row.expect("a row").0).expect("text")).collect()
}

/// A node that lets another in so far, and one that lets it in all the way; each has written something to each collection, and
/// holds sessions with the other. Both have met twice since.
async fn met(may: &str) -> (Gossiping, Gossiping) {
    let (one, other) = (peer(true), peer(true));
    let grants: Grants = may.parse().expect("rights");
    one.home.grant(other.node.peer(), &grants).expect("granted");
    other.admit(one.node.peer(), Rights::ALL);
    let stores = [store_of(shop()), store_of(shop())];
    for (store, of) in stores.iter().zip(["one", "other"]) {
        ["users", "orders"].iter().for_each(|collection| put(store, collection, of));
        let member = Member { name: of.into(), since: 1, lease: 1 };
        store.add_member(&[of.len() as u8; 32], &member).expect("added");
    }
    let [a, b] = stores;
    let seed = other.address();
    let two = (Gossiping::start(one, a, vec![seed], OFTEN), Gossiping::start(other, b, Vec::new(), OFTEN));
    for (from, to) in [(&two.0, &two.1), (&two.1, &two.0)] {
        let checked = || {
            let all = from.gossip.standings(DatasetId([7; 16]));
            all.into_iter().find(|(peer, _)| *peer == to.peer.node.peer()).and_then(|(_, standing)| standing.checked)
        };
        for _ in 0..2 {
            let before = checked();
            until("both meet", || checked() > before).await;
        }
        assert_eq!(from.gossip.failing(DatasetId([7; 16])), [], "{may}");
    }
    two
}

/// What the first has of each collection and how many members it knows, and what the other has.
async fn after(may: &str) -> ((Vec<String>, Vec<String>, usize), (Vec<String>, Vec<String>)) {
    let (one, other) = met(may).await;
    let of = |it: &Gossiping| (keys(&it.store, "users"), keys(&it.store, "orders"));
    let (users, orders) = of(&one);
    let told = ((users, orders, one.store.members().expect("read").len()), of(&other));
    Gossiping::end_all(vec![one, other]).await;
    told
}

fn list(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[test]
fn a_turn_of_gossip_gives_and_takes_no_more_than_the_peer_may_here() {
    run_for(Duration::from_secs(240), async {
        let (both, one, other) = (list(&["one", "other"]), list(&["one"]), list(&["other"]));
        let told = after("compare,read,write").await;
        assert_eq!(told, ((both.clone(), both.clone(), 2), (both.clone(), both.clone())));
        let told = after("compare").await;
        assert_eq!(told, ((one.clone(), one.clone(), 1), (other.clone(), other.clone())));
        let told = after("compare,read").await;
        assert_eq!(told, ((one.clone(), one.clone(), 1), (both.clone(), both.clone())));
        let told = after("compare,write").await;
        assert_eq!(told, ((both.clone(), both.clone(), 1), (other.clone(), other.clone())));
        let told = after("compare,test/users=read,test/users=write").await;
        assert_eq!(told, ((both.clone(), one.clone(), 1), (both.clone(), other.clone())));
        let told = after("test/users=compare,test/users=read,test/orders=compare,test/orders=write").await;
        assert_eq!(told, ((one, both.clone(), 1), (both, other)));
    });
}
