//! Who is told what was done. Room is taken before something is done: so what may not be lost is not lost, and is
//! refused instead where it cannot be told.

use super::events::{Event, Room};
use async_trait::async_trait;
use std::{fmt, sync::Arc};
use thiserror::Error;

/// Somebody who is told what was done.
#[async_trait]
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Takes room for one event, waiting for it at most a moment.
    ///
    /// # Errors
    /// [`NoRoom`]: then what would have been told is not done.
    async fn room(&self) -> Result<Box<dyn Ticket>, NoRoom>;

    /// Whether it wants to be told of pulls, which are many.
    fn wants_pulls(&self) -> bool {
        false
    }

    /// Something was pulled. Must not wait: what there is no room for is dropped.
    fn pulled(&self, _event: &Event) {}
}

/// Room for one event. Dropped if there was nothing to tell after all.
pub trait Ticket: Send {
    /// Tells it. Does not wait, and does not fail.
    fn tell(self: Box<Self>, event: &Event);
}

/// Somebody who must be told cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NoRoom(pub String);

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// These.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers)
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes room with all of them.
    ///
    /// # Errors
    /// [`NoRoom`] of the first that has none.
    pub async fn room(&self) -> Result<Room, NoRoom> {
        let mut tickets = Vec::with_capacity(self.0.len());
        for observer in &self.0 {
            tickets.push(observer.room().await?);
        }
        Ok(Room(tickets))
    }

    /// Tells of a pull those who want to hear of it; `event` is made if there are any.
    pub fn pulled(&self, event: impl FnOnce() -> Event) {
        let mut wanting = self.0.iter().filter(|observer| observer.wants_pulls()).peekable();
        if wanting.peek().is_none() {
            return;
        }
        let event = event();
        wanting.for_each(|observer| observer.pulled(&event));
    }
}
