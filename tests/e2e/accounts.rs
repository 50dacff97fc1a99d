//! Accounts and rights with the clients people use: each logs in, and gets what its user may have.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cidery_tests::{Engine, Node, component, http, process::text, run, run_err};
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const ALICE: &str = "alice's password";
const BOB: &str = "bob's password";

const RULES: &str = r#"
[groups]
readers = ["bob", "bot"]

[[access]]
users = ["alice"]
repositories = ["team/**"]
rights = ["all"]

[[access]]
users = ["@readers"]
repositories = ["team/**"]
rights = ["pull"]

[[access]]
users = ["anonymous"]
repositories = ["public/**"]
rights = ["pull"]

[[access]]
users = ["alice"]
repositories = ["public/**"]
rights = ["push"]
"#;

/// Runs a command that reads `input`; what it said, and whether it went well.
pub fn with_input(command: &mut Command, input: &str) -> (bool, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (output.status.success(), said)
}

#[track_caller]
pub fn ok((well, said): (bool, String)) -> String {
    assert!(well, "{said}");
    said
}

pub fn add(data: &Path, user: &str, password: &str) -> String {
    let mut command = cidery_tests::node::command(data, &["user", "add", user]);
    ok(with_input(&mut command, &format!("{password}\n")))
}

/// The node looks at its accounts once a second.
pub fn heeded() {
    thread::sleep(Duration::from_millis(1100));
}

struct World {
    node: Node,
    directory: TempDir,
}

/// A node with alice, who may everything, and bob, who may pull; bob is added while it runs.
fn world() -> World {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let config = directory.path().join("config.toml");
    fs::write(&config, RULES).unwrap();
    assert!(add(&data, "alice", ALICE).contains("added"));
    let node = Node::start_on(&data, &["--config", text(&config)]);
    assert!(add(&data, "bob", BOB).contains("added"));
    World { node, directory }
}

impl World {
    fn token(&self, arguments: &[&str]) -> String {
        let made = self.node.json(&[&["user", "token"], arguments].concat());
        made["token"].as_str().unwrap().to_owned()
    }

