//! Images of unusual shapes: as they are pushed, pulled here, and pulled through a second node that has none of
//! it and knows only the root.

use super::{digest, image, layers};
use cidery_tests::{
    Client, Containerd, Engine, Node,
    content::Content,
    docker::noise,
    image::{Layer, Layout, header, name, reached},
    random::number,
};
use std::{fs, time::Instant};

/// Two nodes, of which the second has nothing of what was pushed to the first and published.
struct Pair {
    skopeo: Client,
    here: Node,
    there: Node,
    root: String,
}

impl Pair {
    /// Pushes a layout's `v1` with skopeo and more arguments of its `copy`.
    fn push(layout: &Layout, arguments: &[&str]) -> Option<Self> {
        let skopeo = Client::packaged("skopeo")?;
        let here = Node::start(&[]);
        let from = format!("oci:{}:v1", layout.path().display());
        let to = format!("docker://{}/team/app:v1", here.host());
        let copy = [&["copy", "--all", "--dest-tls-verify=false"], arguments, &[&from, &to]].concat();
        super::skopeo::skopeo(&skopeo, &copy);
        let root = here.publish();
        let there = Node::with_peer(&here.address());
        Some(Self { skopeo, here, there, root })
    }

    /// The image's name here, and its name there.
    fn names(&self) -> [String; 2] {
        [format!("{}/team/app:v1", self.here.host()), format!("{}/{}/team/app:v1", self.there.host(), self.root)]
    }

    /// skopeo pulls it whole, here and there, with `arguments` of its `copy`.
    fn pull(&self, arguments: &[&str]) -> [String; 2] {
        let pull = |name: &String, folder: &str| {
            let (from, to) = (format!("docker://{name}"), format!("dir:{folder}"));
            let copy = [&["copy", "--src-tls-verify=false", "--preserve-digests"], arguments, &[&from, &to]].concat();
            super::skopeo::skopeo(&self.skopeo, &copy);
            self.skopeo.at(folder)
        };
        let [here, there] = self.names();
        [pull(&here, "here"), pull(&there, "there")]
    }

    /// What is reached here is reached there.
    fn same(&self, things: usize) {
        let here = image(&self.here, "team/app", "v1");
        assert_eq!(here.len(), things);
        assert_eq!(image(&self.there, &format!("{}/team/app", self.root), "v1"), here);
    }
}

#[test]
fn an_index_of_platforms() {
    let mut layout = Layout::default();
    let images = ["amd64", "arm64", "riscv64"].map(|architecture| {
        let own = Layer::gzip(&[("etc/platform", architecture.as_bytes())]);
        layout.image(architecture, architecture, &[layers("shared"), vec![own]].concat())
    });
    let index = layout.index(&images);
    layout.tag("v1", &index);
    let Some(pair) = Pair::push(&layout, &["--preserve-digests"]) else { return };
    for folder in pair.pull(&["--all"]) {
        assert_eq!(cidery_tests::http::digest(&fs::read(format!("{folder}/manifest.json")).unwrap()), name(&index));
    }
    // An index, three manifests and configs, two layers that all have and one of each.
    pair.same(12);
    // One platform of it, by what the index says.
    let there = format!("docker://{}", pair.names()[1]);
    let inspect = ["--override-arch=riscv64", "inspect", "--tls-verify=false", "--config", &there];
    let config = super::skopeo::skopeo(&pair.skopeo, &inspect);
    assert!(config.contains("\"riscv64\""), "{config}");
}

#[test]
fn more_than_a_hundred_layers() {
    let (Some(engine), Some(shell)) = (Engine::start(), Layer::shell()) else { return };
    // As many as the engine takes, less a few.
    let mut layers: Vec<_> =
        (0..119).map(|n| Layer::gzip(&[(&format!("etc/layer-{n}"), &noise("many", n, 100))])).collect();
    layers.push(shell);
    let (layout, pushed) = Layout::of("v1", "a-hundred-and-twenty", &layers);
    let Some(pair) = Pair::push(&layout, &["--preserve-digests"]) else { return };
    for name in pair.names() {
        assert!(engine.run(&["pull", &name]).contains(&pushed));
        assert_eq!(engine.greeting(&name), "a-hundred-and-twenty");
    }
    pair.same(122);
    // And from the engine, which hands over what it unpacked.
    let again = format!("{}/team/again:v1", pair.here.host());
    engine.run(&["tag", &pair.names()[0], &again]);
    engine.run(&["push", "-q", &again]);
    assert_eq!(image(&pair.here, "team/again", "v1").len(), 122);
}

