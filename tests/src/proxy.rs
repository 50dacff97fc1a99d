//! A TCP relay that counts: what one node really sends another.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

/// A relay from a port of its own to a target.
pub struct Proxy {
    port: u16,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    back: AtomicU64,
    cut: AtomicBool,
}

impl Proxy {
    /// Relays to a multiaddr of the form `/ip4/127.0.0.1/tcp/<port>/p2p/<id>`.
    pub fn start(target: &str) -> Self {
        let target: u16 = target.split('/').nth(4).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, counters) = (listener.local_addr().unwrap().port(), Arc::<Counters>::default());
        let shared = counters.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (shared.clone(), shared.clone());
                thread::spawn(move || pump(client, server, |_| !there.cut.load(Relaxed)));
                thread::spawn(move || {
                    pump(server2, client2, |n| {
                        back.back.fetch_add(n as u64, Relaxed);
                        !back.cut.load(Relaxed)
                    })
                });
            }
        });
        Self { port, counters }
    }

    /// The target's multiaddr, through this relay.
    pub fn through(&self, target: &str) -> String {
        let id = target.rsplit('/').next().unwrap();
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{id}", self.port)
    }

    /// Bytes the target has sent back so far.
    pub fn sent(&self) -> u64 {
        self.counters.back.load(Relaxed)
    }

    /// Breaks every connection at its next byte.
    pub fn cut(&self) {
        self.counters.cut.store(true, Relaxed);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut go_on: impl FnMut(usize) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !go_on(read) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
