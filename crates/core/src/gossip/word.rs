//! What gossiping peers say to each other, to bytes and back: canonical and bounded, as `docs/protocol.md` has it.
//!
//! Who may say what, and what is done about it, is left to those who hear it.

use super::Rumour;
use crate::bounds::{FRAME_BYTES_MAX, GOSSIP_DATASETS_MAX, GOSSIP_RUMOURS_MAX};
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};
use crate::dataset::{CollectionId, DatasetId};
use crate::life::{Life, Sighting};
use crate::range::Position;
use crate::record::Record;
use crate::stamp::Stamp;

/// The version of these words; told in the first one.
pub const GOSSIP: u8 = 1;

const HELLO: u8 = 0;
const TELL: u8 = 1;
const WANT: u8 = 2;
const RECORDS: u8 = 3;
const SWIM: u8 = 4;
const DOUBT: u8 = 5;
const RECALL: u8 = 6;

/// The kinds of words that begin with who speaks.
pub(super) const SPOKEN: [u8; 5] = [TELL, WANT, RECORDS, DOUBT, RECALL];

/// Which store speaks about which dataset: as sessions do, peers look at that before anything moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The dataset.
    pub dataset: DatasetId,
    /// Which life of which store.
    pub life: Life,
    /// The commit number at which it was introduced in this opening.
    pub commit: u64,
    /// Up to where it has collected tombstones.
    pub horizon: Stamp,
}

impl Speaker {
    /// The opening in which it speaks, as a peer remembers it.
    pub fn sighting(&self) -> Sighting {
        Sighting { nonce: self.life.nonce, commit: self.commit }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.dataset.0);
        for number in [self.life.actor, self.life.nonce, self.commit, self.horizon.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Speaker, DecodeError> {
        let dataset = DatasetId(reader.array()?);
        let life = Life { actor: reader.u64()?, nonce: reader.u64()? };
        Ok(Speaker { dataset, life, commit: reader.u64()?, horizon: Stamp(reader.u64()?) })
    }
}

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
    Tell(Speaker, Vec<Rumour>),
    /// I want these.
    Want(Speaker, Vec<Rumour>),
    /// Records of a collection, whole, for the store that was opened under this nonce and no other.
    Records(Speaker, u64, CollectionId, Vec<Record>),
    /// I met your store in this opening; is it still the life that I met?
    Doubt(Speaker, Sighting),
    /// It is: it knows that opening.
    Recall(Speaker, Sighting),
    /// Who is up: bytes of the failure detector.
    Swim(Vec<u8>),
}

impl Word {
    /// Who speaks, if it is about a dataset.
    pub fn speaker(&self) -> Option<&Speaker> {
        match self {
            Word::Tell(speaker, _) | Word::Want(speaker, _) | Word::Records(speaker, ..) => Some(speaker),
            Word::Doubt(speaker, _) | Word::Recall(speaker, _) => Some(speaker),
            Word::Hello { .. } | Word::Swim(_) => None,
        }
    }

    /// Rumours or records in it.
    pub fn count(&self) -> u64 {
        match self {
            Word::Tell(_, rumours) | Word::Want(_, rumours) => rumours.len() as u64,
            Word::Records(.., records) => records.len() as u64,
            _ => 0,
        }
    }

