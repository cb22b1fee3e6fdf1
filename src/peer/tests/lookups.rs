//! The rules of lookups and sessions towards superpeers that do what they like: scripted ones, with real connections.

use super::mesh_tests::{BOTH, Fleet, PATIENCE, Up, met, name, object, query, until};
use crate::clock::Clock;
use crate::net::Tcp;
use crate::peer::exchange::Exchange;
use crate::peer::link::{LinkEvent, Links};
use crate::peer::mesh::Answer;
use crate::peer::session::{hear, say};
use crate::peer::view::View;
use crate::proto::swarm::{Ending, Finding, Member, NodeId, Token};
use crate::proto::wire::{self, Resolved, ask, note};
use crate::task::Spawner;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
