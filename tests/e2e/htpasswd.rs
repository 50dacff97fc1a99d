//! Users in a file that the real `htpasswd` writes, and changes while the node runs.

use crate::accounts::{add, docker_login, heeded, ok, with_input};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cidery_tests::{
    Client, Engine, Node, component, http,
    image::Layout,
    process::{refusal, text, wait_for},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const FIRST: &str = "the first password";
const SECOND: &str = "the second password";
const BOB: &str = "bob's password";

/// A file of users, and the program that writes it.
struct Users {
    program: PathBuf,
    directory: TempDir,
}

impl Users {
    /// With nobody in it; `None` where the program is missing.
    fn new() -> Option<Self> {
        let program = component("htpasswd", "apache2-utils")?;
        let directory = TempDir::with_prefix("cidery-htpasswd-").unwrap();
        let users = Self { program, directory };
        fs::write(users.file(), "").unwrap();
        Some(users)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("htpasswd")
    }

    /// Sets a password as operators are told to, or in one of the older ways (`how`).
    fn set(&self, how: &str, user: &str, password: &str) {
        let mut command = Command::new(&self.program);
        command.args(["-i", how, text(&self.file()), user]);
        let said = ok(with_input(&mut command, &format!("{password}\n")));
        assert!(said.contains(user), "{said}");
    }

    fn delete(&self, user: &str) {
        let said = cidery_tests::process::run_said(Command::new(&self.program).args(["-D", text(&self.file()), user]));
        assert!(said.contains("Deleting"), "{said}");
    }

    fn serve(&self, data: &Path) -> Node {
        Node::start_on(data, &["--htpasswd", text(&self.file())])
    }
}

fn curl(node: &Node, user: &str, password: &str) -> Option<u16> {
    let mut command = Command::new(component("curl", "curl")?);
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", &format!("{user}:{password}")]);
    Some(cidery_tests::run(command.arg(format!("http://{}/v2/", node.http))).parse().unwrap())
}

fn crane_login(crane: &Client, node: &Node, user: &str, password: &str) -> (bool, String) {
    with_input(&mut crane.command(&["auth", "login", &node.host(), "-u", user, "--password-stdin"]), password)
}

/// docker, whose login ends when the password is another one.
#[test]
fn docker() {
    let (Some(users), Some(engine)) = (Users::new(), Engine::start()) else { return };
    users.set("-B", "alice", FIRST);
    let data = users.directory.path().join("data");
    let mut node = users.serve(&data);
    let (host, image) = (node.host(), format!("{}/team/app:1", node.host()));
    engine.build(&image, "htpasswd", &[1 << 20]);
    engine.run_err(&["push", "-q", &image]);
    assert!(!docker_login(&engine, &host, "alice", SECOND).0);
    ok(docker_login(&engine, &host, "alice", FIRST));
    engine.run(&["push", "-q", &image]);

    users.set("-B", "alice", SECOND);
    heeded();
    // What docker kept of the login was good for the password that it was made with.
    let said = engine.run_err(&["push", "-q", &image]);
    assert!(said.contains("unauthorized") || said.contains("denied") || said.contains("authentication"), "{said}");
    assert!(!docker_login(&engine, &host, "alice", FIRST).0);
    ok(docker_login(&engine, &host, "alice", SECOND));
    engine.run(&["push", "-q", &image]);

    users.delete("alice");
    heeded();
    engine.run_err(&["pull", "-q", &image]);
    assert!(!docker_login(&engine, &host, "alice", SECOND).0);
    let log = node.daemon().log();
    for secret in [FIRST, SECOND, "$2y$"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// curl and crane: users come, go, and change their passwords one by one.
#[test]
fn users_come_and_go() {
    let (Some(users), Some(crane)) = (Users::new(), Client::built("crane")) else { return };
    let data = users.directory.path().join("data");
    let mut node = users.serve(&data);
    // An empty file lets nobody in, and leaves the registry closed.
    assert_eq!(http::get(&format!("http://{}/v2/", node.http)).status, 401);
    let Some(status) = curl(&node, "alice", FIRST) else { return };
    assert_eq!(status, 401);
    users.set("-B", "alice", FIRST);
    users.set("-B", "bob", BOB);
    heeded();
    assert_eq!((curl(&node, "alice", FIRST), curl(&node, "bob", BOB)), (Some(200), Some(200)));

    let (layout, _) = Layout::of("1", "htpasswd", &[]);
    let image = format!("{}/team/app:1", node.host());
    // crane only writes down what it is told.
    ok(crane_login(&crane, &node, "bob", FIRST));
    crane.run_err(&["push", text(layout.path()), &image]);
    ok(crane_login(&crane, &node, "bob", BOB));
    crane.run(&["push", text(layout.path()), &image]);
    let bearer = bearer(&node, "bob", BOB);
    let shown = [("authorization", bearer.as_str())];
    let pull = |node: &Node| http::get_with(&format!("http://{}/v2/team/app/tags/list", node.http), &shown).status;
    assert_eq!(pull(&node), 200);

    users.set("-B", "alice", SECOND);
    users.delete("bob");
    heeded();
    assert_eq!((curl(&node, "alice", FIRST), curl(&node, "alice", SECOND)), (Some(401), Some(200)));
    assert_eq!(curl(&node, "bob", BOB), Some(401));
    // A token of his is none any more either, though it would have lived for minutes.
    assert_eq!(pull(&node), 401);
    crane.run_err(&["push", text(layout.path()), &image]);

    // Who is in both files has the password of the command.
    add(&data, "alice", FIRST);
    heeded();
    assert_eq!((curl(&node, "alice", FIRST), curl(&node, "alice", SECOND)), (Some(200), Some(401)));
    node.daemon().wait_for_line("is in the htpasswd file too");
}

/// What no password can be checked against is said, with the line and what to do.
#[test]
fn other_hashes_are_refused_by_their_line() {
    let Some(users) = Users::new() else { return };
    let data = users.directory.path().join("data");
    users.set("-B", "alice", FIRST);
    let mut node = users.serve(&data);
    for how in ["-m", "-d", "-s"] {
        users.set(how, "carl", "carl'spw");
        heeded();
        let known = node.daemon().log().matches("what was read before stays in force").count();
        let Some(status) = curl(&node, "carl", "carl'spw") else { return };
        assert_eq!((status, curl(&node, "alice", FIRST)), (401, Some(200)), "{how}");
        let log = wait_for("the warning", || {
            let log = node.daemon().log();
            (log.matches("what was read before stays in force").count() >= known.max(1)).then_some(log)
        });
        assert!(log.contains("line 2") && log.contains("htpasswd -B"), "{log}");
        // It would stop the start.
        let said =
            refusal(&mut Node::serve(&users.directory.path().join("other"), &["--htpasswd", text(&users.file())]));
        assert!(said.contains("line 2") && said.contains("carl") && said.contains("htpasswd -B"), "{how}: {said}");
        users.delete("carl");
        heeded();
        assert_eq!(curl(&node, "alice", FIRST), Some(200));
    }
    // Without the file nobody new comes in, and who was there stays.
    fs::remove_file(users.file()).unwrap();
    heeded();
    assert_eq!(curl(&node, "alice", FIRST), Some(200));
}

/// A bearer token for pulling from `team/app`.
fn bearer(node: &Node, user: &str, password: &str) -> String {
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let url = format!("http://{}/token?service=cidery&scope=repository:team/app:pull", node.http);
    let answer = http::get_with(&url, &[("authorization", &basic)]);
    assert_eq!(answer.status, 200);
    format!("Bearer {}", answer.json()["token"].as_str().unwrap())
}
