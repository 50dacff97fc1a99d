//! The yardstick of a cold pull: one libp2p stream (TCP, TLS, yamux) that carries bytes and nothing
//! else, between two processes, hashed with sha256 as they arrive.

use anyhow::{Context, Result, bail};
use cidery_tests::process::peak_memory;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, StreamProtocol, Swarm, multiaddr::Protocol, swarm::SwarmEvent, tcp, tls, yamux};
use sha2::{Digest, Sha256};
use std::time::Instant;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/cidery-bench/raw/1");

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>> {
    Ok(libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?
        .build())
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Sends this many MiB to whoever opens a stream; prints its address first.
pub fn serve(mib: usize) -> Result<()> {
    block_on(async {
        let mut swarm = swarm()?;
        let mut incoming = swarm.behaviour_mut().new_control().accept(PROTOCOL)?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let id = *swarm.local_peer_id();
        tokio::spawn(async move {
            while let Some((_, mut stream)) = incoming.next().await {
                tokio::spawn(async move {
                    let piece = vec![7; 1 << 20];
                    for _ in 0..mib {
                        stream.write_all(&piece).await?;
                    }
                    stream.close().await
                });
            }
        });
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                println!("listening on {}", address.with(Protocol::P2p(id)));
            }
        }
    })
}

/// Fetches and hashes; prints the seconds from the opened connection to the last byte, and the peak
/// memory of this process.
pub fn fetch(address: &str, mib: usize) -> Result<()> {
    block_on(async {
        let mut swarm = swarm()?;
        let address: Multiaddr = address.parse()?;
        let Some(Protocol::P2p(peer)) = address.iter().last() else { bail!("{address} names no peer") };
        let mut control = swarm.behaviour_mut().new_control();
        swarm.dial(address)?;
        while !swarm.is_connected(&peer) {
            if let SwarmEvent::OutgoingConnectionError { error, .. } = swarm.select_next_some().await {
                return Err(error).context("dialling");
            }
        }
        let driving = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let start = Instant::now();
        let mut stream = control.open_stream(peer, PROTOCOL).await?;
        let (mut hash, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            total += read;
        }
        hash.finalize();
        if total != mib << 20 {
            bail!("{total} bytes came");
        }
        println!("{} {}", start.elapsed().as_secs_f64(), peak_memory(std::process::id()));
        driving.abort();
        Ok(())
    })
}
