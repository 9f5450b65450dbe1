//! What gossiping peers say to each other, to bytes and back: canonical and bounded, as `docs/protocol.md` has it.
//!
//! Who may say what, and what is done about it, is left to those who hear it.

use super::Rumour;
use crate::bounds::FRAME_BYTES_MAX;
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};
use crate::dataset::{CollectionId, DatasetId};
use crate::range::Position;
use crate::record::Record;

/// The version of these words; told in the first one.
pub const GOSSIP: u8 = 1;
/// Datasets that one peer gossips about.
const DATASETS_MAX: usize = 256;
/// Rumours in a word.
const RUMOURS_MAX: usize = 4096;

const HELLO: u8 = 0;
const TELL: u8 = 1;
const WANT: u8 = 2;
const RECORDS: u8 = 3;
const SWIM: u8 = 4;

/// One thing that is said; a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The first word of each side: which datasets it gossips about, and at which UDP port it takes in connections, if it does.
    Hello {
        /// Its datasets.
        datasets: Vec<DatasetId>,
        /// Its port, 0 for none.
        port: u16,
    },
    /// I have these.
    Tell(DatasetId, Vec<Rumour>),
    /// I want these.
    Want(DatasetId, Vec<Rumour>),
    /// Records of a collection, whole.
    Records(DatasetId, CollectionId, Vec<Record>),
    /// Who is up: bytes of the failure detector.
    Swim(Vec<u8>),
}

impl Word {
    /// The bytes of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let rumours = |out: &mut Vec<u8>, dataset: &DatasetId, rumours: &[Rumour]| {
            out.extend_from_slice(&dataset.0);
            for rumour in rumours {
                put_varint(out, u64::from(rumour.collection.0));
                out.extend_from_slice(&rumour.position.0.to_be_bytes());
                out.extend_from_slice(&rumour.entry.to_be_bytes());
            }
        };
        match self {
            Word::Hello { datasets, port } => {
                out.extend_from_slice(&[HELLO, GOSSIP]);
                out.extend_from_slice(&port.to_be_bytes());
                datasets.iter().for_each(|dataset| out.extend_from_slice(&dataset.0));
            }
            Word::Tell(dataset, told) => {
                out.push(TELL);
                rumours(&mut out, dataset, told);
            }
            Word::Want(dataset, wanted) => {
                out.push(WANT);
                rumours(&mut out, dataset, wanted);
            }
            Word::Records(dataset, collection, records) => {
                out.push(RECORDS);
                out.extend_from_slice(&dataset.0);
                put_varint(&mut out, u64::from(collection.0));
                records.iter().for_each(|record| record.encode(&mut out));
            }
            Word::Swim(bytes) => {
                out.push(SWIM);
                put_bytes(&mut out, bytes);
            }
        }
        out
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`DecodeError`] of what no peer of this version says.
    pub fn decode(frame: &[u8]) -> Result<Word, DecodeError> {
        if frame.len() > FRAME_BYTES_MAX {
            let (found, limit) = (frame.len() as u64, FRAME_BYTES_MAX as u64);
            return Err(DecodeError::Bound { what: "bytes of a frame", found, limit });
        }
        let mut reader = Reader::new(frame);
        match reader.u8()? {
            HELLO => {
                if reader.u8()? != GOSSIP {
                    return Err(DecodeError::Malformed("version of gossip"));
                }
                let port = u16::from_be_bytes(reader.array()?);
                let datasets = many(&mut reader, "datasets", DATASETS_MAX, |reader| Ok(DatasetId(reader.array()?)))?;
                Ok(Word::Hello { datasets, port })
            }
            TELL => Ok(Word::Tell(DatasetId(reader.array()?), rumours(&mut reader)?)),
            WANT => Ok(Word::Want(DatasetId(reader.array()?), rumours(&mut reader)?)),
            RECORDS => {
                let (dataset, of) = (DatasetId(reader.array()?), collection(&mut reader)?);
                Ok(Word::Records(dataset, of, many(&mut reader, "records", RUMOURS_MAX, Record::decode)?))
            }
            SWIM => {
                let bytes = reader.bytes("bytes of who is up", FRAME_BYTES_MAX)?.to_vec();
                reader.end()?;
                Ok(Word::Swim(bytes))
            }
            _ => Err(DecodeError::Malformed("kind of a word")),
        }
    }
}

fn collection(reader: &mut Reader<'_>) -> Result<CollectionId, DecodeError> {
    reader.varint("collection", u64::from(u16::MAX)).map(|collection| CollectionId(collection as u16))
}

fn rumours(reader: &mut Reader<'_>) -> Result<Vec<Rumour>, DecodeError> {
    many(reader, "rumours", RUMOURS_MAX, |reader| {
        let collection = collection(reader)?;
        Ok(Rumour { collection, position: Position(reader.u64()?), entry: reader.u64()? })
    })
}

/// All that is left, a bounded number.
fn many<T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    most: usize,
    one: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    while !reader.rest().is_empty() {
        if all.len() == most {
            return Err(DecodeError::Bound { what, found: most as u64 + 1, limit: most as u64 });
        }
        all.push(one(reader)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Actor, Content, Sibling, State, Version};
    use crate::stamp::Stamp;

    fn words() -> [Word; 5] {
        let dataset = DatasetId([7; 16]);
        let rumour = Rumour { collection: CollectionId(300), position: Position(1), entry: 2 };
        let version = Version::after(Stamp(3), Actor(4), []);
        let sibling = Sibling { version, content: Content::Live(b"v".to_vec()), expires: None };
        let record = Record { key: b"k".to_vec(), state: State::single(sibling) };
        [
            Word::Hello { datasets: vec![dataset], port: 7473 },
            Word::Tell(dataset, vec![rumour]),
            Word::Want(dataset, vec![rumour, rumour]),
            Word::Records(dataset, CollectionId(1), vec![record]),
            Word::Swim(vec![1, 2]),
        ]
    }

    #[test]
    fn golden_words() {
        let hex = |word: &Word| word.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let d = "07".repeat(16);
        let rumour = "ac0200000000000000010000000000000002";
        let words = words();
        assert_eq!(hex(&words[0]), format!("00011d31{d}"));
        assert_eq!(hex(&words[1]), format!("01{d}{rumour}"));
        assert_eq!(hex(&words[2]), format!("02{d}{rumour}{rumour}"));
        assert_eq!(hex(&words[3])[..36], format!("03{d}01"));
        assert_eq!(hex(&words[4]), "04020102");
    }

    #[test]
    fn words_come_back_and_cut_ones_do_not() {
        for word in words() {
            let bytes = word.encode();
            assert_eq!(Word::decode(&bytes), Ok(word));
            // Cut between two rumours, or before the first, it is another word; never the same.
            (0..bytes.len())
                .for_each(|end| assert_ne!(Word::decode(&bytes[..end]).map(|word| word.encode()), Ok(bytes.clone())));
        }
        assert!(Word::decode(&[HELLO, GOSSIP + 1, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_word_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
            let frame = [&[kind], bytes.as_slice()].concat();
            if let Ok(word) = Word::decode(&frame) {
                prop_assert_eq!(word.encode(), frame);
            }
        }
    }
}
