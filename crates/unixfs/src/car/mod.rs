//! CAR.
