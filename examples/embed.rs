//! Two replicas in one program: write to both, make them equal, watch what arrives.
//!
//! `cargo run --example embed`

use std::sync::Arc;
use std::time::Duration;

use reknit::core::session::{Direction, Intent, Options as SessionOptions};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::node::{Budget, between};
use reknit::store::{Options, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // Real programs draw these at random, once, and share them with every replica.
    let (id, key) = (DatasetId([1; 16]), DatasetKey::from_bytes([2; 32]));
    let definition = Definition::simple(id, "notes");
    let open = |name| Store::create(&dir.path().join(name), definition.clone(), key.clone(), &Options::default());
    let (desk, phone) = (open("desk")?, open("phone")?);

    // Acknowledged means synced to disk, and the tree is there in the same commit.
    desk.put(b"milk", b"two bottles")?;
    phone.put(b"bread", b"rye")?;
    assert_ne!(desk.root(), phone.root());

    let mut arrivals = phone.watch(None);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let runtime = tokio::runtime::Runtime::new()?;
    let (a, b) = (Arc::new(desk.clone()), Arc::new(phone.clone()));
    let options = SessionOptions::new(Intent::Repair(Direction::Both));
    let report = runtime.block_on(between(a, b, options, Budget::default(), stopped, &mut |_| {}))?;

    assert_eq!(desk.root(), phone.root());
    println!("{}: {} bytes of messages", report.outcome.verdict.name(), report.traffic.control());
    while let Ok(Some(event)) = arrivals.next(Duration::ZERO) {
        println!("the phone heard of {}", String::from_utf8_lossy(&event.key));
    }
    for record in phone.scan(b"")? {
        let (key, value) = record?;
        println!("{} = {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }
    Ok(())
}
