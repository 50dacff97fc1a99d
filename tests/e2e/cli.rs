//! The command line's promises: fields, exit codes, one line for an error.

use cidery_tests::{
    Node, http,
    node::binary,
    process::{Daemon, refusal},
    run_err,
};
use std::process::Command;

/// The fields others script against.
#[test]
fn json_fields() {
    let node = Node::start(&[]);
    let status = node.json(&["status"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let id = status["peer_id"].as_str().unwrap();
    let addresses = status["addresses"].as_array().unwrap();
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|address| address.as_str().unwrap().ends_with(&format!("/p2p/{id}"))));
    assert_eq!(status["peers"], 0);
    assert_eq!(status["namespaces"][0]["name"], "local");
    assert!(status["namespaces"][0]["root"].is_null() && status["namespaces"][0]["published"].is_null());
    assert_eq!(node.json(&["images"]), serde_json::json!([]));
    assert!(run_err(&mut node.command(&["publish"])).contains("push an image first"));

    let digest = http::push_image(&node.http, "team/app", "v1", &[vec![7; 1000]]);
    let images = node.json(&["images"]);
    assert_eq!((images[0]["name"].as_str(), images[0]["digest"].as_str()), (Some("team/app:v1"), Some(&*digest)));
    assert_eq!(images[0]["namespace"], "local");
    assert!(images[0]["bytes"].as_u64().unwrap() > 1000 && images[0]["pushed"].as_str().unwrap().contains('T'));

    let published = node.json(&["publish"]);
    let root = published["root"].as_str().unwrap();
    assert_eq!(published["namespace"], "local");
    assert!(published["ipns"].is_null());
    let txt = published["txt"].as_array().unwrap();
    assert!(txt.iter().any(|line| {
        let line = line.as_str().unwrap();
        line.starts_with("_dnslink.") && line.contains(&format!("dnslink=/ipfs/{root}"))
    }));
    let status = node.json(&["status"]);
    assert_eq!(status["namespaces"][0]["published"], root);
    assert!(status["blocks"].as_u64().unwrap() > 3 && status["bytes"].as_u64().unwrap() > 1000);
}

/// The identity and the state survive a restart.
#[test]
fn a_restart_changes_nothing() {
    let mut node = Node::start(&[]);
    http::push_image(&node.http, "app", "1", &[vec![1; 2_000_000]]);
    let root = node.publish();
    let id = node.json(&["status"])["peer_id"].clone();
    node.daemon().stop();
    node.restart();
    let status = node.json(&["status"]);
    assert_eq!(status["peer_id"], id);
    assert_eq!(status["namespaces"][0]["published"], root.as_str());
}

/// Errors are one line, say what to do, and exit non-zero.
#[test]
fn errors_are_one_line() {
    let node = Node::start(&[]);
    let one_line = |command: &mut Command, needle: &str| {
        let said = refusal(command);
        assert!(said.contains(needle), "{said}");
    };
    let nowhere = tempfile::TempDir::new().unwrap();
    let mut status = Command::new(binary());
    one_line(status.args(["status", "--data"]).arg(nowhere.path()), "no node is running");
    // The port in use, by another program or another node.
    one_line(&mut Node::serve(nowhere.path(), &["--http", &node.http]), "--http");
    let swarm = node.address().rsplit_once("/p2p/").unwrap().0.to_owned();
    one_line(&mut Node::serve(nowhere.path(), &["--swarm", &swarm]), "--swarm");
    // The data directory in use.
    one_line(&mut Node::serve(node.data(), &[] as &[&str]), "in use");
    // What is no directory, what is no address, and what is no name here.
    let file = tempfile::NamedTempFile::new().unwrap();
    one_line(&mut Node::serve(file.path(), &[] as &[&str]), "is not a directory");
    one_line(&mut Node::serve(nowhere.path(), &["--peer", "192.0.2.7"]), "--peer");
    let said = run_err(&mut Node::serve(nowhere.path(), &["--http", "localhost:5000"]));
    assert!(said.contains("127.0.0.1:5000"), "{said}");
    for (arguments, needle) in [
        (vec!["pull", "localhost:5000/nothing:1"], "as in nothing:1"),
        (vec!["export", "localhost:5000/nothing:1", "x"], "as in nothing:1"),
        (vec!["import", "x", "--as", "localhost:5000/nothing:1"], "as in nothing:1"),
        (vec!["pull", "nothing:1"], "nothing"),
        (vec!["pull", "../etc:1"], "not valid"),
        (vec!["export", "nothing:1", "/nonexistent/x"], ""),
        (vec!["import", "/nonexistent"], "/nonexistent"),
        (vec!["publish", "not a namespace"], "not valid"),
        (vec!["unpublish"], "not published"),
    ] {
        one_line(&mut node.command(&arguments), needle);
    }
}

