//! `Range` on blobs (RFC 9110 §14): one range of bytes.

use super::fault::{ApiError, Fault};
use axum::http::{HeaderMap, HeaderValue, header};
use std::ops::Range;

/// What part of a blob is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it, 200.
    Whole,
    /// A part of it, 206.
    Part(Range<u64>),
}

impl Wanted {
    /// Reads `Range` against a blob of `size` bytes whose ETag is `etag`.
    ///
    /// A range that can't be satisfied, `500-0` included, is 416. Several ranges are 400, on which
    /// lazy pullers (stargz) go on with single ones, where 200 would send them the whole blob.
    pub fn read(headers: &HeaderMap, size: u64, etag: &str) -> Result<Self, ApiError> {
        let Some(range) = headers.get(header::RANGE) else { return Ok(Self::Whole) };
        if headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
            return Ok(Self::Whole);
        }
        let Some(spec) = range.to_str().ok().and_then(|range| range.trim().strip_prefix("bytes=")) else {
            return Ok(Self::Whole);
        };
        if spec.contains(',') {
            return Err(ApiError::new(Fault::BadRequest, "one range at a time"));
        }
        let outside = || {
            let error = ApiError::new(Fault::RangeInvalid, format!("the blob has {size} bytes"));
            // Digits only, so it is a header value.
            match HeaderValue::from_str(&format!("bytes */{size}")) {
                Ok(value) => error.with(header::CONTENT_RANGE, value),
                Err(_) => error,
            }
        };
        let (first, last) = spec.trim().split_once('-').ok_or_else(outside)?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let range = match (first.trim(), last.trim()) {
            ("", suffix) => size.saturating_sub(number(suffix).ok_or_else(outside)?)..size,
            (first, "") => number(first).ok_or_else(outside)?..size,
            (first, last) => {
                let (first, last) = (number(first).ok_or_else(outside)?, number(last).ok_or_else(outside)?);
                first..last.saturating_add(1).min(size)
            }
        };
        if range.start >= range.end { Err(outside()) } else { Ok(Self::Part(range)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(range: &str, size: u64) -> Option<Wanted> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        Wanted::read(&headers, size, "\"x\"").ok()
    }

    #[test]
    fn ranges_are_clamped_or_refused() {
        let part = |range| Some(Wanted::Part(range));
        for (range, wanted) in [
            ("bytes=500-1499", part(500..1500)),
            ("bytes=500-", part(500..3000)),
            ("bytes=-500", part(2500..3000)),
            ("bytes=-9999", part(0..3000)),
            ("bytes=2000-5000", part(2000..3000)),
            ("bytes=0-0", part(0..1)),
            ("bytes=0-18446744073709551615", part(0..3000)),
            ("bytes=500-0", None),
            ("bytes=3000-", None),
            ("bytes=9000-9999", None),
            ("bytes=-0", None),
            ("bytes=a-b", None),
            ("bytes=", None),
            ("bytes=0-1,4-5", None),
            ("items=0-1", Some(Wanted::Whole)),
        ] {
            assert_eq!(read(range, 3000), wanted, "{range}");
        }
        assert_eq!(read("bytes=0-0", 0), None);
    }

    #[test]
    fn a_range_of_another_blob_gets_the_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-0".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"y\"".parse().unwrap());
        assert_eq!(Wanted::read(&headers, 10, "\"x\"").ok(), Some(Wanted::Whole));
        headers.insert(header::IF_RANGE, "\"x\"".parse().unwrap());
        assert_eq!(Wanted::read(&headers, 10, "\"x\"").ok(), Some(Wanted::Part(0..1)));
    }
}
