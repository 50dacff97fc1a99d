//! HTTPS, with the files, clients and signals that operators have.

use cidery_tests::{
    Engine, Node,
    certificates::Authority,
    component, http,
    process::{refusal, run, run_err, text, wait_for},
};
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// A directory as clients have it in `certs.d`, and the server's own files beside it.
struct Files {
    directory: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files =
            Self { directory: TempDir::with_prefix("cidery-tls-").unwrap(), authority: Authority::new("first") };
        fs::create_dir(files.at("certs")).unwrap();
        files.authority.write(&files.at("certs/ca.crt"));
        files.authority.server().write(&files.at("server.pem"), &files.at("server.key"));
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self, more: &[&str]) -> Node {
        let (cert, key) = (self.at("server.pem"), self.at("server.key"));
        Node::start(&[&["--tls-cert", text(&cert), "--tls-key", text(&key)][..], more].concat())
    }

    /// curl, which trusts what is in `ca`.
    fn curl(&self, ca: &str, node: &Node, more: &[&str]) -> Option<Command> {
        let mut command = Command::new(component("curl", "curl")?);
        command.args(["-sS", "--max-time", "20", "--cacert", text(&self.at(ca))]).args(more);
        command.arg(format!("https://{}/v2/", node.host()));
        Some(command)
    }
}

/// curl speaks HTTP/2 and HTTP/1.1; without TLS it is told what to do.
#[test]
fn curl() {
    let files = Files::new();
    let node = files.serve(&[]);
    for (flag, version) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let format = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}", flag];
        let Some(mut curl) = files.curl("certs/ca.crt", &node, &format) else { return };
        assert_eq!(run(&mut curl), version);
    }
    let plain = http::get(&format!("http://{}/v2/", node.http));
    let message = plain.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(plain.status == 400 && message.contains("https://"), "{plain:?}");
}

/// skopeo pushes and pulls, with a client certificate from its directory.
#[test]
fn skopeo_with_a_client_certificate() {
    let Some(skopeo) = component("skopeo", "skopeo") else { return };
    let files = Files::new();
    let source = Node::start(&[]);
    http::push_image(&source.http, "app", "1", &[vec![7; 3 << 20]]);
    let layout = format!("oci:{}:1", files.at("layout").display());
    source.run(&["export", "app:1", text(&files.at("layout"))]);

    let ca = files.at("certs/ca.crt");
    let node = files.serve(&["--tls-client-ca", text(&ca)]);
    let image = format!("docker://{}/team/app:1", node.host());
    let certs = files.at("certs");
    let push = || {
        let mut command = Command::new(&skopeo);
        command.args(["--insecure-policy", "copy", "--dest-cert-dir", text(&certs), &layout, &image]);
        command
    };
    // Without a certificate there is no way in.
    let said = run_err(&mut push());
    assert!(said.contains("certificate"), "{said}");
    files.authority.client().write(&files.at("certs/client.cert"), &files.at("certs/client.key"));
    run(&mut push());
    let copy = format!("oci:{}:1", files.at("copy").display());
    run(Command::new(&skopeo).args(["--insecure-policy", "copy", "--src-cert-dir", text(&certs), &image, &copy]));
    assert!(node.run(&["images"]).contains("team/app:1"));

    // Or, where they are optional, without.
    let node = files.serve(&["--tls-client-ca", text(&ca), "--tls-client", "optional"]);
    let Some(mut curl) = files.curl("certs/ca.crt", &node, &[]) else { return };
    assert_eq!(run(&mut curl), "{}");
}

/// docker takes a registry on this machine as it is, with TLS too.
#[test]
fn docker_over_tls() {
    let Some(engine) = Engine::start() else { return };
    let node = Files::new().serve(&[]);
    let image = format!("{}/app:1", node.host());
    engine.build(&image, "tls", &[2 << 20]);
    engine.run(&["push", "-q", &image]);
    engine.forget();
    engine.run(&["pull", "-q", &image]);
    assert_eq!(engine.greeting(&image), "tls");
}

/// New files are in use soon, or at once on SIGHUP; what cannot be used changes nothing.
#[test]
fn certificates_are_renewed() {
    let files = Files::new();
    let mut node = files.serve(&[]);
    let gets_in =
        |ca: &str, node: &Node| files.curl(ca, node, &[]).map(|mut curl| curl.output().unwrap().stdout == b"{}");
    if gets_in("certs/ca.crt", &node).is_none() {
        return;
    }
    let second = Authority::new("second");
    second.write(&files.at("second.crt"));
    // Another certificate, and not yet its key: as it is for a moment, whoever renews it.
    second.server().write(&files.at("server.pem"), &files.at("next.key"));
    node.daemon().wait_for_line("those before stay in use");
    assert_eq!(gets_in("certs/ca.crt", &node), Some(true));
    fs::rename(files.at("next.key"), files.at("server.key")).unwrap();
    wait_for("the new certificate", || gets_in("second.crt", &node).filter(|is_in| *is_in));
    assert_eq!(gets_in("certs/ca.crt", &node), Some(false));

    files.authority.server().write(&files.at("server.pem"), &files.at("server.key"));
    let before = node.daemon().log().matches("were read again").count();
    run(Command::new("kill").args(["-HUP", &node.daemon().id().to_string()]));
    wait_for("the signal", || (node.daemon().log().matches("were read again").count() > before).then_some(()));
    assert_eq!(gets_in("certs/ca.crt", &node), Some(true));
    // Nothing of the key was said.
    let key = fs::read_to_string(files.at("server.key")).unwrap();
    assert!(!node.daemon().log().contains(key.lines().nth(1).unwrap()));
}

/// What is wrong with the files is said at the start.
#[test]
fn files_that_do_not_do_stop_the_start() {
    let files = Files::new();
    let (cert, key, data) = (files.at("server.pem"), files.at("server.key"), files.at("data"));
    let serve = |arguments: &[&str]| refusal(&mut Node::serve(&data, arguments));
    assert!(serve(&["--tls-cert", text(&cert)]).contains("--tls-key"));
    let missing = files.at("missing.key");
    let said = serve(&["--tls-cert", text(&cert), "--tls-key", text(&missing)]);
    assert!(said.contains("missing.key"), "{said}");
    let said = serve(&["--tls-cert", text(&key), "--tls-key", text(&key)]);
    assert!(said.contains("no certificate") && said.contains("server.key"), "{said}");
    let other = files.at("other.key");
    files.authority.server().write(&files.at("other.pem"), &other);
    let said = serve(&["--tls-cert", text(&cert), "--tls-key", text(&other)]);
    assert!(said.contains("certificate and its key"), "{said}");
    assert!(serve(&["--cors", "*"]).contains("https://ui.example"));
}
