//! What the TXT records of a domain say: `dnslink=` and `ipfsnode=`. Everything else is ignored, as a
//! domain carries many unrelated TXT records.

use super::hints::{MAX_HINTS, parse_hint};
use cidery_core::{Cid, ForeignName};
use libp2p::PeerId;

/// Characters of a `dnslink=` value.
const MAX_VALUE: usize = 2048;
/// Characters of strangers' text shown in an error.
const SHOWN: usize = 100;

/// Where a dnslink leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// `/ipfs/<cid>[/path]`
    Root(Cid, Vec<String>),
    /// `/ipns/<domain>[/path]`
    Domain(Box<str>, Vec<String>),
    /// `/ipns/<key>`
    Key(String),
}

/// The dnslink at one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Exactly one that can be read.
    One(Link),
    /// Several that can be read: which one is meant is anyone's guess, so Kubo refuses, and so do we.
    Several(Vec<String>),
    /// None.
    Nothing,
    /// None that can be read; the text quotes one, and says why.
    Unreadable(String),
}

/// Finds the dnslink. Records that can't be read don't count beside one that can (as in boxo).
/// `bare` also takes a path or CID without `dnslink=`, which old `_dnslink` names may carry.
pub(super) fn dnslink(texts: &[String], bare: bool) -> Found {
    let mut readable = Vec::new();
    let mut unreadable = None;
    for text in texts {
        match text.strip_prefix("dnslink=") {
            Some(value) => match parse_link(value) {
                Ok(link) => readable.push((text, link)),
                Err(reason) => unreadable = Some(format!("{}: {reason}", quoted(text))),
            },
            None if bare => readable.extend(parse_link(text).ok().map(|link| (text, link))),
            None => {}
        }
    }
    match (readable.len(), readable.pop(), unreadable) {
        (1, Some((_, link)), _) => Found::One(link),
        (_, Some((last, _)), _) => Found::Several(
            readable.iter().map(|(text, _)| *text).chain([last]).take(3).map(|text| quoted(text)).collect(),
        ),
        (_, None, Some(reason)) => Found::Unreadable(reason),
        (_, None, None) => Found::Nothing,
    }
}

/// The value of a dnslink: a path, or a bare CID.
fn parse_link(value: &str) -> Result<Link, &'static str> {
    if value.len() > MAX_VALUE {
        return Err("longer than 2048 characters");
    }
    if !value.starts_with('/') {
        return Cid::try_from(value).map(|cid| Link::Root(cid, Vec::new())).map_err(|_| "neither a path nor a CID");
    }
    let mut segments = clean(value).into_iter();
    match (segments.next(), segments.next()) {
        (Some("ipfs"), Some(root)) => match Cid::try_from(root) {
            Ok(cid) => Ok(Link::Root(cid, segments.map(Into::into).collect())),
            Err(_) => Err("what follows /ipfs/ is not a CID"),
        },
        (Some("ipns"), Some(name)) => {
            if Cid::try_from(name).is_ok() || name.parse::<PeerId>().is_ok() {
                return Ok(Link::Key(name.to_owned()));
            }
            let domain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            match ForeignName::parse(&domain) {
                Some(ForeignName::Domain(domain)) => Ok(Link::Domain(domain, segments.map(Into::into).collect())),
                _ => Err("what follows /ipns/ is neither a key nor a domain"),
            }
        }
        _ => Err("not a path that begins with /ipfs/<cid> or /ipns/<name>"),
    }
}

/// The segments of a path, cleaned as boxo does before it looks at them: `.`, `..` and empty ones are
/// resolved, nothing is percent-decoded.
fn clean(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments
}

/// The multiaddrs of the `ipfsnode=` records: each a JSON array or one bare address. What can't be
/// read, or does not end in `/p2p/<id>`, is left out; at most [`MAX_HINTS`] stay.
pub(super) fn hints(texts: &[String]) -> Vec<String> {
    let mut hints = Vec::new();
    for value in texts.iter().filter_map(|text| text.strip_prefix("ipfsnode=")) {
        let value = value.trim();
        let listed: Vec<serde_json::Value> = match value.strip_prefix('[') {
            Some(_) => serde_json::from_str(value).unwrap_or_default(),
            None => vec![value.into()],
        };
        add_hints(&mut hints, listed.iter().filter_map(|hint| hint.as_str()));
    }
    hints
}

/// Adds what is new, up to the limit.
pub(super) fn add_hints<'a>(hints: &mut Vec<String>, more: impl IntoIterator<Item = &'a str>) {
    for text in more {
        if hints.len() == MAX_HINTS {
            return;
        }
        // Written anew, so that one address in two spellings is one hint.
        if let Some(hint) = parse_hint(text).map(|address| address.to_string())
            && !hints.contains(&hint)
        {
            hints.push(hint);
        }
    }
}

