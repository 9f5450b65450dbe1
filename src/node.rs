//! The running peer: drives sessions between stores and links.