    /// Nothing that was secret is in the log.
    fn keeps(mut self, secrets: &[&str]) {
        let log = self.node.daemon().log();
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

pub fn docker_login(engine: &Engine, host: &str, user: &str, password: &str) -> (bool, String) {
    with_input(&mut engine.docker(&["login", host, "-u", user, "--password-stdin"]), password)
}

/// The engine asks for tokens, and its user never has to know.
#[test]
fn docker() {
    let Some(engine) = Engine::start() else { return };
    let world = world();
    let host = world.node.host();
    let image = format!("{host}/team/app:1");
    engine.build(&image, "accounts", &[1 << 20]);
    let said = engine.run_err(&["push", "-q", &image]);
    assert!(said.contains("authentication required") || said.contains("unauthorized"), "{said}");
    let (well, said) = docker_login(&engine, &host, "alice", "wrong");
    assert!(!well && said.contains("unauthorized"), "{said}");
    assert!(ok(docker_login(&engine, &host, "alice", ALICE)).contains("Succeeded"));
    // What is kept is good for this one node, until the password changes.
    let kept = fs::read_to_string(engine.config().join("config.json")).unwrap();
    assert!(kept.contains("identitytoken") && !kept.contains(&STANDARD.encode(format!("alice:{ALICE}"))), "{kept}");
    engine.run(&["push", "-q", &image]);
    let public = format!("{host}/public/app:1");
    engine.run(&["tag", &image, &public]);
    engine.run(&["push", "-q", &public]);
    let elsewhere = format!("{host}/elsewhere/app:1");
    engine.run(&["tag", &image, &elsewhere]);
    engine.run_err(&["push", "-q", &elsewhere]);

    engine.run(&["logout", &host]);
    engine.forget();
    let said = engine.run_err(&["pull", "-q", &image]);
    assert!(said.contains("denied") || said.contains("unauthorized"), "{said}");
    engine.run(&["pull", "-q", &public]);

    ok(docker_login(&engine, &host, "bob", BOB));
    engine.run(&["pull", "-q", &image]);
    let said = engine.run_err(&["push", "-q", &image]);
    assert!(said.contains("denied"), "{said}");

    // A program's token, which ends when it is told to.
    let token = world.token(&["alice", "--name", "ci", "--rights", "pull"]);
    ok(docker_login(&engine, &host, "alice", &token));
    engine.forget();
    engine.run(&["pull", "-q", &image]);
    engine.run_err(&["push", "-q", &image]);
    world.node.run(&["user", "token", "alice", "--revoke", "ci"]);
    heeded();
    let (well, said) = docker_login(&engine, &host, "alice", &token);
    assert!(!well && said.contains("unauthorized"), "{said}");
    world.keeps(&[ALICE, BOB, "wrong", &token]);
}

/// skopeo logs in, copies, mounts, lists and deletes.
#[test]
fn skopeo() {
    let Some(skopeo) = component("skopeo", "skopeo") else { return };
    let Some(engine) = Engine::start() else { return };
    let world = world();
    let auth = text(world.directory.path()).to_owned() + "/auth.json";
    let host = world.node.host();
    let at = |name: &str| format!("docker://{host}/{name}");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&skopeo);
        command.args(arguments).env("REGISTRY_AUTH_FILE", &auth).env("DOCKER_CONFIG", "/nonexistent");
        command
    };
    let log_in = |user: &str, password: &str| {
        let mut login = command(&["login", "--tls-verify=false", "-u", user, "--password-stdin", &host]);
        with_input(&mut login, password)
    };
    let copy = |from: &str, to: &str| {
        command(&["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to])
    };
    engine.build("skopeo:1", "skopeo accounts", &[300_000]);
    let (archive, _) = cidery_tests::docker::below(world.directory.path(), "image.tar");
    engine.run(&["save", "skopeo:1", "-o", text(&archive)]);
    let archive = format!("docker-archive:{}", text(&archive));

    run_err(&mut copy(&archive, &at("team/app:1")));
    assert!(!log_in("alice", BOB).0);
    ok(log_in("alice", ALICE));
    run(&mut copy(&archive, &at("team/app:1")));
    run(&mut copy(&at("team/app:1"), &at("team/mounted:1")));
    run(&mut copy(&at("team/app:1"), &at("public/app:1")));

    run(&mut command(&["logout", &host]));
    run(&mut command(&["inspect", "--tls-verify=false", &at("public/app:1")]));
    run_err(&mut command(&["inspect", "--tls-verify=false", &at("team/app:1")]));

    ok(log_in("bob", BOB));
    assert!(run(&mut command(&["inspect", "--tls-verify=false", &at("team/app:1")])).contains("Layers"));
    assert!(
        run(&mut command(&["list-tags", "--tls-verify=false", at("team/app:1").trim_end_matches(":1")])).contains('1')
    );
    run_err(&mut copy(&archive, &at("team/app:2")));
    run_err(&mut command(&["delete", "--tls-verify=false", &at("team/app:1")]));

    ok(log_in("alice", ALICE));
    run(&mut command(&["delete", "--tls-verify=false", &at("team/app:1")]));
    run_err(&mut command(&["inspect", "--tls-verify=false", &at("team/app:1")]));
    world.keeps(&[ALICE, BOB]);
}

/// podman and buildah, with credentials on the command line and from a login.
#[test]
fn podman() {
    let (Some(podman), Some(buildah)) = (component("podman", "podman"), component("buildah", "buildah")) else {
        return;
    };
    if !cidery_tests::process::root() {
        return;
    }
    let world = world();
    let (storage, runroot) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let auth = text(world.directory.path()).to_owned() + "/auth.json";
    fs::write(&auth, "{}").unwrap();
    let host = world.node.host();
    let command = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--root", text(storage.path()), "--runroot", text(runroot.path()), "--storage-driver", "vfs"]);
        command.args(arguments).env("REGISTRY_AUTH_FILE", &auth).env("DOCKER_CONFIG", "/nonexistent");
        command
    };
    let image = format!("{host}/team/podman:1");
    let container = run(&mut command(&buildah, &["from", "scratch"]));
    let file = storage.path().join("payload");
    fs::write(&file, cidery_tests::docker::noise("podman accounts", 0, 500_000)).unwrap();
    run(&mut command(&buildah, &["add", container.trim(), text(&file), "/payload"]));
    run(&mut command(&buildah, &["commit", container.trim(), &image]));
    run_err(&mut command(&buildah, &["push", "--tls-verify=false", &image]));
    run(&mut command(&buildah, &["push", "--tls-verify=false", "--creds", &format!("alice:{ALICE}"), &image]));
    run(&mut command(&podman, &["rmi", "--all", "--force"]));
    let mut login = command(&podman, &["login", "--tls-verify=false", "-u", "bob", "--password-stdin", &host]);
    ok(with_input(&mut login, BOB));
    run(&mut command(&podman, &["pull", "--tls-verify=false", &image]));
    run_err(&mut command(&podman, &["push", "--tls-verify=false", &image]));
    world.keeps(&[ALICE, BOB]);
}

/// The commands: what they say, and that the node heeds them while it runs.
#[test]
fn the_commands() {
    let World { node, directory } = world();
    let get = |user: &str, password: &str| {
        http::get_with(&format!("http://{}/v2/", node.http), &[("authorization", &basic(user, password))]).status
    };
    assert_eq!(
        (http::get(&format!("http://{}/v2/", node.http)).status, get("alice", ALICE), get("bob", BOB)),
        (401, 200, 200)
    );
    let names: Vec<_> =
        node.json(&["user", "list"]).as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert!(node.run(&["user", "list"]).contains("alice"));
    assert!(add(node.data(), "alice", "changed").contains("changed"));
    assert_eq!((get("alice", "changed"), get("alice", ALICE)), (200, 401));

    let token = node.run(&["user", "token", "bob", "--expires", "1h", "--rights", "pull"]);
    let token = token.lines().next().unwrap();
    assert!(token.starts_with("cidery_"));
    let tokens = node.json(&["user", "token", "bob", "--list"]);
    assert_eq!((tokens[0]["name"].as_str(), &tokens[0]["rights"]), (Some("ci"), &serde_json::json!(["pull"])));
    let file = fs::read_to_string(node.data().join("users")).unwrap();
    assert!(!file.contains(token) && !file.contains("changed") && !tokens.to_string().contains(token));
    assert!(run_err(&mut node.command(&["user", "token", "bob"])).contains("--revoke ci"));
    assert!(run_err(&mut node.command(&["user", "token", "carol"])).contains("cidery user add"));
    assert!(run_err(&mut node.command(&["user", "remove", "carol"])).contains("cidery user list"));
    assert!(run_err(&mut node.command(&["user", "add", "a:b"])).contains("colon"));
    // Nothing on standard input is no password.
    assert!(run_err(&mut node.command(&["user", "add", "carol"])).contains("password"));
    assert!(node.run(&["user", "remove", "bob"]).contains("removed"));
    heeded();
    assert_eq!((get("bob", BOB), get("bob", token)), (401, 401));

    // A backup lets in who the node lets in; commands need no login.
    let copy = directory.path().join("copy");
    node.run(&["backup", text(&copy)]);
    drop(node);
    let restored = Node::start_on(&copy, &[]);
    let status =
        |shown: &str| http::get_with(&format!("http://{}/v2/", restored.http), &[("authorization", shown)]).status;
    assert_eq!((status(&basic("alice", "changed")), status(&basic("bob", BOB))), (200, 401));
    assert!(restored.run(&["user", "remove", "alice"]).contains("nobody"));
}

/// What is configured wrongly stops the start, in one line.
#[test]
fn wrong_accounts_stop_the_start() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let htpasswd = directory.path().join("htpasswd");
    let refusal = |arguments: &[&str]| cidery_tests::process::refusal(&mut Node::serve(&data, arguments));
    assert!(refusal(&["--htpasswd", text(&htpasswd)]).contains("htpasswd"));
    fs::write(&htpasswd, "alice:$apr1$salt$hash\n").unwrap();
    let said = refusal(&["--htpasswd", text(&htpasswd)]);
    assert!(said.contains("line 1") && said.contains("htpasswd -B") && !said.contains("$apr1"), "{said}");
    assert!(refusal(&["--trusted-proxies", "proxy.lan"]).contains("10.0.0.0/8"));
    let config = directory.path().join("config.toml");
    fs::write(&config, "[[access]]\nusers = [\"@ops\"]\nrepositories = [\"**\"]\nrights = [\"all\"]\n").unwrap();
    assert!(refusal(&["--config", text(&config)]).contains("[groups]"));
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
