//! Embedding the registry or the node in a program of one's own:
//!
//! ```sh
//! cargo run -p cidery-examples --example memory-registry     # a registry without a disk or a network
//! cargo run -p cidery-examples --example node -- DATA        # the whole node, without the command line
//! ```
