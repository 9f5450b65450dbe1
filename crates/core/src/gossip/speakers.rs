//! Who speaks is told once on each way of a link, and by a number from then on: it is a third of what gossip would cost.
//!
//! What the words mean is said in [`super::word`]; that frames arrive whole and in order is the link's promise.

use super::word::SPOKEN;
use crate::bounds::GOSSIP_SPEAKERS_MAX;
use crate::canonical::DecodeError;

/// Bytes of a speaker.
pub(super) const SPEAKER_BYTES: usize = 48;
/// In the first byte of a frame: a number stands in place of its speaker.
const BY_NUMBER: u8 = 0x80;

/// The speakers of one way of one link, in the order in which they were told.
#[derive(Clone, Debug, Default)]
pub struct Speakers(Vec<[u8; SPEAKER_BYTES]>);

impl Speakers {
    /// A frame as it is to be sent next.
    pub fn shorten(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let Some(speaker) = spoken(&frame) else { return frame };
        match self.0.iter().position(|known| *known == speaker) {
            Some(number) => [&[frame[0] | BY_NUMBER, number as u8], &frame[1 + SPEAKER_BYTES..]].concat(),
            None => {
                self.add(speaker);
                frame
            }
        }
    }

    /// The frame that was sent.
    ///
    /// # Errors
    /// [`DecodeError`] for a number that nobody has.
    pub fn lengthen(&mut self, frame: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
        match frame.split_first() {
            Some((kind, rest)) if kind & BY_NUMBER != 0 => {
                let (number, rest) = rest.split_first().ok_or(DecodeError::Truncated)?;
                let speaker = self.0.get(usize::from(*number)).ok_or(DecodeError::Malformed("number of a speaker"))?;
                Ok([&[kind & !BY_NUMBER], speaker.as_slice(), rest].concat())
            }
            _ => {
                spoken(&frame).into_iter().for_each(|speaker| self.add(speaker));
                Ok(frame)
            }
        }
    }

    /// Whoever is told in full has the next number.
    fn add(&mut self, speaker: [u8; SPEAKER_BYTES]) {
        if self.0.len() == GOSSIP_SPEAKERS_MAX {
            self.0.clear();
        }
        self.0.push(speaker);
    }
}

/// The speaker of a frame, if it has one.
fn spoken(frame: &[u8]) -> Option<[u8; SPEAKER_BYTES]> {
    let (kind, rest) = frame.split_first()?;
    SPOKEN.contains(kind).then(|| rest.first_chunk().copied()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::DatasetId;
    use crate::gossip::{Speaker, Word};
    use crate::life::Life;
    use crate::stamp::Stamp;

    fn word(dataset: u8, swim: bool) -> Word {
        let life = Life { actor: 1, nonce: 2 };
        let speaker = Speaker { dataset: DatasetId([dataset; 16]), life, commit: 3, horizon: Stamp(4) };
        if swim { Word::Swim(vec![dataset]) } else { Word::Tell(speaker, Vec::new()) }
    }

    #[test]
    fn golden_numbers() {
        let mut speakers = Speakers::default();
        let mut sent = |word: &Word| speakers.shorten(word.encode());
        assert_eq!(sent(&word(7, false)), word(7, false).encode());
        assert_eq!(sent(&word(8, false)), word(8, false).encode());
        assert_eq!(sent(&word(7, false)), [0x81, 0]);
        assert_eq!(sent(&word(8, false)), [0x81, 1]);
        assert_eq!(sent(&word(7, true)), [4, 1, 7]);
        let mut nobody = Speakers::default();
        assert_eq!(nobody.lengthen(vec![0x81, 0]), Err(DecodeError::Malformed("number of a speaker")));
        assert_eq!(nobody.lengthen(vec![0x81]), Err(DecodeError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_sent_by_number_comes_back_in_full(said in proptest::collection::vec((0u8..80, any::<bool>()), 0..300)) {
            let (mut there, mut here) = (Speakers::default(), Speakers::default());
            for (dataset, swim) in said {
                let frame = word(dataset, swim).encode();
                prop_assert_eq!(here.lengthen(there.shorten(frame.clone())), Ok(frame));
            }
        }

        #[test]
        fn any_frames_come_to_an_end(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..80)) {
            let mut speakers = Speakers::default();
            for frame in frames {
                if let Ok(whole) = speakers.lengthen(frame.clone()) {
                    prop_assert!(whole.len() <= frame.len() + SPEAKER_BYTES);
                }
                prop_assert!(speakers.0.len() <= GOSSIP_SPEAKERS_MAX);
            }
        }
    }
}