/// Some builders make one for a step that changes nothing. (containerd refuses it, wherever it comes from.)
#[test]
fn a_layer_without_a_byte() {
    let (Some(engine), Some(shell)) = (Engine::start(), Layer::shell()) else { return };
    let (layout, pushed) = Layout::of("v1", "nothing", &[Layer::nothing(), shell, Layer::nothing()]);
    let Some(pair) = Pair::push(&layout, &["--preserve-digests"]) else { return };
    for name in pair.names() {
        engine.forget();
        assert!(engine.run(&["pull", &name]).contains(&pushed));
        assert_eq!(engine.greeting(&name), "nothing");
    }
    for folder in pair.pull(&[]) {
        let empty = cidery_tests::http::digest(b"");
        assert_eq!(fs::metadata(format!("{folder}/{}", &empty["sha256:".len()..])).unwrap().len(), 0);
    }
    // The layer without a byte is there once.
    pair.same(4);
}

#[test]
fn zstd_layers() {
    let Some(containerd) = Containerd::start() else { return };
    let Some(shell) = Layer::shell() else { return };
    let (layout, _) = Layout::of("v1", "zstd", &[layers("zstd"), vec![shell]].concat());
    let Some(pair) = Pair::push(&layout, &["--dest-compress-format=zstd"]) else { return };
    let manifest = cidery_tests::http::get(&format!("http://{}/v2/team/app/manifests/v1", pair.here.http)).json();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    assert!(
        layers.iter().all(|layer| layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"),
        "{manifest}"
    );
    for name in pair.names() {
        containerd.forget();
        containerd.run(&["images", "pull", "--plain-http", &name]);
        assert_eq!(containerd.greeting(&name), "zstd");
    }
    pair.same(5);
}

/// A layer of `CIDERY_TEST_LARGE_MIB` MiB: 40, unless somebody has the time for 5120.
#[test]
fn a_large_layer() {
    let size = usize::try_from(number("CIDERY_TEST_LARGE_MIB", 40)).unwrap() << 20;
    let content = Content::new("large", size);
    let mut start = header(size);
    start.set_path("srv/large").unwrap();
    start.set_cksum();
    // An archive: a header, the file, and two empty blocks. Only a piece of it is in memory at any time.
    let pieces = (0..size).step_by(8 << 20).map(|from| content.range(from..size.min(from + (8 << 20))));
    let pieces = [start.as_bytes().to_vec()].into_iter().chain(pieces).chain([vec![0; 1024]]);
    let mut layout = Layout::default();
    let large = layout.image_of_pieces(pieces);
    layout.tag("v1", &large);
    let timed = |what: &str, start: Instant| println!("{what} of {} MiB: {:.1?}", size >> 20, start.elapsed());
    let start = Instant::now();
    let Some(pair) = Pair::push(&layout, &["--preserve-digests"]) else { return };
    timed("push", start);
    assert_eq!(digest(&pair.here, "team/app", "v1"), Some(name(&large)));
    let start = Instant::now();
    let [here, there] = pair.pull(&[]);
    timed("pull here, and cold there,", start);
    for folder in [here, there] {
        // skopeo has compared the digest.
        let longest = fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).max();
        assert_eq!(longest, Some(size as u64 + 512 + 1024));
    }
}

/// What a second node serves is checked there as well, in the middle of it.
#[test]
fn a_range_in_the_middle_of_many_layers() {
    let layers: Vec<_> = (0..40).map(|n| Layer::tar(&[("file", &noise("ranges", n, 5_000))])).collect();
    let (layout, _) = Layout::of("v1", "ranges", &layers);
    let Some(pair) = Pair::push(&layout, &["--preserve-digests"]) else { return };
    let repository = format!("http://{}/v2/{}/team/app", pair.there.http, pair.root);
    for layer in &layers {
        let url = format!("{repository}/blobs/{}", cidery_tests::http::digest(&layer.blob));
        let answer = cidery_tests::http::get_with(&url, &[("range", "bytes=600-699")]);
        assert_eq!((answer.status, &answer.body[..]), (206, &layer.blob[600..700]));
    }
    assert_eq!(reached(&repository, "v1").len(), 42);
}
