//! Small requests next to docker-registry: manifests, HEADs, and lists of many names.

use crate::{
    Options, images,
    report::Report,
    sides::{self, Sides},
};
use anyhow::{Result, ensure};
use cidery_tests::{
    docker::noise,
    http as client,
    wire::{self, Client},
};
use std::time::Duration;

const CLIENTS: usize = 16;
const TIME: Duration = Duration::from_secs(2);
/// Tags in the repository that is listed, and repositories in the catalog.
const NAMES: usize = 10_000;
/// Names on a page where a client asks for pages.
const PAGE: usize = 100;
const TAGGED: &str = "small/tagged";

/// Manifests and blobs that are asked about, and lists.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut sides = Sides::start()?;
    let layer = noise("small", 1, 1000);
    let (config, digest) = (noise("small", 0, 1000), client::digest(&layer));
    for host in sides.hosts() {
        let mut http = Client::connect(host)?;
        images::push(&mut http, "small/app", "v1", [config.clone(), layer.clone()])?;
        images::tag_many(host, TAGGED, NAMES)?;
        catalog(host)?;
    }
    let requests = [
        ("manifest GET by tag", "GET", "/v2/small/app/manifests/v1".to_owned()),
        ("manifest HEAD by tag", "HEAD", "/v2/small/app/manifests/v1".to_owned()),
        ("blob HEAD", "HEAD", format!("/v2/small/app/blobs/{digest}")),
        ("a page of 100 of 10,000 tags", "GET", format!("/v2/{TAGGED}/tags/list?n={PAGE}&last=s05000")),
        ("a page of 100 of 10,000 repositories", "GET", format!("/v2/_catalog?n={PAGE}&last=names/r05000")),
    ];
    let accept = format!("Accept: {}\r\n", client::MANIFEST);
    for (what, method, target) in &requests {
        let what = format!("{what}, {CLIENTS} connections");
        sides.compare(report, (&what, "req/s", options.runs), |host, _| {
            sides::again(host, CLIENTS, TIME, |http| {
                wire::expect(http.request(method, target, &accept, &[])?, 200)?;
                Ok(())
            })
        })?;
    }
    let lists = [
        ("all 10,000 tags, at once", format!("/v2/{TAGGED}/tags/list"), NAMES),
        ("all 10,000 tags, in pages of 1,000", format!("/v2/{TAGGED}/tags/list?n=1000"), NAMES),
        ("all of 10,000 repositories, in pages of 1,000", "/v2/_catalog?n=1000".to_owned(), NAMES + 2),
    ];
    for (what, target, names) in lists {
        sides.compare(report, (what, "lists/s", options.runs), |host, _| {
            sides::again(host, 1, TIME, |http| {
                ensure!(list(http, &target)? == names, "{host} does not list {names} names at {target}");
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// Repositories of one image each.
fn catalog(host: &str) -> Result<()> {
    let blob = noise("small", 2, 200);
    let digest = client::digest(&blob);
    Client::connect(host)?.push("names/r00000", &digest, &blob)?;
    images::each(host, 0..NAMES, |http, n| {
        let repository = format!("names/r{n:05}");
        let mount = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=names/r00000");
        wire::expect(http.request("POST", &mount, "", &[])?, 201)?;
        let manifest = images::describe([blob.clone()], |_, _| Ok(()))?;
        images::push_manifest(http, &repository, "v1", &manifest)
    })
}

/// A page of either list. To make values of its names would take longer than all else.
#[derive(serde::Deserialize)]
struct Names {
    #[serde(alias = "tags", alias = "repositories")]
    names: Vec<serde::de::IgnoredAny>,
}

/// Follows a list from page to page; how many names there are.
fn list(http: &mut Client, first: &str) -> Result<usize> {
    let (mut target, mut names) = (Some(first.to_owned()), 0);
    while let Some(page) = target.take() {
        let mut body = Vec::new();
        let head = http.exchange("GET", &page, "", wire::Body::Sized(&[]), &mut |_, bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        })?;
        ensure!(head.status == 200, "{page} was answered {}", head.status);
        names += serde_json::from_slice::<Names>(&body)?.names.len();
        let next = head.headers.get("link").and_then(|link| link.strip_prefix('<')?.split_once('>'));
        target = next.map(|(target, _)| target.to_owned());
    }
    Ok(names)
}
