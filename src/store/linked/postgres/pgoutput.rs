//! What logical decoding says by its plugin `pgoutput`, protocol 1: messages of bytes, and which keys a stream of them marks.
//! Pure: where the bytes come from, and what becomes of the keys, is [`super::slot`]'s concern.

use reknit_core::DecodeError;
use reknit_core::canonical::Reader;

/// Where something is in the write-ahead log, in bytes since its beginning.
pub(super) type Position = u64;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A transaction that committed `at` a place, the low half of its number, and what it did, up to [`Message::Commit`].
    Begin { at: Position, number: u32 },
    /// Its end.
    Commit,
    /// What a table that is named next is made of.
    Relation(Relation<'a>),
    /// A row came.
    Insert { relation: u32, new: Vec<Field<'a>> },
    /// A row changed; what it was is said only if its identity was another.
    Update { relation: u32, old: Option<Vec<Field<'a>>>, new: Vec<Field<'a>> },
    /// A row went.
    Delete { relation: u32, old: Vec<Field<'a>> },
    /// Tables were emptied.
    Truncate,
    /// What somebody has said in the log.
    Told { prefix: &'a str, content: &'a [u8] },
    /// Where a transaction comes from, or what a type is called.
    Aside,
}

/// What a table is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation<'a> {
    id: u32,
    name: &'a str,
    columns: Vec<Named<'a>>,
}

/// One column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named<'a> {
    name: &'a str,
    of: u32,
    /// Whether it is of the row's identity, which is told of rows that were.
    identifies: bool,
}

/// A field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Null,
    /// It lies elsewhere and is as it was.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// # Errors
    /// [`DecodeError`] for anything but one whole message.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            b'B' => {
                let at = reader.u64()?;
                let _time = reader.u64()?;
                Message::Begin { at, number: number(&mut reader)? }
            }
            b'C' => {
                reader.take(1 + 3 * 8)?;
                Message::Commit
            }
            b'R' => Message::Relation(relation(&mut reader)?),
            b'I' => {
                let relation = number(&mut reader)?;
                expect(&mut reader, b'N')?;
                Message::Insert { relation, new: row(&mut reader)? }
            }
            b'U' => {
                let relation = number(&mut reader)?;
                let old = match reader.u8()? {
                    b'N' => None,
                    b'K' | b'O' => {
                        let old = row(&mut reader)?;
                        expect(&mut reader, b'N')?;
                        Some(old)
                    }
                    _ => return Err(DecodeError::Malformed("rows of an update")),
                };
                Message::Update { relation, old, new: row(&mut reader)? }
            }
            b'D' => {
                let relation = number(&mut reader)?;
                match reader.u8()? {
                    b'K' | b'O' => Message::Delete { relation, old: row(&mut reader)? },
                    _ => return Err(DecodeError::Malformed("row of a delete")),
                }
            }
            b'T' => {
                let relations = number(&mut reader)? as usize;
                reader.take(1)?;
                reader.take(relations.checked_mul(4).ok_or(DecodeError::Truncated)?)?;
                Message::Truncate
            }
            b'M' => {
                reader.take(1 + 8)?;
                let prefix = name(&mut reader)?;
                let length = number(&mut reader)? as usize;
                Message::Told { prefix, content: reader.take(length)? }
            }
            b'Y' => {
                reader.take(4)?;
                name(&mut reader)?;
                name(&mut reader)?;
                Message::Aside
            }
            b'O' => {
                reader.take(8)?;
                name(&mut reader)?;
                Message::Aside
            }
            _ => return Err(DecodeError::Malformed("kind of a message")),
        };
        reader.end()?;
        Ok(message)
    }
}

fn relation<'a>(reader: &mut Reader<'a>) -> Result<Relation<'a>, DecodeError> {
    let id = number(reader)?;
    let _schema = name(reader)?;
    let table = name(reader)?;
    let _identity = reader.u8()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(reader.array()?) {
        let identifies = reader.u8()? & 1 == 1;
        let column = name(reader)?;
        let of = number(reader)?;
        let _modifier = number(reader)?;
        columns.push(Named { name: column, of, identifies });
    }
    Ok(Relation { id, name: table, columns })
}

