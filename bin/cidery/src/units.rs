//! Sizes and durations as people write them: in flags, in variables, in the configuration file.

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

/// Bytes: `50GiB`, `500MB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A duration: `24h`, `30m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            let unit = unit.trim().to_lowercase();
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
            if let Ok(number) = number.parse::<u64>() {
                return number.checked_mul(*factor);
            }
            // A part of a byte is none; nothing here is so large that it would not be exact enough.
            let bytes = (number.parse::<f64>().ok()? * *factor as f64).round();
            (*factor > 1 && bytes < u64::MAX as f64).then_some(bytes as u64)
        };
        parse().map(Self).ok_or_else(|| format!("{text:?} is not a size: write 50GiB, 500MB, or a number of bytes"))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
        parsed.map(Self).ok_or_else(|| format!("{text:?} is not a duration: write 90s, 30m, or 24h"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size is a text like \"50GiB\", or a number of bytes")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(from)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text { what: "a duration, like \"24h\"", read: str::parse })
    }
}

/// An IP address and a port: names are not looked up.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address and a port, like 127.0.0.1:5000"))
}

/// As [`address`], in the configuration file.
pub fn an_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    from.deserialize_str(Text { what: "an IP address and a port, like \"127.0.0.1:5000\"", read: address }).map(Some)
}

/// Something that is written as a text.
struct Text<T> {
    what: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        let size = |text: &str| text.parse::<Size>().ok().map(|size| size.0);
        for (text, bytes) in [
            ("0", 0),
            ("123456789", 123_456_789),
            ("12B", 12),
            ("500MB", 500_000_000),
            ("500 mb", 500_000_000),
            ("50GiB", 50 << 30),
            ("1.5TiB", 3 << 39),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        // K, M and G alone mean one thing to some and another to others.
        for text in ["", "GiB", "-1", "5M", "5 gigs", "1.5", "1..5GB", "1e3", "0x10", "99999999TiB", "∞"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_as_people_write_them() {
        let time = |text: &str| text.parse::<Time>().ok().map(|time| time.0.as_secs());
        assert_eq!(
            (time("24h"), time("30m"), time("1h 30m"), time("7days")),
            (Some(86400), Some(1800), Some(5400), Some(604_800))
        );
        assert_eq!((time("24"), time("0s"), time("soon"), time("")), (None, None, None, None));
    }
}
