//! Tickets: a text that holds all that someone needs to join a dataset. What taking one up gives is the home's concern.

use reknit_core::{DatasetKey, Definition};
use serde::{Deserialize, Serialize};

use super::home::{hex, unhex};

const TICKET_FORMAT: u8 = 1;
/// The format of a ticket for a dataset of tables, which releases without those do not understand.
const TABLE_FORMAT: u8 = 2;
const TICKET_PREFIX: &str = "reknit-";

/// All that someone needs to join a dataset: its definition and key, where it is served, a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The dataset.
    pub definition: Definition,
    /// Its secret.
    pub key: DatasetKey,
    /// Where the inviting node serves it.
    pub address: String,
    /// Shown to the inviting node, once.
    pub token: Vec<u8>,
    /// How rows are laid out in each collection, if they are rows.
    pub layouts: Vec<Option<Vec<u8>>>,
    /// What is compared of each table, of a dataset of tables.
    pub table: Option<Vec<u8>>,
}

/// Why a text is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a whole ticket; copy all of it, from `reknit-` to its end")]
pub struct TicketError;

#[derive(Serialize, Deserialize)]
struct TicketBody(
    serde_bytes::ByteBuf,
    serde_bytes::ByteBuf,
    String,
    serde_bytes::ByteBuf,
    Vec<Option<serde_bytes::ByteBuf>>,
);

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layouts = self.layouts.iter().map(|l| l.clone().map(serde_bytes::ByteBuf::from)).collect();
        let (definition, key) = (self.definition.encode().into(), self.key.as_bytes().to_vec().into());
        let body = TicketBody(definition, key, self.address.clone(), self.token.clone().into(), layouts);
        let mut bytes = vec![if self.table.is_some() { TABLE_FORMAT } else { TICKET_FORMAT }];
        match &self.table {
            None => rmp_serde::encode::write(&mut bytes, &body),
            Some(shape) => rmp_serde::encode::write(&mut bytes, &(body, serde_bytes::Bytes::new(shape))),
        }
        .map_err(|_| std::fmt::Error)?;
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..4]);
        write!(f, "{TICKET_PREFIX}{}", hex(&bytes))
    }
}

impl std::str::FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let digits = text.trim().strip_prefix(TICKET_PREFIX).ok_or(TicketError)?;
        let bytes = unhex(digits).ok_or(TicketError)?;
        let (bytes, check) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or(TicketError)?;
        if blake3::hash(bytes).as_bytes()[..4] != *check {
            return Err(TicketError);
        }
        let (TicketBody(definition, key, address, token, layouts), table) = match bytes.split_first() {
            Some((&TICKET_FORMAT, body)) => (rmp_serde::from_slice(body).map_err(|_| TicketError)?, None),
            Some((&TABLE_FORMAT, body)) => {
                let (body, shape): (_, serde_bytes::ByteBuf) = rmp_serde::from_slice(body).map_err(|_| TicketError)?;
                (body, Some(shape.into_vec()))
            }
            _ => return Err(TicketError),
        };
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| TicketError)?;
        Ok(Ticket {
            definition: Definition::decode(&definition).map_err(|_| TicketError)?,
            key: DatasetKey::from_bytes(key),
            address,
            token: token.into_vec(),
            layouts: layouts.into_iter().map(|layout| layout.map(serde_bytes::ByteBuf::into_vec)).collect(),
            table,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::DatasetId;

    #[test]
    fn a_ticket_is_read_back_whole_or_not_at_all() {
        let ticket = Ticket {
            definition: Definition::simple(DatasetId([5; 16]), "cities"),
            key: DatasetKey::from_bytes([6; 32]),
            address: "quic://somebody".into(),
            token: vec![1, 2, 3],
            layouts: vec![Some(vec![9])],
            table: None,
        };
        let of_table = Ticket { table: Some(vec![1, 2]), ..ticket.clone() };
        let (text, of_table_text) = (ticket.to_string(), of_table.to_string());
        assert_eq!((text.parse(), of_table_text.parse()), (Ok(ticket), Ok(of_table)));
        assert!(text.starts_with("reknit-01") && of_table_text.starts_with("reknit-02"));
        assert_eq!(text[..text.len() - 2].parse::<Ticket>(), Err(TicketError));
        assert_eq!(text.replacen('0', "1", 1).parse::<Ticket>(), Err(TicketError));
        assert_eq!("reknit-".parse::<Ticket>(), Err(TicketError));
    }
}
