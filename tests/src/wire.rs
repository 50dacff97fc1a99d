//! A client that costs little, the same for every contestant: plain sockets, large buffers.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
    buffer: Vec<u8>,
}

/// A response's head; its body was read and thrown away.
pub struct Head {
    pub status: u16,
    pub location: Option<String>,
    pub length: u64,
}

impl Client {
    /// Connects to `host:port`.
    pub fn connect(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), host: host.into(), buffer: vec![0; 256 << 10] })
    }

    /// Sends a request with a body, and reads the whole response.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Result<Head> {
        let length = if body.is_empty() && method == "GET" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host);
        let socket = self.stream.get_mut();
        socket.write_all(head.as_bytes())?;
        socket.write_all(body)?;
        self.response()
    }

    fn response(&mut self) -> Result<Head> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status line")?;
        let mut head = Head { status, location: None, length: 0 };
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse()?,
                "location" => head.location = Some(value.into()),
                "transfer-encoding" => bail!("a chunked answer is not expected here"),
                _ => {}
            }
        }
        let mut left = if status == 204 || status == 304 { 0 } else { head.length };
        while left > 0 {
            let want = self.buffer.len().min(left as usize);
            let read = self.stream.read(&mut self.buffer[..want])?;
            if read == 0 {
                bail!("the body ended {left} bytes early");
            }
            left -= read as u64;
        }
        Ok(head)
    }

    /// Pushes a blob as docker does: POST, PATCH, PUT.
    pub fn push(&mut self, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let start = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        let location = path(start.location.context("no Location")?);
        let kind = "Content-Type: application/octet-stream\r\n";
        let patched = self.request("PATCH", &location, kind, bytes)?;
        let location = path(patched.location.context("no Location")?);
        let join = if location.contains('?') { '&' } else { '?' };
        let closed = self.request("PUT", &format!("{location}{join}digest={digest}"), "", &[])?;
        if closed.status != 201 {
            bail!("the push ended with {}", closed.status);
        }
        Ok(())
    }

    /// Gets a target whose body has this length.
    pub fn get(&mut self, target: &str, length: Option<u64>) -> Result<()> {
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";
        let head = self.request("GET", target, accept, &[])?;
        if head.status != 200 || length.is_some_and(|length| length != head.length) {
            bail!("{target}: {} with {} bytes", head.status, head.length);
        }
        Ok(())
    }
}

fn path(location: String) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or_else(|| "/".into(), |at| rest[at..].to_owned()),
        None => location,
    }
}
