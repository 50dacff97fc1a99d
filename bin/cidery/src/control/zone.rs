//! TXT records in zone file form (RFC 1035 §5.1).

use cidery_core::Cid;

/// Addresses a record recommends: more would not fit a UDP answer.
const HINTS: usize = 3;

/// `_dnslink` with the root, and `ipfsnode` on the domain itself with this node's best addresses.
pub fn records(domain: &str, root: &Cid, addresses: &[String]) -> Vec<String> {
    let mut records = vec![record(&format!("_dnslink.{domain}."), &format!("dnslink=/ipfs/{root}"))];
    let hints = hints(addresses);
    match hints.as_slice() {
        [] => {}
        [one] => records.push(record(&format!("{domain}."), &format!("ipfsnode={one}"))),
        // Multiaddrs hold nothing that JSON escapes.
        many => records.push(record(&format!("{domain}."), &format!("ipfsnode=[\"{}\"]", many.join("\",\"")))),
    }
    records
}

/// Those others can reach first: not loopback if there is anything else; TCP before QUIC.
fn hints(addresses: &[String]) -> Vec<&str> {
    let loopback = |a: &str| a.starts_with("/ip4/127.") || a.starts_with("/ip6/::1/");
    let link_local = |a: &str| a.starts_with("/ip6/fe80") || a.starts_with("/ip4/169.254.");
    let mut usable: Vec<&str> = addresses.iter().map(String::as_str).filter(|a| !link_local(a)).collect();
    if usable.iter().any(|address| !loopback(address)) {
        usable.retain(|address| !loopback(address));
    }
    usable.sort_by_key(|address| !address.contains("/tcp/"));
    usable.truncate(HINTS);
    usable
}

fn record(owner: &str, value: &str) -> String {
    // A character-string holds 255 bytes; longer values are several strings, joined by readers.
    let strings: Vec<String> = value
        .as_bytes()
        .chunks(255)
        .map(|part| String::from_utf8_lossy(part).replace('\\', "\\\\").replace('"', "\\\""))
        .map(|part| format!("\"{part}\""))
        .collect();
    format!("{owner} 300 IN TXT {}", strings.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_core::Block;

    #[test]
    fn records_name_their_owner_and_escape_quotes() {
        let root = *Block::raw(&b"x"[..]).cid();
        let local = "/ip4/127.0.0.1/tcp/4001/p2p/id".to_owned();
        let records = |addresses: &[String]| super::records("example.com", &root, addresses);
        assert_eq!(records(&[])[0], format!("_dnslink.example.com. 300 IN TXT \"dnslink=/ipfs/{root}\""));
        assert_eq!(records(&[])[1..], [] as [String; 0]);
        assert_eq!(records(std::slice::from_ref(&local))[1], format!("example.com. 300 IN TXT \"ipfsnode={local}\""));
        let lan = ["/ip4/192.0.2.1/udp/1/quic-v1/p2p/id", "/ip4/192.0.2.1/tcp/1/p2p/id"].map(String::from);
        let both = records(&[vec![local], lan.to_vec()].concat());
        assert_eq!(both[1], format!("example.com. 300 IN TXT \"ipfsnode=[\\\"{}\\\",\\\"{}\\\"]\"", lan[1], lan[0]));
    }

    #[test]
    fn long_values_are_cut_into_strings() {
        let long = record("a.", &"x".repeat(600));
        assert_eq!(long.matches('"').count(), 6);
    }
}
