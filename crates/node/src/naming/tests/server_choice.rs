use super::super::servers::{System, system_servers};
use std::{
    fs,
    net::IpAddr,
    time::{Duration, Instant},
};

fn servers(text: &str) -> Vec<IpAddr> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    fs::write(&path, text).unwrap();
    system_servers(&path).iter().map(|server| server.ip).collect()
}

#[test]
fn the_system_names_the_servers() {
    let text = "search lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions edns0 ndots:5\n";
    assert_eq!(servers(text), ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
}

#[test]
fn without_a_usable_file_public_servers_are_asked() {
    let public = servers("");
    assert!(public.contains(&"9.9.9.9".parse().unwrap()) && public.contains(&"1.1.1.1".parse().unwrap()));
    assert_eq!(servers("nonsense\n\0\u{1}"), public);
    let directory = tempfile::tempdir().unwrap();
    let missing = system_servers(&directory.path().join("missing"));
    assert_eq!(missing.iter().map(|server| server.ip).collect::<Vec<_>>(), public);
}

#[test]
fn a_changed_file_is_read_again_now_and_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let mut system = System::new(path.clone(), |_| {}).unwrap();
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(!system.refresh(after(6)), "nothing changed");
    fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    assert!(!system.refresh(after(7)), "looked at a moment ago");
    assert!(system.refresh(after(12)));
    assert!(!system.refresh(after(18)), "read already");
}
