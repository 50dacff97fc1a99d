//! The commands that take long: their answers are frames, with progress.

use super::{
    frame::Frame,
    server::{Failure, State, by_command},
    types::{ExportRequest, Exported, Imported, Progress, PullRequest, Pulled},
};
use crate::line::one_line;
use anyhow::{Context, Result, bail};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{self, Query},
    response::{IntoResponse, Response},
};
use cidery_core::{Cid, Namespace, Network, Scope, SessionSpec};
use cidery_registry::{
    archive::{self, Format},
    ops::{Action, Target},
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, Sender},
    task::{block_in_place, spawn_blocking},
};

/// Frames on their way: a slow reader slows the work.
pub(super) const QUEUE: usize = 8;
/// Bytes in a data frame.
const PIECE: usize = 256 << 10;
/// How often progress is worth a frame.
const BEAT: Duration = Duration::from_millis(100);

/// The sending end of an answer.
pub(super) struct Frames {
    sender: Sender<Frame>,
    last: Option<Instant>,
}

impl Frames {
    pub(super) fn new(sender: Sender<Frame>) -> Self {
        Self { sender, last: None }
    }

    pub(super) fn progress(&mut self, done: u64, total: u64) {
        self.show(Progress { done, total, stage: None });
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if self.last.is_none_or(|last| last.elapsed() >= BEAT) {
            self.last = Some(Instant::now());
            // A full queue means the reader is behind: it can do without this one.
            let _ = self.sender.try_send(Frame::Progress(progress));
        }
    }
}

/// Makes the answer out of what `work` sends; when the client goes, the queue closes.
pub(super) fn answer(receiver: mpsc::Receiver<Frame>) -> Response {
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (io::Result::Ok(frame.encode()), receiver))
    });
    Body::from_stream(stream).into_response()
}

pub(super) fn closing(result: Result<impl Serialize>) -> Frame {
    match result.and_then(|value| Ok(serde_json::to_value(value)?)) {
        Ok(value) => Frame::Done(value),
        Err(error) => Frame::Error(one_line(&error)),
    }
}

/// Does work that ends when the client goes, and answers with its progress and what came of it.
pub(super) fn while_wanted<T, W>(work: impl FnOnce(Frames) -> W) -> Response
where
    T: Serialize + Send,
    W: Future<Output = Result<T>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let work = work(Frames::new(sender.clone()));
    tokio::spawn(async move {
        let gone = sender.closed();
        tokio::select! {
            result = work => {
                // If the client went in this moment, nobody is left to tell.
                let _ = sender.send(closing(result)).await;
            }
            () = gone => {}
        }
    });
    answer(receiver)
}

pub async fn pull(extract::State(state): extract::State<State>, Json(request): Json<PullRequest>) -> Response {
    while_wanted(|mut frames| async move {
        let pulled = state.registry.pull(&request.name, |p| frames.progress(p.bytes, p.total)).await?;
        let blocks = state.blocks.clone();
        // "Every byte is here" also after the power goes.
        spawn_blocking(move || blocks.sync()).await??;
        Ok(Pulled { digest: pulled.digest.to_string(), bytes: pulled.bytes, blobs: pulled.blobs as u64 })
    })
}

