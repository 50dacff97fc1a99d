//! The whole program, used as its users use it. See `docs/ARCHITECTURE.md` for what each part is for.
#![allow(missing_docs, clippy::unwrap_used)]

mod accounts;
mod archives;
mod backup;
mod cli;
mod clients;
mod cold;
mod conformance;
mod crash;
mod damage;
mod disks;
mod imports;
mod interop;
mod journey;
mod model;
mod operations;
mod pins;
mod refusals;
mod retention;
mod scrub;
mod slow;
mod sparse;
mod static_binary;
mod streams;
mod tls;
mod upkeep;
