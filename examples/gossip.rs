//! Three nodes in one process that tell each other what is written. One of them is away for a while, and catches up.
//!
//! `cargo run --example gossip`

use std::time::Duration;

use reknit::core::message::Rights;
use reknit::node::embed::{EmbedError, Running, Watch};
use reknit::node::{GossipOptions, Node};

const PLACE: &str = "news/headlines";

struct Person {
    name: &'static str,
    node: Running,
    hears: Watch,
}

impl Person {
    async fn writes(&self, key: &str, text: &str) -> Result<(), EmbedError> {
        println!("{} writes {key}: {text}", self.name);
        self.node.put(PLACE, key.as_bytes(), text.as_bytes()).await.map(drop)
    }

    /// Waits until a key is heard of; what is heard before is printed too.
    async fn hears_of(&mut self, key: &str) -> Result<(), EmbedError> {
        while let Some(change) = self.hears.next().await.transpose()? {
            let text = change.value.as_deref().map_or("(deleted)".into(), String::from_utf8_lossy);
            println!("  {} hears of {}: {text}", self.name, String::from_utf8_lossy(&change.key));
            if change.key == key.as_bytes() {
                return Ok(());
            }
        }
        Err(EmbedError::Ended)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What is fresh is told at once. What somebody missed is found by a session, which is held each second here, and each
    // 10 s unless it is said otherwise.
    let often = GossipOptions { every: Duration::from_secs(1), ..GossipOptions::default() };
    let builder = || Node::builder().gossip(often.clone());
    let anna = builder().dataset("news", ["headlines"]).start().await?;
    let (ben, cleo) = (builder().start().await?, builder().start().await?);
    // Ben and Cleo know Anna alone: what one of them writes reaches the other through her.
    for node in [&ben, &cleo] {
        let ticket = anna.invite("news", Rights::ALL, Duration::from_secs(60)).await?;
        node.join(&ticket).await?;
    }
    let mut people = Vec::new();
    for (name, node) in [("Anna", anna), ("Ben", ben), ("Cleo", cleo)] {
        let hears = node.watch("news", None)?;
        people.push(Person { name, node, hears });
    }

    people[1].writes("1", "a heron on the roof").await?;
    for person in &mut people {
        person.hears_of("1").await?;
    }

    println!("Ben is away");
    people[1].node.suspend().await?;
    people[0].writes("2", "the heron has left").await?;
    people[1].writes("3", "written on a train").await?;
    people[2].hears_of("2").await?;
    assert_eq!(people[1].node.get(PLACE, b"2").await?, None);

    println!("Ben is back");
    people[1].node.resume().await?;
    people[1].hears_of("2").await?;
    people[0].hears_of("3").await?;
    people[2].hears_of("3").await?;

    let mut roots = Vec::new();
    for person in &people {
        roots.push(person.node.status().await?.datasets[0].root);
        person.node.shutdown().await?;
    }
    assert!(roots.iter().all(|root| *root == roots[0]));
    println!("all three are equal: {} records, root {}", roots[0].count, &roots[0].digest.to_string()[..12]);
    Ok(())
}
