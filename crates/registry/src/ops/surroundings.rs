//! What the program tells of everything around the registry.

use async_trait::async_trait;
use std::{borrow::Cow, fmt};

/// What is around a registry: the program implements it.
#[async_trait]
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// Why this node should get no requests now; empty while all is well. Must not block the runtime.
    async fn ailments(&self) -> Vec<Ailment>;
    /// Numbers for `/metrics`. Those of one name are told one after the other, with the same help and kind. Must
    /// not block the runtime.
    async fn readings(&self) -> Vec<Reading>;
}

/// A reason why a node should get no requests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ailment {
    /// A word for scripts.
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub detail: Cow<'static, str>,
}

impl Ailment {
    /// One.
    pub fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name is told without the `_total` that it gets.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its name, in the units that Prometheus wants: bytes, seconds.
    pub name: &'static str,
    /// One line on what it is.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What tells it from others of its name. Bounded in number: never what a client sent.
    pub labels: Vec<(&'static str, String)>,
    /// It.
    pub value: f64,
}

impl Reading {
    /// A counter.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: Kind::Counter, labels: Vec::new(), value: value as f64 }
    }

    /// A gauge.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind: Kind::Gauge, ..Self::counter(name, help, value) }
    }

    /// With a label.
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }

    /// With a value that is no whole number.
    pub fn value(mut self, value: f64) -> Self {
        self.value = value;
        self
    }
}
