//! A client that costs little, and takes bodies as they come: plain sockets, large buffers, kept connections.

use crate::http::MANIFEST;
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// No answer, and no progress in one, for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
    buffer: Vec<u8>,
    /// How long each exchange took, where somebody wants to know.
    pub times: Option<Vec<Duration>>,
}

/// A request's body.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Its length goes before it.
    Sized(&'a [u8]),
    /// It goes in pieces of so many bytes, and nobody is told how long it will be.
    Streamed(&'a [u8], usize),
}

/// A response's head; its body was read.
#[derive(Debug)]
pub struct Head {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// How long the body was.
    pub length: u64,
}

impl Head {
    /// The path where the upload that this answers goes on.
    pub fn location(&self) -> io::Result<String> {
        let location = self.headers.get("location").ok_or_else(|| failed(format!("no Location: {self:?}")))?;
        Ok(match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
            None => location.clone(),
        })
    }
}

fn failed(what: String) -> io::Error {
    io::Error::other(what)
}

impl Client {
    /// Connects to `host:port`.
    pub fn connect(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, stream),
            host: host.into(),
            buffer: vec![0; 256 << 10],
            times: None,
        })
    }

    /// Sends a request with a body, reads the whole response, and throws its body away.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> io::Result<Head> {
        self.exchange(method, target, headers, Body::Sized(body), &mut |_, _| Ok(()))
    }

    /// Sends a request, and gives the response's body to `take` piece by piece, each with the status. What
    /// `take` fails with ends the exchange, and this connection is of no more use.
    pub fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: Body<'_>,
        take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<Head> {
        let length = match body {
            Body::Sized([]) if matches!(method, "GET" | "HEAD") => String::new(),
            Body::Sized(bytes) => format!("Content-Length: {}\r\n", bytes.len()),
            Body::Streamed(..) => "Transfer-Encoding: chunked\r\n".into(),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host);
        let start = Instant::now();
        let socket = self.stream.get_mut();
        socket.write_all(head.as_bytes())?;
        match body {
            Body::Sized(bytes) => socket.write_all(bytes)?,
            Body::Streamed(bytes, piece) => {
                for piece in bytes.chunks(piece) {
                    socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    socket.write_all(piece)?;
                    socket.write_all(b"\r\n")?;
                }
                socket.write_all(b"0\r\n\r\n")?;
            }
        }
        let head = self.response(method, take)?;
        self.times.iter_mut().for_each(|times| times.push(start.elapsed()));
        Ok(head)
    }

    fn response(&mut self, method: &str, take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<Head> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| failed(format!("no status line, but {line:?}")))?;
        let mut head = Head { status, headers: HashMap::new(), length: 0 };
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            head.headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        if head.headers.contains_key("transfer-encoding") {
            head.length = self.chunks(take, status)?;
            return Ok(head);
        }
        let length = head.headers.get("content-length").map_or(Ok(0), |value| value.parse());
        head.length = length.map_err(|_| failed(format!("a length that is none: {head:?}")))?;
        let length = if method == "HEAD" || status == 204 || status == 304 { 0 } else { head.length };
        self.read(length, status, take)?;
        Ok(head)
    }

    /// A body of this length, or a chunk of one.
    fn read(&mut self, length: u64, status: u16, take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut self.buffer[..want])?;
            if read == 0 {
                return Err(failed(format!("a body of {length} bytes ended {left} early")));
            }
            take(status, &self.buffer[..read])?;
            left -= read as u64;
        }
        Ok(())
    }

    /// A body in chunks (RFC 9112 §7.1), without trailers; its length.
    fn chunks(&mut self, take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>, status: u16) -> io::Result<u64> {
        let (mut line, mut sum) = (String::new(), 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim_end(), 16);
            let length = length.map_err(|_| failed(format!("no length of a chunk, but {line:?}")))?;
            self.read(length, status, take)?;
            sum += length;
            line.clear();
            self.stream.read_line(&mut line)?;
            if length == 0 {
                return Ok(sum);
            }
        }
    }

    /// Pushes a blob as docker does: POST, PATCH, PUT.
    pub fn push(&mut self, repository: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let start = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        let patched = self.request("PATCH", &start.location()?, OCTETS, bytes)?;
        let closed = self.request("PUT", &closing(&patched.location()?, digest), "", &[])?;
        expect(closed, 201).map(drop)
    }

    /// Pushes a blob with one request, as the specification allows and few clients do.
    pub fn post(&mut self, repository: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        expect(self.request("POST", &target, OCTETS, bytes)?, 201).map(drop)
    }

    /// Gets a target whose body has this length.
    pub fn get(&mut self, target: &str, length: Option<u64>) -> io::Result<()> {
        let head = self.request("GET", target, &format!("Accept: {MANIFEST}\r\n"), &[])?;
        if length.is_some_and(|length| length != head.length) {
            return Err(failed(format!("{target}: {head:?}")));
        }
        expect(head, 200).map(drop)
    }
}

/// The header of bytes that are sent.
pub const OCTETS: &str = "Content-Type: application/octet-stream\r\n";

/// Where an upload that goes on at `location` is closed.
pub fn closing(location: &str, digest: &str) -> String {
    let join = if location.contains('?') { '&' } else { '?' };
    format!("{location}{join}digest={digest}")
}

/// An answer with this status, or a failure.
pub fn expect(head: Head, status: u16) -> io::Result<Head> {
    if head.status == status { Ok(head) } else { Err(failed(format!("not {status}: {head:?}"))) }
}
