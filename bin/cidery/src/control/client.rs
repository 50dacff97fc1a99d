//! The commands' side of the control socket.

use super::frame::Frame;
use super::types::Progress;
use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{io, path::Path};
use tokio::net::UnixStream;

type RequestBody = BoxBody<Bytes, io::Error>;

/// A connection to the node of one data directory, for one request.
pub struct Client {
    sender: http1::SendRequest<RequestBody>,
}

impl Client {
    /// Connects. Fails with what to do when no node runs there.
    pub async fn connect(data: &Path) -> Result<Self> {
        let absent = || format!("no node is running on {0}: start one with `cidery serve --data {0}`", data.display());
        let (_directory, path) = super::socket_path(data).with_context(absent)?;
        let stream = UnixStream::connect(path).await.with_context(absent)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("the control socket")?;
        // Ends with the connection; what it has to say, the response says too.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Asks for one JSON value.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let body = Full::default().map_err(|never| match never {}).boxed();
        json(self.send(Method::GET, path, body).await?).await
    }

    /// Sends one JSON value, and gets one.
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, value: &impl Serialize) -> Result<T> {
        let body = json_body(value)?;
        json(self.send(Method::POST, path, body).await?).await
    }

    /// Sends one JSON value, and gets frames.
    pub async fn frames(&mut self, path: &str, value: &impl Serialize) -> Result<Frames> {
        let body = json_body(value)?;
        Ok(Frames::new(self.send(Method::POST, path, body).await?))
    }

    /// Sends a stream of bytes, and gets frames.
    pub async fn upload(
        &mut self,
        path: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Result<Frames> {
        let body = BodyExt::boxed(StreamBody::new(bytes.map_ok(hyper::body::Frame::data)));
        Ok(Frames::new(self.send(Method::POST, path, body).await?))
    }

    async fn send(&mut self, method: Method, path: &str, body: RequestBody) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "control")
            .header("content-type", "application/json")
            .body(body)?;
        let response = self.sender.send_request(request).await.context("the node did not answer")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.into_body().collect().await?.to_bytes();
        bail!("{}", String::from_utf8_lossy(&text));
    }
}

fn json_body(value: &impl Serialize) -> Result<RequestBody> {
    Ok(Full::from(serde_json::to_vec(value)?).map_err(|never| match never {}).boxed())
}

async fn json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
    let bytes = response.into_body().collect().await.context("the node stopped while answering")?.to_bytes();
    serde_json::from_slice(&bytes).context("the node's answer is not understood: are both the same version?")
}

/// The frames of one answer.
pub struct Frames {
    body: BodyStream<Incoming>,
    buffer: BytesMut,
}

impl Frames {
    fn new(response: Response<Incoming>) -> Self {
        Self { body: BodyStream::new(response.into_body()), buffer: BytesMut::new() }
    }

    /// The next data, progress or result; an error frame becomes an error, and so does an early end.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            match Frame::decode(&mut self.buffer)? {
                Some(Frame::Error(text)) => return Err(anyhow!(text)),
                Some(frame) => return Ok(frame),
                None => {}
            }
            match self.body.next().await {
                Some(part) => {
                    let part = part.context("the node stopped while answering")?;
                    if let Ok(data) = part.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => bail!("the node's answer ended early: see its log"),
            }
        }
    }

    /// Runs to the end, showing progress and passing data on.
    pub async fn finish<T: DeserializeOwned>(
        mut self,
        mut on_progress: impl FnMut(Progress),
        mut on_data: impl FnMut(Bytes) -> Result<()>,
    ) -> Result<T> {
        loop {
            match self.next().await? {
                Frame::Progress(progress) => on_progress(progress),
                Frame::Data(data) => on_data(data)?,
                Frame::Done(value) => return Ok(serde_json::from_value(value)?),
                Frame::Error(text) => bail!(text),
            }
        }
    }
}
