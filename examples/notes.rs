//! Notes that two write at once: each is a yrs document, and a policy of this program merges what is written apart.
//!
//! `cargo run --example notes`

use std::sync::Arc;
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::core::policy::{Judgement, Policies, Policy, Why};
use reknit::core::{Collection, Content, DatasetId, Definition, Sibling};
use reknit::node::Node;
use reknit::node::embed::{EmbedError, Running};
use reknit::store::Options;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, TextRef, Transact, TransactionMut, Update};

/// A value is a whole document, with its history: of versions that have not seen each other, readers see the merged one.
#[derive(Debug)]
struct Merged;

impl Policy for Merged {
    fn id(&self) -> &str {
        "yrs/1"
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        // Whoever deletes a note does not win over one who goes on writing it.
        let live: Vec<usize> = (0..versions.len()).filter(|nth| versions[*nth].value().is_some()).collect();
        match live.as_slice() {
            [] => Judgement::Version(0),
            [one] => Judgement::Version(*one),
            [first, ..] => match merged(live.iter().filter_map(|nth| versions[*nth].value())) {
                Some(merged) => Judgement::Made(Content::Live(merged), None),
                // Peers write what they like: what is no document is left to somebody to decide.
                None => Judgement::Open { shown: *first, why: Why::Asks },
            },
        }
    }
}

fn merged<'v>(values: impl Iterator<Item = &'v Vec<u8>>) -> Option<Vec<u8>> {
    let doc = Doc::new();
    values.into_iter().try_for_each(|value| read(&doc, value))?;
    Some(written(&doc))
}

fn read(doc: &Doc, value: &[u8]) -> Option<()> {
    doc.transact_mut().apply_update(Update::decode_v1(value).ok()?).ok()
}

fn written(doc: &Doc) -> Vec<u8> {
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}

/// What an edit makes of a note. Each has a number of its own as its writer, which yrs draws.
fn edited(value: Option<&[u8]>, edit: impl Fn(&TextRef, &mut TransactionMut<'_>)) -> Option<Vec<u8>> {
    let doc = Doc::new();
    let text = doc.get_or_insert_text("text");
    if value.is_some_and(|value| read(&doc, value).is_none()) {
        return value.map(<[u8]>::to_vec);
    }
    edit(&text, &mut doc.transact_mut());
    Some(written(&doc))
}

fn text(value: &[u8]) -> String {
    let doc = Doc::new();
    let text = doc.get_or_insert_text("text");
    read(&doc, value).map_or("(no document)".into(), |()| text.get_string(&doc.transact()))
}

struct Replica {
    name: &'static str,
    node: Running,
}

impl Replica {
    async fn start(name: &'static str, datasets: Vec<Definition>) -> Result<Replica, EmbedError> {
        // Whoever has replicas of the dataset brings the policy: without it a store is not made.
        let options = Options { policies: Policies::default().with(Arc::new(Merged)), ..Options::default() };
        let builder = Node::builder().store_options(options).without_gossip();
        let builder = datasets.into_iter().fold(builder, |builder, definition| builder.definition(definition));
        Ok(Replica { name, node: builder.start().await? })
    }

    async fn edit(
        &self,
        what: &str,
        edit: impl Fn(&TextRef, &mut TransactionMut<'_>) + Send + 'static,
    ) -> Result<(), EmbedError> {
        println!("{} {what}", self.name);
        // What arrives between a read and a write would be lost; an update sees it.
        self.node.update("notes", b"shopping", move |note| edited(note, &edit)).await.map(drop)
    }

    async fn text(&self) -> Result<String, EmbedError> {
        let note = self.node.get("notes", b"shopping").await?;
        Ok(note.map_or("(no note)".into(), |note| text(&note)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contents = ["milk", "bread", ""].map(|words| {
        let value = edited(None, |text, edit| text.insert(edit, 0, words));
        Content::Live(value.unwrap_or_default())
    });
    reknit::testing::policy_laws(&Merged, &contents, 1)?;
    reknit::testing::policy_laws(&Merged, &[Content::Live(b"no document".to_vec())], 1)?;
    println!("the policy keeps the laws");

    let collections = vec![Collection { name: "all".into(), policy: Merged.id().into() }];
    let notes = Definition { collections, ..Definition::simple(DatasetId([0; 16]), "notes") };
    let desk = Replica::start("the desk", vec![notes]).await?;
    let phone = Replica::start("the phone", Vec::new()).await?;
    desk.edit("begins a note", |text, edit| text.insert(edit, 0, "milk\n")).await?;
    let ticket = desk.node.invite("notes", Rights::ALL, Duration::from_secs(60)).await?;
    let at = phone.node.join(&ticket).await?;
    phone.node.sync_at(&at).await?;

    println!("both are offline");
    desk.node.suspend().await?;
    phone.node.suspend().await?;
    desk.edit("writes above it", |text, edit| text.insert(edit, 0, "for Sunday:\n")).await?;
    phone.edit("writes below it", |text, edit| text.insert(edit, text.len(edit), "bread\n")).await?;
    phone.edit("and once more", |text, edit| text.insert(edit, text.len(edit), "salt\n")).await?;

    println!("both are back");
    desk.node.resume().await?;
    phone.node.resume().await?;
    phone.node.sync_at(&at).await?;
    let (here, there) = (desk.text().await?, phone.text().await?);
    assert_eq!(here, there);
    print!("{here}");
    assert_eq!(here, "for Sunday:\nmilk\nbread\nsalt\n");

    // Whoever writes next has seen both versions: one is left.
    desk.edit("strikes the salt", |text, edit| text.remove_range(edit, text.len(edit) - 5, 5)).await?;
    phone.node.sync_at(&at).await?;
    assert_eq!(phone.text().await?, "for Sunday:\nmilk\nbread\n");
    let versions = |replica: &Replica| {
        let state = replica.node.store("notes")?.first().versions(b"shopping")?;
        Ok::<usize, EmbedError>(state.map_or(0, |state| state.versions().len()))
    };
    println!("versions that are left: {} and {}", versions(&desk)?, versions(&phone)?);
    for replica in [phone, desk] {
        replica.node.shutdown().await?;
    }
    Ok(())
}
