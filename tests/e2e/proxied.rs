//! Behind a real nginx that adds HTTPS, configured as `docs/operations.md` has it.

use crate::accounts::{add, docker_login, heeded, ok, with_input};
use cidery_tests::{
    Client, Engine, Nginx, Node,
    certificates::Authority,
    component,
    docker::noise,
    http,
    image::{Layer, Layout},
    page::blocks,
    process::{free_port, run, text},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../docs/operations.md");
const NAME: &str = "registry.example.com";
const ALICE: &str = "alice's password";

/// A node with alice, and the proxy before it.
struct World {
    node: Node,
    nginx: Nginx,
    directory: TempDir,
}

impl World {
    /// As the page says; with `changed`, its configuration of the node in another form.
    fn start(changed: impl FnOnce(String) -> String) -> Option<Self> {
        component("nginx", Nginx::PACKAGE)?;
        let directory = TempDir::with_prefix("cidery-proxied-").unwrap();
        let at = |name: &str| directory.path().join(name);
        let [settings] = <[String; 1]>::try_from(blocks(PAGE, "Behind a proxy", "toml")).unwrap();
        fs::write(at("config.toml"), changed(settings)).unwrap();
        let data = at("data");
        add(&data, "alice", ALICE);
        // The port comes from the file, and is another one here.
        let (access, audit, config) = (at("access"), at("audit"), at("config.toml"));
        let files = ["--config", text(&config), "--access-log", text(&access), "--audit-log", text(&audit)];
        let node = Node::start_on(&data, &files);

        let authority = Authority::new("ca");
        let (cert, key) = (at("registry.pem"), at("registry.key"));
        authority.write(&at("ca.crt"));
        authority.server().write(&cert, &key);
        let [server] = <[String; 1]>::try_from(blocks(PAGE, "Behind a proxy", "nginx")).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut here = server.clone();
        for (written, real) in [
            ("listen 443 ssl;", format!("listen {address} ssl;")),
            ("/etc/ssl/registry.pem", text(&cert).to_owned()),
            ("/etc/ssl/registry.key", text(&key).to_owned()),
            ("http://127.0.0.1:5000", format!("http://{}", node.http)),
        ] {
            assert_eq!(here.matches(written).count(), 1, "{written}");
            here = here.replace(written, &real);
        }
        let nginx = Nginx::start(&address, &here)?;
        Some(Self { node, nginx, directory })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn port(&self) -> &str {
        self.nginx.address.rsplit(':').next().unwrap()
    }

    /// The name that clients on this machine call the proxy by.
    fn local(&self) -> String {
        format!("localhost:{}", self.port())
    }

    /// A request from an address of this machine, of a client that checks the certificate. Head and body of the answer.
    fn curl(&self, from: &str, path: &str, more: &[&str]) -> Option<String> {
        let mut curl = Command::new(component("curl", "curl")?);
        curl.args(["-sS", "-i", "--max-time", "20", "--interface", from, "--cacert", text(&self.at("ca.crt"))]);
        curl.args(["--resolve", &format!("{NAME}:{}:127.0.0.1", self.port())]).args(more);
        Some(run(curl.arg(format!("https://{NAME}:{}{path}", self.port()))))
    }

    /// Logs in from an address of this machine: the status.
    fn log_in(&self, from: &str, password: &str, more: &[&str]) -> Option<u16> {
        let user = format!("alice:{password}");
        Some(status(&self.curl(from, "/v2/", &[&["-u", &user], more].concat())?))
    }

    fn passes_bodies_on(&self) {
        let warnings = self.nginx.warnings();
        assert!(!warnings.contains("buffered to a temporary file"), "{warnings}");
    }
}

#[track_caller]
fn status(answer: &str) -> u16 {
    let line = answer.lines().next().unwrap_or_default();
    line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"))
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut lines =
        answer.lines().map_while(|line| line.split_once(": ").or(line.starts_with("HTTP/").then_some(("", ""))));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

fn lines(log: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What clients are told leads back to the proxy, whatever they say themselves.
#[test]
fn clients_are_sent_back_to_the_proxy() {
    let Some(world) = World::start(|settings| settings) else { return };
    let realm = format!("Bearer realm=\"https://{NAME}:{}/token\"", world.port());
    let forged =
        ["-H", "X-Forwarded-Host: evil.example", "-H", "X-Forwarded-Proto: http", "-H", "Forwarded: for=1.2.3.4"];
    for more in [&[][..], &forged] {
        let Some(answer) = world.curl("127.0.0.1", "/v2/", more) else { return };
        assert_eq!(status(&answer), 401, "{answer}");
        assert!(header(&answer, "www-authenticate").starts_with(&realm), "{answer}");
    }
    // A name that is not one of `hosts` is not answered, and the message says how it would be.
    let other = world.curl("127.0.0.1", "/v2/", &["-H", "Host: other.example.com"]).unwrap();
    assert!(status(&other) == 403 && other.contains("hosts"), "{other}");

    // An upload goes on where the client is told, through the proxy.
    let alice = ["-u", &format!("alice:{ALICE}")];
    let opened = world.curl("127.0.0.1", "/v2/app/blobs/uploads/", &[&alice[..], &["-X", "POST"]].concat()).unwrap();
    let location = header(&opened, "location");
    assert!(status(&opened) == 202 && location.starts_with("/v2/app/blobs/uploads/"), "{opened}");
    let path = format!("{location}?digest={}", http::digest(b"hello"));
    let closed =
        world.curl("127.0.0.1", &path, &[&alice[..], &["-X", "PUT", "--data-binary", "hello"]].concat()).unwrap();
    assert_eq!(status(&closed), 201, "{closed}");
    // Whoever comes through the proxy is not this machine.
    assert_eq!(status(&world.curl("127.0.0.1", "/metrics", &[]).unwrap()), 403);
    assert_eq!(status(&world.curl("127.0.0.1", "/readyz", &[]).unwrap()), 200);
    assert_eq!(http::get(&format!("http://{}/metrics", world.node.http)).status, 200);

    let audit = lines(&world.at("audit"));
    assert_eq!(audit.len(), 1, "{audit:#?}");
    assert_eq!((&audit[0]["user"], &audit[0]["client"]), (&"alice".into(), &"127.0.0.1".into()));
    assert_eq!(audit[0]["host"], format!("{NAME}:{}", world.port()));
}

/// Failed logins slow who made them: no other client of the same proxy, and nobody whose address he writes.
#[test]
fn failures_are_counted_by_their_true_source() {
    let Some(world) = World::start(|settings| settings) else { return };
    let fail_from = |from: &str, more: &[&str]| {
        for n in 0..10 {
            let status = world.log_in(from, &format!("guess{n}"), more)?;
            assert_eq!(status, 401, "{from}, {n}");
        }
        // It is the password of the next that does not matter.
        let answer = world.curl(from, "/v2/", &[&["-u", &format!("alice:{ALICE}")], more].concat())?;
        assert_eq!(status(&answer), 429, "{from}: {answer}");
        assert!(header(&answer, "retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{answer}");
        Some(())
    };
    if fail_from("127.0.0.2", &[]).is_none() {
        return;
    }
    assert_eq!(world.log_in("127.0.0.3", ALICE, &[]), Some(200));

    // Who claims to be another is slowed himself, however often he changes his mind.
    let forged = ["-H", "X-Forwarded-For: 127.0.0.5", "-H", "X-Real-IP: 127.0.0.5"];
    fail_from("127.0.0.4", &forged).unwrap();
    assert_eq!(world.log_in("127.0.0.4", ALICE, &["-H", "X-Forwarded-For: 127.0.0.6"]), Some(429));
    assert_eq!(world.log_in("127.0.0.5", "wrong", &[]), Some(401));

    // Who goes around the proxy is no proxy, and fails for himself.
    for _ in 0..12 {
        let mut curl = Command::new(component("curl", "curl").unwrap());
        curl.args(["-sS", "-i", "--interface", "127.0.0.7", "-u", "alice:wrong", "-H", "X-Forwarded-For: 127.0.0.8"]);
        let answer = run(curl.args(["-H", "X-Forwarded-Proto: https", &format!("http://{}/v2/", world.node.http)]));
        assert!(status(&answer) == 403 && answer.contains("trusted-proxies"), "{answer}");
    }
    assert_eq!(world.log_in("127.0.0.8", ALICE, &[]), Some(200));

    // The logs have the client beside the proxy.
    let refused: Vec<_> = lines(&world.at("access")).into_iter().filter(|line| line["status"] == 429).collect();
    let clients: Vec<_> = refused.iter().map(|line| line["client"].as_str().unwrap()).collect();
    assert_eq!(clients, ["127.0.0.2", "127.0.0.4", "127.0.0.4"]);
    assert!(refused.iter().all(|line| line["remote"].as_str().unwrap().starts_with("127.0.0.1:")), "{refused:#?}");

    // Who waits gets in.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(world.log_in("127.0.0.2", ALICE, &[]), Some(200));
}

/// Without the line that trusts it, a proxy's requests are refused, and the message names the line.
#[test]
fn a_proxy_that_is_not_trusted_is_refused() {
    let without = |settings: String| settings.replace("trusted-proxies = [\"127.0.0.1\"]\n", "");
    let Some(world) = World::start(without) else { return };
    let Some(answer) = world.curl("127.0.0.1", "/v2/", &["-u", &format!("alice:{ALICE}")]) else { return };
    assert!(status(&answer) == 403 && answer.contains("trusted-proxies"), "{answer}");
}

/// docker logs in, pushes and pulls; a layer of 96 MiB goes through as it comes.
#[test]
fn docker() {
    let Some(engine) = Engine::start() else { return };
    let Some(world) = World::start(|settings| settings) else { return };
    let host = world.local();
    let image = format!("{host}/team/app:1");
    engine.build(&image, "proxied", &[96 << 20]);
    engine.run_err(&["push", "-q", &image]);
    assert!(!docker_login(&engine, &host, "alice", "wrong").0);
    ok(docker_login(&engine, &host, "alice", ALICE));
    engine.run(&["push", "-q", &image]);
    engine.forget();
    engine.run(&["pull", "-q", &image]);
    assert_eq!(engine.greeting(&image), "proxied");
    engine.run(&["logout", &host]);
    engine.run_err(&["pull", "-q", &image]);
    world.passes_bodies_on();
}

/// crane, which checks the certificate; another user is added meanwhile.
#[test]
fn crane() {
    let Some(crane) = Client::built("crane") else { return };
    let Some(world) = World::start(|settings| settings) else { return };
    let command = |arguments: &[&str]| {
        let mut command = crane.command(arguments);
        command.env("SSL_CERT_FILE", world.at("ca.crt"));
        command
    };
    let host = world.local();
    let (small, large) = (noise("proxied", 0, 700), noise("proxied", 1, 48 << 20));
    let layers = [Layer::gzip(&[("small", &small)]), Layer::gzip(&[("large", &large)])];
    let (layout, pushed) = Layout::of("1", "proxied", &layers);
    let log_in = |user: &str, password: &str| {
        with_input(&mut command(&["auth", "login", &host, "-u", user, "--password-stdin"]), password)
    };
    let first = format!("{host}/team/app:1");
    cidery_tests::run_err(&mut command(&["push", text(layout.path()), &first]));
    ok(log_in("alice", ALICE));
    run(&mut command(&["push", text(layout.path()), &first]));
    run(&mut command(&["validate", "--remote", &first]));
    add(world.node.data(), "bob", "bob's password");
    heeded();
    ok(log_in("bob", "bob's password"));
    assert_eq!(run(&mut command(&["digest", &first])).trim(), pushed);
    run(&mut command(&["copy", &first, &format!("{host}/team/copy:1")]));
    run(&mut command(&["pull", "--format=oci", &first, "copy"]));
    world.passes_bodies_on();
    let users: Vec<_> =
        lines(&world.at("audit")).iter().map(|line| line["user"].as_str().unwrap().to_owned()).collect();
    assert!(users.iter().any(|user| user == "alice") && users.iter().any(|user| user == "bob"), "{users:?}");
}