/// Strangers' text for an error: shortened, control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROOT: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    const PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";

    fn one(text: &str) -> Link {
        match dnslink(&[text.replace("ROOT", ROOT)], true) {
            Found::One(link) => link,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn root(path: &[&str]) -> Link {
        Link::Root(ROOT.parse().unwrap(), path.iter().map(|part| part.to_string()).collect())
    }

    #[test]
    fn every_spelling_of_a_link() {
        assert_eq!(one("dnslink=/ipfs/ROOT"), root(&[]));
        assert_eq!(one("dnslink=/ipfs/ROOT/"), root(&[]));
        assert_eq!(one("dnslink=/ipfs/ROOT/a/b%20c/"), root(&["a", "b%20c"]));
        assert_eq!(one("dnslink=/ipfs/ROOT/a/../../ROOT/./c//d"), root(&["c", "d"]));
        assert_eq!(one("dnslink=ROOT"), root(&[]));
        assert_eq!(one("/ipfs/ROOT/x"), root(&["x"]));
        assert_eq!(one("ROOT"), root(&[]));
        assert_eq!(one("dnslink=/ipns/Example.COM./x"), Link::Domain("example.com".into(), vec!["x".into()]));
        let key = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
        for key in [key, PEER, "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"] {
            assert_eq!(one(&format!("dnslink=/ipns/{key}/x")), Link::Key(key.into()));
        }
    }

    #[test]
    fn what_is_no_link() {
        for text in ["v=spf1 -all", "", "dnslink", "DNSLINK=/ipfs/x", "ipfsnode=[]", "/ipld/ROOT", "hello.com"] {
            assert_eq!(dnslink(&[text.into()], true), Found::Nothing, "{text}");
        }
        for text in [
            "dnslink=",
            "dnslink=/ipfs/",
            "dnslink=/ipfs/nonsense",
            "dnslink=/ipfs/../../etc/passwd",
            "dnslink=/ipns/",
            "dnslink=/ipns/localhost",
            "dnslink=/ipns/a b.com",
            "dnslink=/ipld/x",
            "dnslink=ipfs/x",
            "dnslink=\u{0}\u{7}",
        ] {
            assert!(matches!(dnslink(&[text.into()], true), Found::Unreadable(_)), "{text}");
        }
        let long = format!("dnslink=/ipfs/{ROOT}/{}", "x".repeat(MAX_VALUE));
        assert!(matches!(dnslink(&[long], true), Found::Unreadable(reason) if reason.len() < 300));
    }

    #[test]
    fn bare_values_count_only_where_nothing_else_is_kept() {
        assert_eq!(dnslink(&[ROOT.into(), format!("/ipfs/{ROOT}")], false), Found::Nothing);
    }

    #[test]
    fn one_readable_among_others_is_taken_and_two_are_refused() {
        let good = format!("dnslink=/ipfs/{ROOT}");
        let texts = ["v=spf1".into(), "dnslink=broken".into(), good.clone()];
        assert_eq!(dnslink(&texts, true), Found::One(root(&[])));
        let Found::Several(shown) = dnslink(&[good.clone(), "dnslink=/ipns/example.com".into()], true) else {
            panic!()
        };
        assert_eq!(shown.len(), 2);
        assert!(shown[1].contains("example.com"), "{shown:?}");
        assert!(matches!(dnslink(&vec![good; 100], true), Found::Several(shown) if shown.len() == 3));
    }

    #[test]
    fn hints_in_both_spellings() {
        let a = format!("/ip4/1.2.3.4/tcp/4001/p2p/{PEER}");
        let b = format!("/dns4/example.com/tcp/4001/p2p/{PEER}");
        let array = format!("ipfsnode=[\"{a}\", \"{b}\"]");
        assert_eq!(hints(&[array]), [a.clone(), b.clone()]);
        assert_eq!(hints(&[format!("ipfsnode={a}"), format!("ipfsnode={b} "), "v=spf1".into()]), [a.clone(), b]);
        // The old spelling of the peer's part is the same address.
        assert_eq!(hints(&[format!("ipfsnode={}", a.replace("/p2p/", "/ipfs/")), format!("ipfsnode={a}")]), [a]);
    }

    #[test]
    fn hostile_hints_are_left_out() {
        let good = format!("/ip4/1.2.3.4/tcp/4001/p2p/{PEER}");
        let deep = format!("ipfsnode={}", "[".repeat(60_000));
        let long = format!("ipfsnode=/dns4/{}/tcp/1/p2p/{PEER}", "a".repeat(60_000));
        let mixed = format!("ipfsnode=[1, null, {{}}, \"\", \"/ip4/1.2.3.4/tcp/4001\", [\"{good}\"], \"{good}\"]");
        assert_eq!(hints(&["ipfsnode=".into(), "ipfsnode=[".into(), deep, long, mixed]), [good]);
        let many: Vec<String> = (1..=1000).map(|port| format!("ipfsnode=/ip4/1.2.3.4/tcp/{port}/p2p/{PEER}")).collect();
        assert_eq!(hints(&many).len(), MAX_HINTS);
    }
}
