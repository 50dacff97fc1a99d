//! Query strings. Bounded by the limit on the whole path.

use super::{
    fault::{ApiError, Fault},
    route::decode,
};
use axum::http::Uri;

/// The parameters of a request, decoded, in order.
#[derive(Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a URI's; what does not decode is left out.
    pub fn of(uri: &Uri) -> Self {
        Self::parse(uri.query().unwrap_or(""))
    }

    /// Reads a URI's, or the body of a form.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
        };
        Self(pairs.filter_map(read).collect())
    }

    /// The first value of a parameter that is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// As [`Query::page`], but a larger `n` than `limit` is refused.
    pub fn page_within(&self, limit: usize) -> Result<Page<'_>, ApiError> {
        let invalid = || ApiError::new(Fault::PageInvalid, format!("n is a number from 0 to {limit}"));
        let page = self.page(usize::MAX).map_err(|_| invalid())?;
        match self.get("n") {
            Some(_) if page.n > limit => Err(invalid()),
            _ => Ok(Page { n: page.n.min(limit), ..page }),
        }
    }

    /// `n` and `last` (distribution-spec, "Listing Tags"), with `n` cut to `limit`.
    pub fn page(&self, limit: usize) -> Result<Page<'_>, ApiError> {
        let asked = match self.get("n") {
            None => limit,
            // Larger than any number is still only larger than the limit.
            Some(digits) if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().unwrap_or(usize::MAX)
            }
            Some(_) => return Err(ApiError::from(Fault::PageInvalid)),
        };
        Ok(Page { n: asked.min(limit), last: self.get("last") })
    }
}

/// Which part of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// At most so many.
    pub n: usize,
    /// Only those that come after.
    pub last: Option<&'a str>,
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let uri: Uri = "/v2/?a=1&b=x%2Fy&a=2&c&d=%zz&e=a+b".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.get("b"), Some("x/y"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.get("c"), query.get("d"), query.get("e")), (None, None, Some("a b")));
        assert_eq!(encode("a/b c"), "a/b%20c");
    }

    #[test]
    fn pages_are_bounded() {
        let page = |query: &str| {
            let uri: Uri = format!("/v2/_catalog?{query}").parse().unwrap();
            Query::of(&uri).page(100).map(|page| (page.n, page.last.map(str::to_owned))).ok()
        };
        assert_eq!(page(""), Some((100, None)));
        assert_eq!(page("n=3&last=b"), Some((3, Some("b".into()))));
        assert_eq!(page("n=0"), Some((0, None)));
        assert_eq!(page("n=99999999999999999999999999"), Some((100, None)));
        assert_eq!((page("n=-1"), page("n=x")), (None, None));
        let within = |query: &str| {
            let uri: Uri = format!("/v2/_catalog?{query}").parse().unwrap();
            Query::of(&uri).page_within(100).map(|page| page.n).ok()
        };
        assert_eq!((within(""), within("n=100"), within("n=0")), (Some(100), Some(100), Some(0)));
        assert_eq!((within("n=101"), within("n=-1"), within("n=99999999999999999999999999")), (None, None, None));
    }
}
