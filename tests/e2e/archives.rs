//! Export and import, through the programs that made the formats.

use cidery_tests::{Engine, Kubo, Node, component, docker::below, http, run};
use std::process::Command;
use tempfile::TempDir;

#[test]
fn docker_loads_what_is_exported_and_we_import_what_it_saves() {
    let Some(engine) = Engine::start() else { return };
    let node = Node::start(&[]);
    let image = format!("{}/app:1", node.host());
    engine.build(&image, "archived", &[2 << 20]);
    engine.run(&["push", "-q", &image]);
    let directory = TempDir::new().unwrap();
    let (_, archive) = below(directory.path(), "app.tar");
    node.run(&["export", "app:1", &archive, "--format", "docker"]);
    engine.forget();
    let loaded = engine.run(&["load", "-i", &archive]);
    let name = loaded.trim().rsplit(": ").next().unwrap().to_owned();
    assert_eq!(engine.greeting(&name), "archived");

    let (_, saved) = below(directory.path(), "saved.tar");
    engine.run(&["save", "-o", &saved, &name]);
    node.run(&["import", &saved, "--as", "again:2"]);
    engine.forget();
    let again = format!("{}/again:2", node.host());
    engine.run(&["pull", "-q", &again]);
    assert_eq!(engine.greeting(&again), "archived");
}

#[test]
fn an_oci_layout_goes_round() {
    let Some(skopeo) = component("skopeo", "skopeo") else { return };
    let node = Node::start(&[]);
    let digest = http::push_image(&node.http, "team/app", "v1", &[b"layer".to_vec(), vec![9; 1_200_000]]);
    let directory = TempDir::new().unwrap();
    let (_, layout) = below(directory.path(), "layout");
    node.run(&["export", "team/app:v1", &layout]);
    let raw = run(Command::new(skopeo).args(["inspect", "--raw", &format!("oci:{layout}")]));
    assert_eq!(http::digest(raw.as_bytes()), digest);
    let other = Node::start(&[]);
    other.run(&["import", &layout, "--as", "copy:v1"]);
    assert_eq!(other.json(&["images"])[0]["digest"], digest.as_str());
    // Nothing is overwritten.
    cidery_tests::run_err(&mut node.command(&["export", "team/app:v1", &layout]));
}

#[test]
fn a_car_goes_through_kubo() {
    let Some(kubo) = Kubo::start() else { return };
    let node = Node::start(&[]);
    let digest = http::push_image(&node.http, "app", "1", &[vec![5; 3_000_000]]);
    let root = node.json(&["status"])["namespaces"][0]["root"].as_str().unwrap().to_owned();
    let directory = TempDir::new().unwrap();
    let (_, car) = below(directory.path(), "tree.car");
    node.run(&["export", &root, &car, "--format", "car"]);
    kubo.run(&["dag", "import", &car]);
    assert!(kubo.run(&["ls", &format!("/ipfs/{root}/docker/registry/v2/repositories")]).contains("app"));
    let other = Node::start(&[]);
    other.run(&["import", &car]);
    let images = other.json(&["images"]);
    assert_eq!((images[0]["name"].as_str(), images[0]["digest"].as_str()), (Some("app:1"), Some(&*digest)));
}
