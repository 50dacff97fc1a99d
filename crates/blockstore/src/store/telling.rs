//! Telling how far long work is.

use crate::options::{Progress, Stage};
use std::time::{Duration, Instant};

/// Whom to tell.
pub(super) type Tell<'a> = &'a (dyn Fn(Progress) + Sync);

/// Tells of a stage at most a few times a second.
pub(super) struct Telling<'a> {
    tell: Tell<'a>,
    stage: Stage,
    total: u64,
    last: Option<Instant>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(tell: Tell<'a>, stage: Stage, total: u64) -> Self {
        Self { tell, stage, total, last: None }
    }

    pub(super) fn at(&mut self, done: u64) {
        const PAUSE: Duration = Duration::from_millis(100);
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            (self.tell)(Progress { stage: self.stage, done, total: self.total.max(done) });
        }
    }
}
