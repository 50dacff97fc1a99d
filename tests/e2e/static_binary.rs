//! The release binary runs where there is nothing else.

use cidery_tests::{
    node::binary,
    process::{Daemon, component, root},
    run,
};
use std::{fs, os::unix::fs::PermissionsExt, process::Command};
use tempfile::TempDir;

#[test]
fn it_starts_in_an_empty_chroot() {
    if !root() {
        return;
    }
    let Some(chroot) = component("chroot", "coreutils") else { return };
    let cell = TempDir::new().unwrap();
    fs::set_permissions(cell.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(binary(), cell.path().join("cidery")).unwrap();
    let chroot = |arguments: &[&str]| {
        let mut command = Command::new(&chroot);
        command.arg(cell.path()).arg("/cidery").args(arguments).env_clear();
        command
    };
    assert!(run(&mut chroot(&["--version"])).contains("cidery"));
    let mut daemon = Daemon::start(&mut chroot(&[
        "serve",
        "--data",
        "/data",
        "--http",
        "127.0.0.1:0",
        "--swarm",
        "/ip4/127.0.0.1/tcp/0",
        "--swarm",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "--bootstrap",
        "none",
    ]));
    daemon.wait_for_line("Next:");
    daemon.stop();
}
