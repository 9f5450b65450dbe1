//! The tree over records once more, from the words of `docs/formats.md` alone: what the product digests is compared with it.

use reknit::core::{Content, Digest, State, Summary};

/// The dataset's key in all runs.
const KEY: [u8; 32] = [9; 32];
const LEAF_MAX: usize = 32;
const DEPTH_MAX: u8 = 16;

fn digest(domain: &str, bytes: &[u8]) -> [u8; 32] {
    let key = blake3::derive_key(&format!("reknit 2026 v1 {domain}"), &KEY);
    *blake3::keyed_hash(&key, bytes).as_bytes()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The root of a collection of these records.
pub(crate) fn root<'r>(
    collection: &str,
    records: impl Iterator<Item = (&'r [u8], &'r State)>,
    position_bits: Option<u32>,
) -> Summary {
    let mask = position_bits.map_or(u64::MAX, |bits| u64::MAX << (64 - bits));
    let mut entries: Vec<(u64, [u8; 32])> = records
        .map(|(key, state)| {
            let mut place = Vec::new();
            prefixed(&mut place, collection.as_bytes());
            place.extend_from_slice(key);
            let position = digest("placement", &place);
            let position = u64::from_be_bytes(std::array::from_fn(|nth| position[nth])) & mask;
            (position, digest("entry", &entry(collection, key, state)))
        })
        .collect();
    entries.sort_unstable();
    let (count, digest) = range(0, 0, &entries);
    Summary { count, digest: Digest(digest) }
}

fn entry(collection: &str, key: &[u8], state: &State) -> Vec<u8> {
    let mut out = vec![1, 0];
    prefixed(&mut out, collection.as_bytes());
    prefixed(&mut out, key);
    varint(&mut out, state.versions().len() as u64);
    for sibling in state.versions() {
        out.extend_from_slice(&sibling.version.stamp.0.to_be_bytes());
        out.extend_from_slice(&sibling.version.actor.0.to_be_bytes());
        let seen: Vec<_> = sibling.version.seen.iter().collect();
        varint(&mut out, seen.len() as u64);
        for (actor, stamp) in seen {
            out.extend_from_slice(&actor.0.to_be_bytes());
            out.extend_from_slice(&stamp.0.to_be_bytes());
        }
        let live = u8::from(sibling.value().is_some());
        out.push(live | if sibling.expires.is_some() { 2 } else { 0 });
        out.extend(sibling.expires.iter().flat_map(|expires| expires.to_be_bytes()));
        if let Content::Live(value) = &sibling.content {
            out.extend_from_slice(&digest("content", value));
        }
    }
    out
}

fn range(prefix: u64, depth: u8, entries: &[(u64, [u8; 32])]) -> (u64, [u8; 32]) {
    let count = entries.len() as u64;
    if entries.is_empty() {
        return (0, [0; 32]);
    }
    let mut out = vec![depth];
    out.extend_from_slice(&prefix.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    if entries.len() <= LEAF_MAX || depth == DEPTH_MAX {
        for (position, digest) in entries {
            out.extend_from_slice(&position.to_be_bytes());
            out.extend_from_slice(digest);
        }
        return (count, digest("leaf", &out));
    }
    let mut rest = entries;
    for digit in 0..16_u64 {
        let shift = 60 - 4 * u32::from(depth);
        let (here, later) = rest.split_at(rest.partition_point(|(position, _)| position >> shift & 15 <= digit));
        let (count, digest) = range(prefix | digit << shift, depth + 1, here);
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&digest);
        rest = later;
    }
    (count, digest("inner", &out))
}
