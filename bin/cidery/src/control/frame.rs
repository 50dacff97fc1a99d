//! Frames in the body of a control answer: kind (1 byte), length (4 bytes, big-endian), payload.

use super::types::Progress;
use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// No frame is longer: the node cuts data into pieces of at most this.
const MAX: usize = 4 << 20;

/// One frame.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A piece of the file.
    Data(Bytes),
    /// How far the work is.
    Progress(Progress),
    /// It failed; the last frame.
    Error(String),
    /// It is done, with this result; the last frame.
    Done(serde_json::Value),
}

impl Frame {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let json = |value: serde_json::Value| Bytes::from(value.to_string());
        let (kind, payload) = match self {
            Self::Data(data) => (0, data.clone()),
            Self::Progress(progress) => (1, json(serde_json::json!(progress))),
            Self::Error(text) => (2, Bytes::from(text.clone())),
            Self::Done(value) => (3, json(value.clone())),
        };
        let mut out = BytesMut::with_capacity(5 + payload.len());
        out.put_u8(kind);
        out.put_u32(payload.len() as u32);
        out.put(payload);
        out.freeze()
    }

    /// Takes the next whole frame off the front of `buffer`.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>> {
        if buffer.len() < 5 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
        if length > MAX {
            bail!("the node sent a frame of {length} bytes");
        }
        if buffer.len() < 5 + length {
            return Ok(None);
        }
        let kind = buffer.get_u8();
        buffer.advance(4);
        let payload = buffer.split_to(length).freeze();
        Ok(Some(match kind {
            0 => Self::Data(payload),
            1 => Self::Progress(serde_json::from_slice(&payload).context("a progress frame")?),
            2 => Self::Error(String::from_utf8_lossy(&payload).into_owned()),
            3 => Self::Done(serde_json::from_slice(&payload).context("a result frame")?),
            kind => bail!("the node sent a frame of unknown kind {kind}: are both the same version?"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::types::Stage;

    #[test]
    fn frames_survive_any_cut() {
        let frames = [
            Frame::Data(Bytes::from_static(b"abc")),
            Frame::Progress(Progress { done: 1, total: 2, stage: None }),
            Frame::Progress(Progress { done: 1, total: 2, stage: Some(Stage { name: "sweep".into(), blocks: true }) }),
            Frame::Error("why".into()),
            Frame::Done(serde_json::json!({"a": 1})),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode()).collect();
        for step in 1..bytes.len() {
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).expect("valid") {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused() {
        let mut buffer = BytesMut::from(&[0, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(Frame::decode(&mut buffer).is_err());
    }
}
