//! `cidery import`.

use super::bar::{self, Bar};
use crate::{
    cli,
    control::{
        client::Client,
        types::{Imported, Progress},
    },
};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, channel::mpsc, executor::block_on};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// Pieces of this size go to the node.
const PIECE: usize = 256 << 10;

pub async fn run(node: &mut Client, options: cli::Import) -> Result<()> {
    options.name.as_deref().map_or(Ok(()), super::without_host)?;
    let what = options.path.display().to_string();
    let bar = Bar::new(&what);
    let (sender, receiver) = mpsc::channel(4);
    let total = size(&options.path);
    let path = options.path.clone();
    // Reading (and packing a directory) blocks; the pieces go through a bounded channel.
    let reading = tokio::task::spawn_blocking(move || read(&path, sender));
    let query = match &options.name {
        Some(name) => format!("/import?as={}", percent(name)),
        None => "/import".into(),
    };
    let show = |progress: Progress| bar.show(&Progress { total, ..progress });
    let result: Result<Vec<Imported>> =
        async { node.upload(&query, receiver).await?.finish(show, |_| Ok(())).await }.await;
    drop(bar);
    // If the file could not be read, that is the reason whatever the node made of the rest.
    reading.await?.with_context(|| format!("reading {what}"))?;
    for image in result? {
        let platform = image.platform.map(|platform| format!(", {platform} only")).unwrap_or_default();
        println!("{}  {}  ({}{platform})", image.name, image.digest, bar::bytes(image.bytes));
    }
    Ok(())
}

/// A gone receiver means the node has answered already: its word counts, not ours.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(&data[..data.len().min(PIECE)]);
        let length = piece.len();
        block_on(self.0.send(Ok(piece))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(path: &Path, mut sender: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
    let copied = if path == Path::new("-") {
        io::copy(&mut io::stdin().lock(), &mut out).map(drop)
    } else if path.is_dir() {
        let mut archive = tar::Builder::new(&mut out);
        archive.follow_symlinks(false);
        archive.append_dir_all(".", path).and_then(|()| archive.finish())
    } else {
        File::open(path).and_then(|file| io::copy(&mut file.take(u64::MAX), &mut out)).map(drop)
    };
    match copied.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            // The node must not take what came so far for the whole file.
            let _ = block_on(sender.send(Err(io::ErrorKind::UnexpectedEof.into())));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

fn size(path: &Path) -> u64 {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    }
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