/// A data directory from a newer version is left alone.
#[test]
fn a_newer_data_directory_is_refused() {
    let mut node = Node::start(&[]);
    http::push_image(&node.http, "app", "1", &[vec![1; 100]]);
    node.daemon().stop();
    let format = node.data().join("format");
    let newer = std::fs::read_to_string(&format).unwrap().replacen(" 1 ", " 999 ", 1);
    std::fs::write(&format, &newer).unwrap();
    let said = run_err(&mut Node::serve(node.data(), &[] as &[&str]));
    assert!(said.contains("newer"), "{said}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
}

/// Flags win over the environment, and that over the file.
#[test]
fn flags_over_environment_over_file() {
    let directory = tempfile::TempDir::new().unwrap();
    let config = directory.path().join("config.toml");
    let data = |name: &str| directory.path().join(name);
    std::fs::write(&config, format!("data = {:?}\n", data("from-the-file"))).unwrap();
    let said = |flag: Option<&str>, variable: Option<&str>| {
        let mut command = Command::new(binary());
        command.arg("status").env("CIDERY_CONFIG", &config).env_remove("CIDERY_DATA");
        if let Some(name) = flag {
            command.arg("--data").arg(data(name));
        }
        if let Some(name) = variable {
            command.env("CIDERY_DATA", data(name));
        }
        run_err(&mut command)
    };
    assert!(said(None, None).contains("from-the-file"));
    assert!(said(None, Some("from-the-environment")).contains("from-the-environment"));
    assert!(said(Some("from-the-flag"), Some("from-the-environment")).contains("from-the-flag"));
    // What is wrong in the file is named with the file, and so is what only a look at all of it shows.
    for (text, needle) in [
        ("\nhtttp = \"127.0.0.1:1\"", "line 2: there is no key htttp, but http"),
        ("[[access]]\nusers = [\"@ops\"]\nrepositories = [\"**\"]\nrights = [\"all\"]", "[groups]"),
        ("[[tags]]\nimmutable = false", "[[tags]] number 1"),
        ("[[webhook]]\nurl = \"ci.example\"", "webhook 1"),
    ] {
        std::fs::write(&config, text).unwrap();
        let wrong = refusal(&mut Node::serve(&data("any"), &["--config", config.to_str().unwrap()]));
        assert!(wrong.contains(config.to_str().unwrap()) && wrong.contains(needle), "{wrong}");
    }
}

/// Container managers set variables to nothing for what nobody filled in.
#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let definition = cidery_tests::run(Command::new(binary()).args(["serve", "--help"]));
    let variables: Vec<_> = definition.split("CIDERY_").skip(1).map(|rest| rest.split('=').next().unwrap()).collect();
    assert!(variables.len() > 30, "{variables:?}");
    let parent = tempfile::TempDir::new().unwrap();
    let data = parent.path().join("data");
    let flags = Node::serve(&data, &[] as &[&str]);
    let start = |chosen: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        command.args(flags.get_args());
        for name in &variables {
            command.env(format!("CIDERY_{name}"), "");
        }
        let mut daemon = Daemon::start(command.envs(chosen.iter().copied()));
        daemon.wait_for_line("Next:");
        let log = daemon.log();
        let line = log.lines().find(|line| line.trim_start().starts_with("registry ")).unwrap();
        let http = line.rsplit("://").next().unwrap().trim().to_owned();
        (daemon, http)
    };
    let status = |http: &str| http::get_with(&format!("http://{http}/v2/"), &[("host", "registry.lan")]).status;
    let (mut daemon, http) = start(&[]);
    assert_eq!((status(&http), http::push_blob(&http, "app", b"x")), (403, 201));
    daemon.stop();
    // The others still say what they say.
    let (_daemon, http) = start(&[("CIDERY_HOSTS", "registry.lan,"), ("CIDERY_READ_ONLY", "yes")]);
    assert_eq!((status(&http), http::push_blob(&http, "app", b"x")), (200, 405));
}

/// Others on the machine can't read private images.
#[test]
fn the_data_directory_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::TempDir::new().unwrap();
    let data = directory.path().join("made");
    let _node = Node::start_on(&data, &[]);
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Without a network it works just the same locally.
#[test]
fn without_any_network() {
    if !cidery_tests::process::root() {
        return;
    }
    let Some(_) = cidery_tests::component("ip", "iproute2") else { return };
    // An image to bring in: there is no client inside but our own.
    let outside = Node::start(&[]);
    http::push_image(&outside.http, "app", "1", &[vec![3; 1_500_000]]);
    let (_, layout) = cidery_tests::docker::below(outside.data(), "layout");
    outside.run(&["export", "app:1", &layout]);
    let parent = tempfile::TempDir::new().unwrap();
    let data = parent.path().join("data");
    // A namespace of its own has no interface but a loopback that is down until we raise it.
    let serve = Node::serve(&data, &["--bootstrap", "default", "--mdns", "on"]);
    let words: Vec<String> = std::iter::once(serve.get_program())
        .chain(serve.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let script = format!(
        "ip link set lo up && {} & node=$!; for i in $(seq 100); do {1} status --data {2} --json >/dev/null 2>&1 && break; sleep 0.1; done; \
         {1} import {3} --as app:1 --data {2} && {1} pull app:1 --data {2} && {1} export app:1 {2}-again --data {2} && {1} publish --data {2} \
         && {1} status --data {2} --json; code=$?; kill $node; wait $node; exit $code",
        words.join(" "),
        binary().display(),
        data.display(),
        layout
    );
    let said = cidery_tests::run(Command::new("unshare").args(["--net", "sh", "-c", &script]));
    assert!(said.contains("\"published\": \"bafy"), "{said}");
}
