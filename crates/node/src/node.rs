//! The handle.

use crate::{
    Bootstrap, Config, StartError,
    address::Surroundings,
    announce::{self, Announcement},
    drivers::{
        answer::{Answers, Oracle},
        expand::Expander,
        inquire::{CLAIMS, Inquiries},
        listen,
        peers::Kind,
        search::{Searches, Sessions},
    },
    inquiry::NodeInquiry,
    naming::{DnsConfig, Naming},
    questions::{Counts, Questions},
    session::NodeSession,
    swarm::{self, Parts},
    worker::{Command, Worker},
};
use async_trait::async_trait;
use cidery_bitswap::Bitswap;
use cidery_core::{
    Blockstore, Cid, Claim, Digest, Digests, ForeignName, Inquiry, Namespace, Network, NetworkError, PublicBlocks,
    ResolveError, Resolved, Session, SessionSpec,
};
use libp2p::Multiaddr;
use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
};
use tokio::sync::{mpsc, oneshot};

/// Commands that wait for the worker; whoever sends more waits.
const COMMANDS: usize = 256;

/// Announcements that wait for their turn.
const ANNOUNCEMENTS: usize = 16;

/// The bootstrap peers that IPFS nodes share (interop §3).
const BOOTSTRAP: [&str; 7] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
    "/ip4/104.131.131.82/udp/4001/quic-v1/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
];

/// A running node. Clones are the same node; it stops when the last handle and the last session are gone.
#[derive(Clone)]
pub struct Node {
    peer_id: Arc<str>,
    commands: mpsc::Sender<Command>,
    announcements: mpsc::Sender<Announcement>,
    bitswap: Bitswap,
    naming: Arc<Naming>,
    sessions: Sessions,
    public: Arc<dyn PublicBlocks>,
    oracle: Oracle,
    counts: Arc<Counts>,
}

impl Node {
    /// Starts a node; it is listening when this returns. What sessions fetch goes into `store`; peers
    /// are served from `public` and nothing else.
    ///
    /// # Errors
    /// See [`StartError`]: an address in use or not usable, a multiaddr that does not parse.
    pub async fn start(
        config: Config,
        store: Arc<dyn Blockstore>,
        public: Arc<dyn PublicBlocks>,
    ) -> Result<Node, StartError> {
        let Config { identity, listen, peers, bootstrap, mdns, dns, limits } = config;
        let peer_id: Arc<str> = identity.peer_id().into();
        let key = identity.into_keypair();
        let surroundings = Surroundings::new(key.public().to_peer_id());
        let system = |error: NetworkError| StartError::System(io::Error::other(error));
        let resolver = DnsConfig { server: dns };
        let naming = Arc::new(Naming::new(resolver.clone()).map_err(system)?);
        let expander = Expander::new(naming.clone(), &resolver).map_err(system)?;
        let (behaviour, bitswap) = cidery_bitswap::new(cidery_bitswap::Config::default(), store, public.clone());
        let parts = Parts { key, bitswap: behaviour, surroundings: surroundings.clone(), mdns, dns, limits };
        let mut swarm = swarm::build(parts)?;
        listen::listen(&mut swarm, &listen).await?;
        let sessions = Sessions::default();
        let searches = Searches::new(sessions.clone(), bitswap.clone(), expander, surroundings.clone());
        let oracle = Oracle::default();
        let counts = Arc::<Counts>::default();
        let digests = (Inquiries::new(counts.clone()), Answers::new(oracle.clone(), counts.clone()));
        let mut worker = Worker::new(swarm, surroundings, searches, digests);
        worker.add_peers(Kind::Configured, &peers)?;
        match bootstrap {
            Bootstrap::Default => worker.add_peers(Kind::Bootstrap, &BOOTSTRAP.map(String::from))?,
            Bootstrap::Addresses(addresses) => worker.add_peers(Kind::Bootstrap, &addresses)?,
            Bootstrap::None => {}
        }
        let (commands, inbox) = mpsc::channel(COMMANDS);
        tokio::spawn(worker.run(inbox));
        let (announcements, announced) = mpsc::channel(ANNOUNCEMENTS);
        tokio::spawn(announce::run(announced, bitswap.clone(), commands.clone()));
        Ok(Self { peer_id, commands, announcements, bitswap, naming, sessions, public, oracle, counts })
    }

    /// The node's peer id in base58.
    pub fn peer_id(&self) -> String {
        self.peer_id.to_string()
    }

    /// Where it can be dialled: multiaddrs ending in `/p2p/<peer id>`, wildcards expanded to the
    /// addresses of the interfaces, loopback included and last. Empty once the node has stopped.
    pub async fn addresses(&self) -> Vec<String> {
        self.ask(Command::Addresses).await.unwrap_or_default()
    }

