//! One file per job on the swarm; each owns what it waits for. The worker only routes between them.

pub(crate) mod answer;
mod askers;
pub(crate) mod dial;
pub(crate) mod expand;
pub(crate) mod inquire;
pub(crate) mod keyspace;
pub(crate) mod lapsed;
pub(crate) mod listen;
pub(crate) mod observed;
pub(crate) mod peers;
pub(crate) mod provide;
pub(crate) mod search;
pub(crate) mod uplink;
