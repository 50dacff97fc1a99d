//! The node's own log: what is said to the person who runs it.

use super::{
    access::{self, AccessLog},
    lines::{Care, Destination, Lines},
};
use anyhow::Result;
use std::{
    io::{self, IsTerminal},
    sync::Arc,
};
use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// What a person who runs a node wants to read. Those at error warn of what is no trouble: no bootstrap
/// peers, no route to some address while others are tried, and a peer that asks more than it may at once.
const DEFAULT: &str =
    "warn,cidery=info,cidery::access=off,libp2p_kad=error,libp2p_request_response=error,quinn_udp=error";

/// Logs go to standard error; `CIDERY_LOG` takes `tracing` filter directives. Requests are logged by themselves, where
/// `access` says.
pub fn init(access: Option<&Destination>) -> Result<Option<Arc<Lines>>> {
    let mut directives = std::env::var("CIDERY_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    if !directives.contains(access::TARGET) {
        // Whoever wants to know more does not want every request.
        directives = format!("{directives},{}=off", access::TARGET);
    }
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let lines = access.map(|to| Lines::open("access log", to, access::QUEUE, Care::Drop)).transpose()?.map(Arc::new);
    log_to(io::stderr, io::stderr().is_terminal(), filter, lines.clone()).init();
    Ok(lines)
}

fn log_to(
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    ansi: bool,
    filter: EnvFilter,
    requests: Option<Arc<Lines>>,
) -> Dispatch {
    let log = fmt::layer().with_writer(writer).with_ansi(ansi).with_filter(filter);
    let log = tracing_subscriber::registry().with(log);
    // Not `with(None)`. A layer that is not there counts as one that hears everything: each request that asks whether
    // anybody listens to its target is told yes, by a filter that said no, and takes the thread's next event for the
    // one that it has refused. That event is lost.
    match requests {
        Some(lines) => {
            log.with(AccessLog(lines).with_filter(filter_fn(|metadata| metadata.target() == access::TARGET))).into()
        }
        None => log.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tracing::{Level, dispatcher::with_default, enabled, info};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn lines(&self, word: &str) -> usize {
            String::from_utf8_lossy(&self.0.lock().expect("nobody panicked"))
                .lines()
                .filter(|line| line.contains(word))
                .count()
        }
    }

    fn log(directives: &str, requests: Option<Arc<Lines>>) -> (Buffer, Dispatch) {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        (buffer, log_to(move || writer.clone(), false, EnvFilter::new(directives), requests))
    }

    /// Requests ask before each whether it is to be logged; what else happens on their threads is logged all the same.
    #[test]
    fn asking_for_the_access_log_loses_no_other_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Destination::File(dir.path().join("access"));
        let lines = Arc::new(Lines::open("access log", &file, access::QUEUE, Care::Drop).expect("a log"));
        for (directives, requests, listened) in
            [(DEFAULT, None, false), (DEFAULT, Some(lines), true), ("info,cidery::access=info", None, true)]
        {
            let (buffer, dispatch) = log(directives, requests);
            with_default(&dispatch, || {
                for _ in 0..10 {
                    let asked = enabled!(target: "cidery::access", Level::INFO);
                    info!(target: "cidery::tls", "something else");
                    assert_eq!(asked, listened, "{directives}");
                    info!(target: "cidery::tls", "and more");
                }
            });
            assert_eq!((buffer.lines("something else"), buffer.lines("and more")), (10, 10), "{directives}");
        }
    }
}