    /// How many peers it is connected to.
    pub async fn peers(&self) -> usize {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// How many peers its routing tables know; none once the node has stopped.
    pub async fn tables(&self) -> Tables {
        self.ask(Command::Tables).await.unwrap_or_default()
    }

    /// Connects to a peer once. `addr` is a multiaddr, with or without `/p2p/<peer id>` at its end.
    ///
    /// # Errors
    /// [`NetworkError::Invalid`] if it is no multiaddr, [`NetworkError::Failed`] if nobody, or somebody
    /// else, answers there within a few seconds.
    pub async fn connect(&self, addr: &str) -> Result<(), NetworkError> {
        let address: Multiaddr =
            addr.parse().map_err(|error| NetworkError::Invalid(format!("{addr:?} is not a multiaddr: {error}")))?;
        self.ask(|reply| Command::Connect(address, reply)).await?
    }

    /// Tells peers that wait for these blocks that they are here now. For blocks that arrived other than
    /// through a session, and that peers may see.
    pub fn announce(&self, cids: impl IntoIterator<Item = Cid>) {
        self.bitswap.announce(cids);
    }

    /// Says who knows which files hold a blob, for peers that ask; until then they are told of none.
    pub fn answer_with(&self, digests: Arc<dyn Digests>) {
        *self.oracle.write() = Some(digests);
    }

    /// What went over the wire since the start, and what is waited for now.
    pub fn traffic(&self) -> Traffic {
        let stats = self.bitswap.stats();
        Traffic {
            blocks_sent: stats.blocks_sent,
            bytes_sent: stats.bytes_sent,
            blocks_received: stats.blocks_received,
            bytes_received: stats.bytes_received,
            duplicate_bytes: stats.duplicate_bytes,
            rejected_blocks: stats.rejected_blocks,
            wants: stats.wants,
            sessions: stats.sessions,
            peer_wants: stats.peer_wants,
        }
    }

    /// Questions for digests that went and came since the start.
    pub fn questions(&self) -> Questions {
        self.counts.read()
    }

    /// Stops it, whatever other handles there are; returns when its sockets are closed. Sessions fail
    /// from then on.
    pub async fn shutdown(&self) {
        // An error means that it stopped before.
        let _ = self.ask(Command::Shutdown).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NetworkError::Closed)?;
        answer.await.map_err(|_| NetworkError::Closed)
    }
}

/// Blocks and bytes exchanged with peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Bytes of blocks that came although another peer had delivered them meanwhile.
    pub duplicate_bytes: u64,
    /// Blocks that nobody had asked for, or that were not what they were said to be.
    pub rejected_blocks: u64,
    /// Blocks that are wanted now.
    pub wants: usize,
    /// Sessions now.
    pub sessions: usize,
    /// What peers want now, over all peers.
    pub peer_wants: usize,
}

/// Peers in the routing tables of the two DHTs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tables {
    /// Of the private network's.
    pub local: usize,
    /// Of the public network's.
    pub wide: usize,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.peer_id)
    }
}

#[async_trait]
impl Network for Node {
    fn session(&self, spec: SessionSpec) -> Arc<dyn Session> {
        let inner = self.bitswap.session(spec.root, spec.scope);
        let (root, hinted) = (spec.root, !spec.hints.is_empty());
        self.sessions.lock().insert(inner.id(), spec);
        Arc::new(NodeSession {
            inner,
            root,
            sessions: self.sessions.clone(),
            public: self.public.clone(),
            commands: self.commands.clone(),
            announced: AtomicBool::new(false),
            searching: Arc::new(AtomicBool::new(!hinted)),
        })
    }

    async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError> {
        self.naming.resolve(name).await
    }

    async fn provide(&self, namespace: &Namespace, roots: Vec<Cid>) -> Result<(), NetworkError> {
        let (reply, done) = oneshot::channel();
        let announcement = Announcement { namespace: namespace.clone(), roots, reply };
        self.announcements.send(announcement).await.map_err(|_| NetworkError::Closed)?;
        done.await.map_err(|_| NetworkError::Closed)?
    }

    async fn inquire(&self, digest: &Digest) -> Box<dyn Inquiry> {
        let (sender, claims) = mpsc::channel(CLAIMS);
        // A node that is stopping asks nobody: then the other end is dropped at once.
        let _ = self.commands.send(Command::Inquire(digest.clone(), sender)).await;
        Box::new(NodeInquiry(claims))
    }

    fn distrust(&self, claim: &Claim) {
        // When the worker has more to do than it can, the peer is believed once more.
        let _ = claim.peer.parse().map(|peer| self.commands.try_send(Command::Distrust(peer)));
    }
}
