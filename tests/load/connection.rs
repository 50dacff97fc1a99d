//! A client's connection: whoever is told to wait waits, and nothing else may go wrong.

use crate::world::World;
use cidery_tests::wire::{Body, Client, Head, expect};
use std::{io, sync::atomic::Ordering::Relaxed, thread, time::Duration};

/// Made anew when one was given up.
pub struct Connection<'a> {
    world: &'a World,
    client: Option<Client>,
}

/// What `take` fails with to go away before a body's end.
pub fn gone() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

impl<'a> Connection<'a> {
    pub fn new(world: &'a World) -> Self {
        Self { world, client: None }
    }

    /// The next request is sent over another connection.
    pub fn close(&mut self) {
        self.client = None;
    }

    /// Sends a request again and again until it is not told to wait. `None` if `take` went away.
    pub fn exchange(
        &mut self,
        (method, path): (&str, &str),
        headers: &str,
        body: Body<'_>,
        take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> Option<Head> {
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/v2/{path}") };
        loop {
            let client = match &mut self.client {
                Some(client) => client,
                None => self.client.insert(Client::connect(&self.world.host).unwrap()),
            };
            let head = match client.exchange(method, &target, headers, body, take) {
                Ok(head) => head,
                Err(error) if error.kind() == gone().kind() => {
                    self.client = None;
                    return None;
                }
                Err(error) => panic!("{method} {target}: {error}"),
            };
            if head.headers.get("connection").is_some_and(|value| value == "close") {
                self.client = None;
            }
            if !matches!(head.status, 429 | 503) {
                return Some(head);
            }
            let pause = head.headers.get("retry-after").and_then(|value| value.parse().ok());
            let pause: u64 = pause.unwrap_or_else(|| panic!("{method} {target}: when to come back? {head:?}"));
            self.world.counts.told_to_wait.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_secs(pause));
        }
    }

    /// Sends a request of which the answer's body does not matter, and must have this status.
    pub fn ask(&mut self, request: (&str, &str), headers: &str, body: Body<'_>, status: u16) -> Head {
        let head = self.exchange(request, headers, body, &mut |_, _| Ok(())).unwrap();
        expect(head, status).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }
}
