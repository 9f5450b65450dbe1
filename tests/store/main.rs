//! The embedded store over each of its engines: the contracts, histories against models, and what bad input gets.

mod broken;
mod collecting;
mod conflicts;
mod copies;
mod engines;
mod expiring;
mod faults;
mod giving_way;
mod histories;
mod imports;
mod journal;
mod limits;
mod lives;
mod passes;
mod pushed;
mod quarantine;
mod reads;
mod sides;
mod sketches;
mod support;
mod undos;
mod watching;
mod written;
