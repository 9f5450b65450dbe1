//! The embedded store over each of its engines: the contracts, histories against models, and what bad input gets.

mod engines;
mod histories;
mod sides;
mod support;
