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

/// Those that others can reach, as far as can be told: public ones if there are any, else those of
/// private networks, else loopback; TCP before QUIC.
fn hints(addresses: &[String]) -> Vec<&str> {
    let mut ranked: Vec<(u8, &str)> =
        addresses.iter().filter_map(|address| Some((reach(address)?, address.as_str()))).collect();
    let best = ranked.iter().map(|(reach, _)| *reach).min();
    ranked.retain(|(reach, _)| Some(*reach) == best);
    ranked.sort_by_key(|(_, address)| !address.contains("/tcp/"));
    ranked.into_iter().map(|(_, address)| address).take(HINTS).collect()
}

/// 0 public, 1 private, 2 loopback; `None` for what is of no use to others.
fn reach(address: &str) -> Option<u8> {
    let mut parts = address.split('/').skip(1);
    match (parts.next()?, parts.next()?) {
        ("ip4", ip) => {
            let ip: std::net::Ipv4Addr = ip.parse().ok()?;
            match ip {
                _ if ip.is_loopback() => Some(2),
                _ if ip.is_link_local() || ip.is_unspecified() => None,
                _ if ip.is_private() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => Some(1),
                _ => Some(0),
            }
        }
        ("ip6", ip) => {
            let ip: std::net::Ipv6Addr = ip.parse().ok()?;
            match ip {
                _ if ip.is_loopback() => Some(2),
                _ if ip.is_unicast_link_local() || ip.is_unspecified() => None,
                _ if ip.is_unique_local() => Some(1),
                _ => Some(0),
            }
        }
        _ => Some(0),
    }
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
        let lan = ["/ip4/192.168.2.1/udp/1/quic-v1/p2p/id", "/ip4/192.168.2.1/tcp/1/p2p/id"].map(String::from);
        let both = records(&[vec![local], lan.to_vec()].concat());
        assert_eq!(both[1], format!("example.com. 300 IN TXT \"ipfsnode=[\\\"{}\\\",\\\"{}\\\"]\"", lan[1], lan[0]));
    }

    #[test]
    fn the_widest_reach_wins() {
        let address = |ip: &str| format!("/{ip}/tcp/4001/p2p/id");
        let all = ["ip4/127.0.0.1", "ip4/172.17.0.1", "ip6/fe80::1", "ip4/100.64.1.1", "ip6/2a00::1"].map(address);
        assert_eq!(hints(&all), [&all[4]]);
        assert_eq!(hints(&all[..4]), [&all[1], &all[3]]);
        assert_eq!(hints(&all[..1]), [&all[0]]);
        assert_eq!(hints(&all[2..3]), [] as [&str; 0]);
    }

    #[test]
    fn long_values_are_cut_into_strings() {
        let long = record("a.", &"x".repeat(600));
        assert_eq!(long.matches('"').count(), 6);
    }
}