/// An export, ready to be run on a blocking thread.
type Work = Box<
    dyn FnOnce(&mut (dyn Write + Send), &mut archive::Report<'_>) -> Result<archive::Exported, archive::ArchiveError>
        + Send,
>;

pub async fn export(
    extract::State(state): extract::State<State>,
    Json(request): Json<ExportRequest>,
) -> Result<Response, Failure> {
    let cid = Cid::try_from(request.source.as_str()).ok();
    let format = match request.format.as_deref() {
        None if cid.is_some() => Format::Registry,
        None | Some("oci") => Format::Oci,
        Some("registry") => Format::Registry,
        Some("docker") => Format::Docker,
        Some("car") => Format::Car,
        Some(other) => return Err(anyhow::anyhow!("there is no export format {other}").into()),
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let handle = Handle::current();
    let work: Work = match cid {
        Some(cid) => {
            let spec = SessionSpec { root: cid, hints: Vec::new(), scope: Scope::Owner };
            let fetcher = state.node.session(spec);
            Box::new(move |out, progress| archive::export_cid(&handle, fetcher, cid, format, out, progress))
        }
        None => {
            let (snapshot, repository, reference, fetcher) =
                state.registry.open_image_with_blobs(&request.source).await?;
            let source = archive::Source { snapshot, fetcher };
            Box::new(move |out, progress| {
                archive::export_image(&handle, &source, &repository, &reference, format, out, progress)
            })
        }
    };
    spawn_blocking(move || {
        let mut frames = Frames::new(sender.clone());
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces { sender: sender.clone() });
        let mut progress = |p: archive::Progress<'_>| frames.progress(p.bytes, p.total.unwrap_or(0));
        let result = work(&mut out, &mut progress);
        let result = result.map_err(anyhow::Error::from).and_then(|exported| {
            Ok(out.flush().map(|()| Exported { bytes: exported.bytes, platform: exported.platform })?)
        });
        let _ = sender.blocking_send(closing(result));
    });
    Ok(answer(receiver))
}

/// Turns what an export writes into data frames.
struct Pieces {
    sender: Sender<Frame>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(&data[..data.len().min(PIECE)]);
        let length = piece.len();
        // Some writers run inside `Handle::block_on`, where plain blocking is refused.
        block_in_place(|| self.sender.blocking_send(Frame::Data(piece))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Deserialize)]
pub struct ImportQuery {
    #[serde(rename = "as")]
    name: Option<String>,
}

pub async fn import(
    extract::State(state): extract::State<State>,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<Response, Failure> {
    let as_name = query.name.as_deref().map(image_name).transpose()?;
    let tree = state.registry.tree(&Namespace::local()).context("this node has no namespace of its own")?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let handle = Handle::current();
    let stream = body.into_data_stream().map_err(io::Error::other);
    spawn_blocking(move || {
        let mut frames = Frames::new(sender.clone());
        let mut input = BodyReader { handle: handle.clone(), stream, rest: Bytes::new() };
        let mut progress = |p: archive::Progress<'_>| frames.progress(p.bytes, p.total.unwrap_or(0));
        let room = handle.block_on(state.registry.observers().room());
        let result = room.map_err(anyhow::Error::from).and_then(|room| {
            let images = archive::import(&handle, &tree, state.blocks, &mut input, as_name, &mut progress)?;
            room.tell(by_command(Action::Import, images.iter().map(imported).collect()));
            Ok(images)
        });
        let result = result.map(|images| {
            let row = |i: archive::Imported| Imported {
                name: i.name,
                digest: i.digest.to_string(),
                bytes: i.bytes,
                platform: i.platform,
            };
            images.into_iter().map(row).collect::<Vec<_>>()
        });
        let _ = sender.blocking_send(closing(result));
    });
    Ok(answer(receiver))
}

/// What is told of an image that came.
fn imported(image: &archive::Imported) -> Target {
    let (name, tag) = match image.name.split_once('@') {
        Some((name, _)) => (name, None),
        // Names of this node's own repositories have no port in front.
        None => image.name.rsplit_once(':').map_or((image.name.as_str(), None), |(name, tag)| (name, Some(tag))),
    };
    let tags = tag.into_iter().map(str::to_owned).collect();
    Target { digest: Some(image.digest.clone()), tags, ..Target::named(name) }
}

/// `NAME[:TAG]`.
fn image_name(text: &str) -> Result<(cidery_core::RepositoryName, Option<cidery_core::Tag>)> {
    match text.rsplit_once(':') {
        Some((_, tag)) if tag.contains('/') => bail!("{text} is not NAME[:TAG]: leave the host out"),
        Some((name, tag)) => Ok((name.parse()?, Some(tag.parse()?))),
        None => Ok((text.parse()?, None)),
    }
}

/// The request's body, read from a blocking thread.
struct BodyReader<S> {
    handle: Handle,
    stream: S,
    rest: Bytes,
}

impl<S: futures::Stream<Item = io::Result<Bytes>> + Unpin> Read for BodyReader<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match block_in_place(|| self.handle.block_on(self.stream.next())) {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.rest.len());
        out[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_imports() {
        assert!(matches!(image_name("hello"), Ok((_, None))));
        assert!(matches!(image_name("team/hello:1"), Ok((_, Some(_)))));
        for bad in ["localhost:5000/hello", "Hello", "hello:", ":1", "a:b:c"] {
            assert!(image_name(bad).is_err(), "{bad}");
        }
    }
}