fn row<'a>(reader: &mut Reader<'a>) -> Result<Vec<Field<'a>>, DecodeError> {
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(reader.array()?) {
        fields.push(match reader.u8()? {
            b'n' => Field::Null,
            b'u' => Field::Unchanged,
            kind @ (b't' | b'b') => {
                let length = number(reader)? as usize;
                let bytes = reader.take(length)?;
                if kind == b't' { Field::Text(bytes) } else { Field::Binary(bytes) }
            }
            _ => return Err(DecodeError::Malformed("kind of a field")),
        });
    }
    Ok(fields)
}

fn number(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(u32::from_be_bytes(reader.array()?))
}

/// A text that ends with a zero byte.
fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let length = reader.rest().iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated)?;
    let bytes = reader.take(length)?;
    reader.take(1)?;
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("name"))
}

fn expect(reader: &mut Reader<'_>, byte: u8) -> Result<(), DecodeError> {
    if reader.u8()? == byte { Ok(()) } else { Err(DecodeError::Malformed("row")) }
}

/// Follows a stream: which keys its messages mark.
pub(super) struct Marks {
    /// Name and type of each column of the key.
    key: Vec<(String, u32)>,
    /// The relations that were told, each with the places of the key's columns in it.
    relations: Vec<(u32, Vec<usize>)>,
}

/// A key that was marked: its fields, in the order of the key.
type Marked<'a> = Vec<&'a [u8]>;

impl Marks {
    pub(super) fn new(key: Vec<(String, u32)>) -> Marks {
        Marks { key, relations: Vec::new() }
    }

