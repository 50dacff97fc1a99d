//! Names to roots: DNSLink, the hints beside it, and dnsaddr. Everything read from DNS is hostile.

pub(crate) mod hints;
