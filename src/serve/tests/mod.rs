//! Requests of clients and peers to one node, in front of an origin that counts its versions.

mod lasting;
mod races;
mod rules;
mod stage;