    /// The keys that a message marks.
    ///
    /// # Errors
    /// Why it cannot be said which, for people.
    pub(super) fn of<'a>(&mut self, message: &Message<'a>) -> Result<Vec<Marked<'a>>, String> {
        match message {
            Message::Relation(relation) => {
                let places = self.places(relation)?;
                self.relations.retain(|(id, _)| *id != relation.id);
                self.relations.push((relation.id, places));
                Ok(Vec::new())
            }
            Message::Insert { relation, new } => Ok(vec![self.key_of(*relation, new, None)?]),
            Message::Delete { relation, old } => Ok(vec![self.key_of(*relation, old, None)?]),
            Message::Update { relation, old, new } => {
                let was = old.as_ref().map(|old| self.key_of(*relation, old, None)).transpose()?;
                let is = self.key_of(*relation, new, old.as_deref())?;
                Ok(was.into_iter().filter(|was| *was != is).chain([is.clone()]).collect())
            }
            Message::Truncate => Err("it was emptied by TRUNCATE since it was read".into()),
            Message::Begin { .. } | Message::Commit | Message::Told { .. } | Message::Aside => Ok(Vec::new()),
        }
    }

    /// Where the key's columns are in a relation, each part of the identity, so that rows that were are told by them.
    fn places(&self, relation: &Relation<'_>) -> Result<Vec<usize>, String> {
        let place = |(name, of): &(String, u32)| {
            let found = relation.columns.iter().position(|column| column.name == name && column.of == *of);
            let place = found.ok_or_else(|| format!("{} had no column {name} as it is now", relation.name))?;
            if !relation.columns[place].identifies {
                return Err(format!("the REPLICA IDENTITY of {} was without {name}", relation.name));
            }
            Ok(place)
        };
        self.key.iter().map(place).collect()
    }

    /// The key of a row. What lies elsewhere and is as it was is not sent again: it is taken from the row that was.
    fn key_of<'a>(&self, id: u32, row: &[Field<'a>], was: Option<&[Field<'a>]>) -> Result<Marked<'a>, String> {
        let found = self.relations.iter().find(|(told, _)| *told == id);
        let (_, places) = found.ok_or("rows came of a table that was not told")?;
        let field = |place: &usize| match (row.get(*place), was.and_then(|was| was.get(*place))) {
            (Some(Field::Binary(bytes)), _) | (Some(Field::Unchanged), Some(Field::Binary(bytes))) => Ok(*bytes),
            _ => Err("a row came without its key".to_string()),
        };
        places.iter().map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|nth| u8::from_str_radix(&hex[2 * nth..2 * nth + 2], 16).expect("hex")).collect()
    }

    /// What PostgreSQL 15 sent of a table of a number, its key, and a text; last of an origin, and of a type.
    const SENT: [&str; 12] = [
        "42000000000154afd80003043828fc4a0c000002da",
        "52000040007075626c69630074006400020169640000000017ffffffff00760000000019ffffffff",
        "49000040004e0002620000000400000001620000000161",
        "49000040004e00026200000004000000026e",
        "55000040004e0002620000000400000001620000000162",
        "55000040004b00026200000004000000016e4e0002620000000400000003620000000162",
        "44000040004b00026200000004000000026e",
        "54000000010000004000",
        "4d01000000000154cbc872656b6e697400000000026e31",
        "4300000000000154afd8000000000154b0080003043828fc4a0c",
        "4f000000000154b008706c61636500",
        "590000404f7075626c6963006d6f6f6400",
    ];

    #[test]
    fn what_a_server_sent_is_understood() {
        let sent: Vec<Vec<u8>> = SENT.iter().map(|hex| bytes(hex)).collect();
        let messages: Vec<Message<'_>> = sent.iter().map(|bytes| Message::decode(bytes).expect("a message")).collect();
        assert_eq!(messages[0], Message::Begin { at: 0x154_afd8, number: 730 });
        assert_eq!(messages[7], Message::Truncate);
        assert_eq!(messages[8], Message::Told { prefix: "reknit", content: b"n1" });
        assert_eq!((&messages[9], &messages[10], &messages[11]), (&Message::Commit, &Message::Aside, &Message::Aside));
        let mut marks = Marks::new(vec![("id".into(), 23)]);
        let marked: Vec<_> = messages[..7].iter().map(|message| marks.of(message).expect("keys")).collect();
        let keys = |ids: &[u8]| ids.iter().map(|id| vec![vec![0, 0, 0, *id]]).collect::<Vec<Vec<Vec<u8>>>>();
        let owned = |all: &Vec<Marked<'_>>| -> Vec<Vec<Vec<u8>>> {
            all.iter().map(|key| key.iter().map(|field| field.to_vec()).collect()).collect()
        };
        let expected = [keys(&[]), keys(&[]), keys(&[1]), keys(&[2]), keys(&[1]), keys(&[1, 3]), keys(&[2])];
        assert_eq!(marked.iter().map(owned).collect::<Vec<_>>(), expected);
        assert!(marks.of(&messages[7]).is_err_and(|why| why.contains("TRUNCATE")));
    }

    #[test]
    fn what_does_not_tell_keys_is_a_gap() {
        let (relation, insert, update) = (bytes(SENT[1]), bytes(SENT[2]), bytes(SENT[4]));
        let [relation, insert, update] = [&relation, &insert, &update].map(|sent| Message::decode(sent).expect("one"));
        let why = |key: &[(&str, u32)], messages: &[&Message<'_>]| {
            let mut marks = Marks::new(key.iter().map(|(name, of)| ((*name).to_string(), *of)).collect());
            messages.iter().find_map(|message| marks.of(message).err())
        };
        assert_eq!(why(&[("id", 23)], &[&relation, &insert, &update]), None);
        let renamed = why(&[("number", 23)], &[&relation]).expect("a gap");
        assert!(renamed.contains("no column number"), "{renamed}");
        assert!(why(&[("id", 20)], &[&relation]).is_some(), "another type");
        assert!(why(&[("v", 25)], &[&relation]).is_some_and(|why| why.contains("REPLICA IDENTITY")));
        assert!(why(&[("id", 23)], &[&insert]).is_some(), "a table that was not told");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(tag in prop::sample::select(b"BCRIUDTMYOx".to_vec()), rest in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [vec![tag], rest].concat();
            if let Ok(message) = Message::decode(&bytes) {
                let _ = Marks::new(vec![("id".into(), 23)]).of(&message);
            }
        }

        #[test]
        fn no_part_of_a_message_is_one(nth in 0..SENT.len(), flipped in any::<(prop::sample::Index, u8)>()) {
            let mut sent = bytes(SENT[nth]);
            for cut in 0..sent.len() {
                prop_assert!(Message::decode(&sent[..cut]).is_err());
            }
            let place = flipped.0.index(sent.len());
            sent[place] ^= flipped.1;
            let _ = Message::decode(&sent);
        }
    }
}
