//! Stories of one whole node, and of a fleet of them, told over real sockets: what a client, an origin and an operator see.

#![expect(clippy::unwrap_used, reason = "a story that cannot be told fails")]

mod common;

#[path = "stories/attacks/mod.rs"]
mod attacks;
#[path = "stories/bodies.rs"]
mod bodies;
#[path = "stories/commands.rs"]
mod commands;
#[path = "stories/draining.rs"]
mod draining;
#[path = "stories/fills.rs"]
mod fills;
#[path = "stories/fleet/mod.rs"]
mod fleet;
#[path = "stories/fleet_processes.rs"]
mod fleet_processes;
#[path = "stories/floods.rs"]
mod floods;
#[path = "stories/freshness.rs"]
mod freshness;
#[path = "stories/hits.rs"]
mod hits;
#[path = "stories/hostile.rs"]
mod hostile;
#[path = "stories/interim.rs"]
mod interim;
#[path = "stories/lasting.rs"]
mod lasting;
#[path = "stories/managed.rs"]
mod managed;
#[path = "stories/operating.rs"]
mod operating;
#[path = "stories/orders.rs"]
mod orders;
#[path = "stories/partial.rs"]
mod partial;
#[path = "stories/passing.rs"]
mod passing;
#[path = "stories/personal.rs"]
mod personal;
#[path = "stories/proxied.rs"]
mod proxied;
#[path = "stories/purging.rs"]
mod purging;
#[path = "stories/reference.rs"]
mod reference;
#[path = "stories/secure.rs"]
mod secure;
#[path = "stories/slow.rs"]
mod slow;
#[path = "stories/smuggling.rs"]
mod smuggling;
#[path = "stories/suite.rs"]
mod suite;
#[path = "stories/validations.rs"]
mod validations;
#[path = "stories/watching.rs"]
mod watching;
