//! Files of lines that are written by a thread of their own: nobody who has a line waits for a disk.
//!
//! A file is opened for appending, written a whole line at a time, and opened anew after [`Lines::reopen`], so that it
//! can be renamed away.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{self, OwnedPermit};

/// How much is written in one go.
const BATCH: usize = 64 << 10;
/// What could not be written is tried again after this.
const RETRY: Duration = Duration::from_millis(500);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// A file, made if it is not there.
    File(PathBuf),
}

impl From<String> for Destination {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stderr" => Self::Stderr,
            _ => Self::File(text.into()),
        }
    }
}

impl FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.to_owned().into())
    }
}

/// What is done about lines that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// They are dropped and counted.
    Drop,
    /// They are tried again until they are written; meanwhile no more are taken than the queue holds.
    Keep,
}

enum Message {
    /// One line, or several at once, without the last line feed.
    Line(String),
    End,
}

/// A file of lines.
#[derive(Debug)]
pub struct Lines {
    what: &'static str,
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    /// Until somebody waits for it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    reopen: AtomicBool,
    hurry: AtomicBool,
}

/// Room for one line.
pub struct Place(OwnedPermit<Message>);

impl Place {
    /// Uses it.
    pub fn put(self, line: String) {
        self.0.send(Message::Line(line));
    }
}

impl Lines {
    /// Opens the file and starts its thread. `what` it is, for messages; at most `queue` lines wait.
    pub fn open(what: &'static str, destination: &Destination, queue: usize, care: Care) -> Result<Self> {
        let file = open(destination).with_context(|| format!("opening the {what}"))?;
        let (sender, receiver) = mpsc::channel(queue);
        let shared = Arc::new(Shared::default());
        let writer = Writer { what, destination: destination.clone(), file, care, shared: shared.clone(), ill: false };
        let thread = thread::Builder::new().name("lines".into()).spawn(move || writer.run(receiver));
        let thread = thread.context("starting a thread")?;
        Ok(Self { what, queue: sender, shared, thread: Some(thread).into() })
    }

    /// Room for one line, waiting at most so long; `None` if there is none.
    pub async fn room(&self, patience: Duration) -> Option<Place> {
        let room = self.queue.clone().reserve_owned();
        tokio::time::timeout(patience, room).await.ok()?.ok().map(Place)
    }

    /// Writes a line if there is room; if not it is counted as lost.
    pub fn offer(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.shared.lose(self.what, 1);
        }
    }

    /// Before the next line the file is opened by its name again.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
    }

    /// Lines that were written, and that were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.written.load(Relaxed), self.shared.lost.load(Relaxed))
    }

    /// Writes what waits, for at most so long, and ends. Lines that come later are lost.
    pub async fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut told = tokio::time::timeout(patience / 2, self.queue.send(Message::End)).await;
        // From now on what fails is not tried again.
        self.shared.hurry.store(true, Relaxed);
        if told.is_err() {
            told = tokio::time::timeout(patience / 4, self.queue.send(Message::End)).await;
        }
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if told.is_err() || thread.is_some_and(|thread| !thread.is_finished()) {
            tracing::error!("the {} could not be written to its end", self.what);
        }
    }
}

impl Shared {
    fn lose(&self, what: &str, lines: u64) {
        let before = self.lost.fetch_add(lines, Relaxed);
        // The first, and then each time that another thousand is full.
        if before == 0 || before / 1000 != (before + lines) / 1000 {
            tracing::warn!(lost = before + lines, "lines of the {what} are lost");
        }
    }
}

struct Writer {
    what: &'static str,
    destination: Destination,
    file: Output,
    care: Care,
    shared: Arc<Shared>,
    /// Whether the last attempt failed.
    ill: bool,
}

enum Output {
    Stderr(io::Stderr),
    File(File),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(out) => out.write(bytes),
            Self::File(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither has a buffer.
        Ok(())
    }
}

fn open(destination: &Destination) -> Result<Output> {
    let open_file = |path: &Path| {
        // Whoever may read logs is the group's business.
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        file.with_context(|| format!("opening {}", path.display()))
    };
    Ok(match destination {
        Destination::Stderr => Output::Stderr(io::stderr()),
        Destination::File(path) => Output::File(open_file(path)?),
    })
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut ended = false;
        while !ended {
            let Some(first) = queue.blocking_recv() else { return };
            let (mut batch, mut next) = (String::new(), Some(first));
            while let Some(message) = next {
                match message {
                    Message::End => ended = true,
                    Message::Line(line) => {
                        batch.push_str(&line);
                        batch.push('\n');
                    }
                }
                next = if ended || batch.len() >= BATCH { None } else { queue.try_recv().ok() };
            }
            self.write(batch.as_bytes());
        }
    }

    /// Writes whole lines, or gives them up.
    fn write(&mut self, batch: &[u8]) {
        let mut done = 0;
        while done < batch.len() {
            if self.shared.reopen.swap(false, Relaxed) {
                // A line that was begun in the old file is whole in the new one.
                done = batch[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.reopen();
            }
            match self.file.write(&batch[done..]) {
                Ok(n) if n > 0 => {
                    self.shared.written.fetch_add(lines(&batch[done..done + n]), Relaxed);
                    done += n;
                    if std::mem::take(&mut self.ill) {
                        tracing::info!("the {} is written again", self.what);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let error = result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    if !std::mem::replace(&mut self.ill, true) {
                        tracing::error!(%error, "the {} cannot be written", self.what);
                    }
                    if self.care == Care::Drop || self.shared.hurry.load(Relaxed) {
                        self.shared.lose(self.what, lines(&batch[done..]));
                        return;
                    }
                    thread::sleep(RETRY);
                }
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.destination) {
            Ok(file) => self.file = file,
            Err(error) => tracing::error!("the earlier file goes on as the {}: {error:#}", self.what),
        }
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn destinations() {
        assert_eq!(Destination::from("stderr".to_owned()), Destination::Stderr);
        assert_eq!("/var/log/a".parse(), Ok(Destination::File("/var/log/a".into())));
    }

    #[tokio::test]
    async fn lines_are_appended_whole_and_the_file_may_be_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let lines = Lines::open("log", &Destination::File(path.clone()), 100, Care::Keep).unwrap();
        for n in 0..50 {
            lines.room(SOON).await.unwrap().put(format!("{n}"));
        }
        while lines.counts().0 < 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::fs::rename(&path, &old).unwrap();
        lines.reopen();
        lines.offer("after".into());
        lines.close(SOON).await;
        let first = std::fs::read_to_string(&old).unwrap();
        let expected: String = (0..50).map(|n| format!("{n}\n")).collect();
        assert_eq!(first, format!("before\n{expected}"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(lines.counts(), (51, 0));
    }

    #[tokio::test]
    async fn what_must_be_kept_waits_for_the_disk_and_what_need_not_is_counted() {
        // A file that is full for ever.
        let full = Destination::File("/dev/full".into());
        let kept = Lines::open("log", &full, 2, Care::Keep).unwrap();
        let mut taken = 0;
        while let Some(place) = kept.room(Duration::from_millis(100)).await {
            place.put("line".into());
            taken += 1;
            // One batch is with the thread; then the queue is full.
            assert!(taken < 10);
        }
        assert!(taken >= 2);
        assert_eq!(kept.counts(), (0, 0));
        kept.close(Duration::from_secs(3)).await;
        assert_eq!(kept.counts(), (0, taken));

        let dropped = Lines::open("log", &full, 2, Care::Drop).unwrap();
        dropped.offer("line".into());
        dropped.close(SOON).await;
        assert_eq!(dropped.counts(), (0, 1));
    }
}
