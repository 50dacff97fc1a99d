//! Every limit and deadline of this crate, in one place.

use std::time::Duration;

/// Wants that every peer may have, as deployed nodes grant them.
pub const FLOOR_WANTLIST: usize = 1_024;

/// Limits and deadlines. The defaults suit a node with a few hundred connections.
#[derive(Debug, Clone)]
pub struct Config {
    /// Blocks wanted at once by all sessions; further fetches wait their turn.
    pub max_wants: usize,
    /// Want-blocks outstanding at one peer. Deployed servers keep 1,024 entries per peer.
    pub max_wants_per_peer: usize,
    /// Want-haves standing at one peer, beside its want-blocks.
    pub max_haves_per_peer: usize,
    /// Bytes asked of one peer and not yet received (estimated from the sizes seen).
    pub peer_window: u64,
    /// How long a peer should need for what is asked of it: slower peers are asked for less.
    pub peer_window_time: Duration,
    /// Connected peers that one want is broadcast to.
    pub broadcast_peers: usize,
    /// Wants of one session that are broadcast at a time.
    pub broadcast_wants: usize,
    /// Peers that one session uses at a time.
    pub session_peers: usize,
    /// With connected peers to ask, how long they have before a session calls for providers. Also how
    /// long nothing may come for a want, whoever was asked, before it does.
    pub provider_delay: Duration,
    /// Least time between two calls for providers by one session.
    pub provider_interval: Duration,
    /// A peer that owes blocks and sends nothing for this long loses them to others.
    pub stall_after: Duration,
    /// A peer that keeps a want this long without a sign of it loses it to one that is idle: at least
    /// this long, and longer with each time that the want changed hands.
    pub race_after: Duration,
    /// Parts of frames are progress for at most this long without a wanted block among them. Sets the
    /// least rate at which a large block can come.
    pub slow_frame: Duration,
    /// How long a peer that cannot say "don't have" (before 1.2.0) is waited for.
    pub silent_after: Duration,
    /// A want fails with `Stalled` when nothing came for it for this long.
    pub no_progress: Duration,
    /// A want that nobody has, with routing exhausted, fails with `NotFound` at this age.
    pub not_found_after: Duration,
    /// Unrequested or wrong blocks before a peer is shunned.
    pub max_strikes: u32,
    /// How long a peer is shunned.
    pub shun: Duration,
    /// Blocks hashed and stored at a time, on blocking threads.
    pub hashers: usize,
    /// Local lookups of sessions at a time, on blocking threads.
    pub lookups: usize,

    /// Wants kept per peer. On overflow wants for blocks that are not here go first, then those of lower priority.
    pub max_wantlist: usize,
    /// Wants kept for all peers together; beyond, no peer has more than [`FLOOR_WANTLIST`].
    pub max_wantlists: usize,
    /// Longest CID, in bytes, that a want may name.
    pub max_cid: usize,
    /// A want-have for a block of at most this many bytes is answered with the block.
    pub have_replace: u64,
    /// Bytes read from the store ahead of what is being written, per peer: at most this, and at most
    /// what the peer drains in [`Self::read_ahead_time`].
    pub peer_read_ahead: usize,
    /// See [`Self::peer_read_ahead`].
    pub read_ahead_time: Duration,
    /// Bytes read ahead for all peers together, beside one message that each peer may always have.
    pub read_ahead: usize,
    /// Blocks read for peers at a time, on blocking threads.
    pub readers: usize,
    /// Small blocks are gathered into messages of about this many bytes.
    pub message_target: usize,

    /// Inbound streams per connection; more are reset.
    pub inbound_streams: usize,
    /// Bytes of unfinished messages per connection.
    pub inbound_buffer: usize,
    /// Bytes of unfinished messages of all connections together, small messages apart. A quarter is for
    /// peers that owe no block.
    pub inbound_buffers: usize,
    /// When those are used up, the message that comes slowest is given up after this time.
    pub inbound_patience: Duration,
    /// Entries (wants, presences and blocks together) in one message; more close the stream.
    pub max_entries: usize,
    /// A stream on which a started message makes no progress for this long is closed.
    pub stream_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            max_wants: 16_384,
            max_wants_per_peer: 512,
            max_haves_per_peer: 256,
            peer_window: 8 << 20,
            peer_window_time: Duration::from_secs(1),
            broadcast_peers: 64,
            broadcast_wants: 16,
            session_peers: 16,
            provider_delay: Duration::from_millis(200),
            provider_interval: Duration::from_secs(10),
            stall_after: Duration::from_secs(4),
            race_after: Duration::from_secs(1),
            slow_frame: Duration::from_secs(120),
            silent_after: Duration::from_secs(2),
            no_progress: Duration::from_secs(30),
            not_found_after: Duration::from_secs(10),
            max_strikes: 3,
            shun: Duration::from_secs(300),
            hashers: cores.max(4),
            lookups: 16,
            max_wantlist: 8_192,
            max_wantlists: 200_000,
            max_cid: 168,
            have_replace: 1_024,
            peer_read_ahead: 4 << 20,
            read_ahead_time: Duration::from_millis(250),
            read_ahead: 64 << 20,
            readers: cores.max(8),
            message_target: 64 << 10,
            inbound_streams: 64,
            inbound_buffer: 8 << 20,
            inbound_buffers: 64 << 20,
            inbound_patience: Duration::from_secs(1),
            max_entries: 64 << 10,
            stream_timeout: Duration::from_secs(30),
        }
    }
}