    /// The bytes of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let rumours = |out: &mut Vec<u8>, speaker: &Speaker, rumours: &[Rumour]| {
            speaker.encode(out);
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
            Word::Tell(speaker, told) => {
                out.push(TELL);
                rumours(&mut out, speaker, told);
            }
            Word::Want(speaker, wanted) => {
                out.push(WANT);
                rumours(&mut out, speaker, wanted);
            }
            Word::Records(speaker, to, collection, records) => {
                out.push(RECORDS);
                speaker.encode(&mut out);
                out.extend_from_slice(&to.to_be_bytes());
                put_varint(&mut out, u64::from(collection.0));
                records.iter().for_each(|record| record.encode(&mut out));
            }
            Word::Swim(bytes) => {
                out.push(SWIM);
                put_bytes(&mut out, bytes);
            }
            Word::Doubt(speaker, met) | Word::Recall(speaker, met) => {
                out.push(if matches!(self, Word::Doubt(..)) { DOUBT } else { RECALL });
                speaker.encode(&mut out);
                [met.nonce, met.commit].iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
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
                let datasets =
                    many(&mut reader, "datasets", GOSSIP_DATASETS_MAX, |reader| Ok(DatasetId(reader.array()?)))?;
                Ok(Word::Hello { datasets, port })
            }
            TELL => Ok(Word::Tell(Speaker::decode(&mut reader)?, rumours(&mut reader)?)),
            WANT => Ok(Word::Want(Speaker::decode(&mut reader)?, rumours(&mut reader)?)),
            RECORDS => {
                let speaker = Speaker::decode(&mut reader)?;
                let (to, of) = (reader.u64()?, collection(&mut reader)?);
                Ok(Word::Records(speaker, to, of, many(&mut reader, "records", GOSSIP_RUMOURS_MAX, Record::decode)?))
            }
            SWIM => {
                let bytes = reader.bytes("bytes of who is up", FRAME_BYTES_MAX)?.to_vec();
                reader.end()?;
                Ok(Word::Swim(bytes))
            }
            kind @ (DOUBT | RECALL) => {
                let speaker = Speaker::decode(&mut reader)?;
                let met = Sighting { nonce: reader.u64()?, commit: reader.u64()? };
                reader.end()?;
                Ok(if kind == DOUBT { Word::Doubt(speaker, met) } else { Word::Recall(speaker, met) })
            }
            _ => Err(DecodeError::Malformed("kind of a word")),
        }
    }
}

fn collection(reader: &mut Reader<'_>) -> Result<CollectionId, DecodeError> {
    reader.varint("collection", u64::from(u16::MAX)).map(|collection| CollectionId(collection as u16))
}

fn rumours(reader: &mut Reader<'_>) -> Result<Vec<Rumour>, DecodeError> {
    many(reader, "rumours", GOSSIP_RUMOURS_MAX, |reader| {
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

    fn words() -> [Word; 7] {
        let dataset = DatasetId([7; 16]);
        let life = Life { actor: 1, nonce: 2 };
        let speaker = Speaker { dataset, life, commit: 3, horizon: Stamp(4) };
        let rumour = Rumour { collection: CollectionId(300), position: Position(1), entry: 2 };
        let version = Version::after(Stamp(3), Actor(4), []);
        let sibling = Sibling { version, content: Content::Live(b"v".to_vec()), expires: None };
        let record = Record { key: b"k".to_vec(), state: State::single(sibling) };
        [
            Word::Hello { datasets: vec![dataset], port: 7473 },
            Word::Tell(speaker, vec![rumour]),
            Word::Want(speaker, vec![rumour, rumour]),
            Word::Records(speaker, 9, CollectionId(1), vec![record]),
            Word::Swim(vec![1, 2]),
            Word::Doubt(speaker, Sighting { nonce: 5, commit: 6 }),
            Word::Recall(speaker, Sighting { nonce: 5, commit: 6 }),
        ]
    }

    #[test]
    fn golden_words() {
        let hex = |word: &Word| word.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let d = "07".repeat(16);
        let rumour = "ac0200000000000000010000000000000002";
        let words = words();
        assert_eq!(hex(&words[0]), format!("00011d31{d}"));
        let of = format!("{d}0000000000000001000000000000000200000000000000030000000000000004");
        assert_eq!(hex(&words[1]), format!("01{of}{rumour}"));
        assert_eq!(hex(&words[2]), format!("02{of}{rumour}{rumour}"));
        assert_eq!(hex(&words[3])[..116], format!("03{of}000000000000000901"));
        assert_eq!(hex(&words[4]), "04020102");
        assert_eq!(hex(&words[5]), format!("05{of}00000000000000050000000000000006"));
        assert_eq!(hex(&words[6]), format!("06{of}00000000000000050000000000000006"));
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
        fn any_bytes_are_a_word_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..8) {
            let frame = [&[kind], bytes.as_slice()].concat();
            if let Ok(word) = Word::decode(&frame) {
                prop_assert_eq!(word.encode(), frame);
            }
        }
    }
}
