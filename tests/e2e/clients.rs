//! The clients people use: each pushes, pulls, lists, and deletes if it can, against a node of its own.
//! `page` runs `docs/clients.md`.

mod containerd;
mod cosign;
mod crane;
mod docker;
mod estargz;
mod helm;
mod logins;
mod oras;
mod page;
mod podman;
mod regctl;
mod shapes;
mod skopeo;

use cidery_tests::{
    Node,
    docker::noise,
    http,
    image::{Layer, Layout, reached},
};
use std::collections::BTreeSet;

/// A node's repository, over HTTP.
fn repository(node: &Node, name: &str) -> String {
    format!("http://{}/v2/{name}", node.http)
}

/// Everything that an image of a node reaches, checked.
fn image(node: &Node, name: &str, reference: &str) -> BTreeSet<String> {
    reached(&repository(node, name), reference)
}

/// The digest that a tag or a digest stands for; `None` if there is no such manifest.
fn digest(node: &Node, name: &str, reference: &str) -> Option<String> {
    let answer = http::head(&format!("{}/manifests/{reference}", repository(node, name)));
    match answer.status {
        200 => Some(answer.headers["docker-content-digest"].clone()),
        404 => None,
        status => panic!("{status} for {name}:{reference}"),
    }
}

/// Two layers that nobody else has.
fn layers(seed: &str) -> Vec<Layer> {
    let (small, large) = (noise(seed, 0, 700), noise(seed, 1, 1_500_000));
    vec![Layer::gzip(&[("etc/small", &small)]), Layer::gzip(&[("srv/large", &large), ("srv/name", seed.as_bytes())])]
}

/// An image `v1` of them, and its digest.
fn layout(seed: &str) -> (Layout, String) {
    Layout::of("v1", seed, &layers(seed))
}

/// One that prints `seed` when it is run; `None` where there is no shell for it.
fn layout_that_runs(seed: &str) -> Option<(Layout, String)> {
    let layers = [layers(seed), vec![Layer::shell()?]].concat();
    Some(Layout::of("v1", seed, &layers))
}
