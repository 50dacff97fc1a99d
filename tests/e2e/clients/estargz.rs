//! eStargz: layers that a snapshotter reads by ranges, a file at a time, without pulling them (stargz-snapshotter:
//! docs/estargz.md). The layer is made here, and read as that snapshotter reads it.

use super::digest;
use cidery_tests::{
    Client, Containerd, Node,
    content::Content,
    docker::noise,
    http::{self, get_with},
    image::{Layer, Layout, TAR_GZIP, gzip, header},
    proxy::Proxy,
};
use serde_json::{Value, json};
use std::io::Read;

/// The bytes of the last member, which says where the table of contents is.
const FOOTER: usize = 51;
/// Files are cut into members of so many bytes, each of which can be unpacked by itself.
const CHUNK: usize = 4 << 20;
/// The name that the table of contents has in the archive.
const TABLE: &str = "stargz.index.json";

/// A file's header in an archive.
fn head(path: &str, size: usize) -> Vec<u8> {
    let mut header = header(size);
    header.set_path(path).unwrap();
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padding(size: usize) -> Vec<u8> {
    vec![0; size.next_multiple_of(512) - size]
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// A layer of these files, and its table's digest.
fn estargz(files: &[(&str, Vec<u8>)]) -> (Layer, String) {
    let (mut archive, mut blob, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    let mut member = |plain: &[u8], blob: &mut Vec<u8>| {
        archive.extend_from_slice(plain);
        blob.extend(gzip(plain));
    };
    for (path, content) in files {
        member(&head(path, content.len()), &mut blob);
        for (n, chunk) in content.chunks(CHUNK).enumerate() {
            let mut entry = json!({"name": path, "offset": blob.len(), "chunkDigest": http::digest(chunk)});
            if n == 0 {
                entry["type"] = json!("reg");
                entry["size"] = json!(content.len());
                entry["mode"] = json!(0o755);
                entry["digest"] = json!(http::digest(content));
            } else {
                entry["type"] = json!("chunk");
            }
            if content.len() > CHUNK {
                entry["chunkOffset"] = json!(n * CHUNK);
                entry["chunkSize"] = json!(chunk.len());
            }
            entries.push(entry);
            member(chunk, &mut blob);
        }
        member(&padding(content.len()), &mut blob);
    }
    let table = json!({"version": 1, "entries": entries}).to_string().into_bytes();
    let offset = blob.len();
    member(&[&head(TABLE, table.len())[..], &table, &padding(table.len()), &[0; 1024]].concat(), &mut blob);
    // An empty member with a field of its own in its header: SG, of 22 bytes.
    blob.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0]);
    blob.extend(format!("{offset:016x}STARGZ").bytes());
    blob.extend([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut layer = Layer::new(TAR_GZIP, &archive, blob);
    let digest = http::digest(&table);
    layer.annotations = json!({"containerd.io/snapshot/stargz/toc.digest": digest});
    (layer, digest)
}

/// A layer that is read by ranges.
struct Remote {
    url: String,
    size: usize,
    table: Value,
    table_at: usize,
}

impl Remote {
    /// Finds its size, its footer and its table, and checks the table.
    fn open(url: String, table_digest: &str) -> Self {
        // The size comes from a probe, as registries are not all trusted with HEAD.
        let probe = get_with(&url, &[("range", "bytes=0-1")]);
        assert_eq!((probe.status, probe.body.len()), (206, 2));
        let size: usize = probe.headers["content-range"].strip_prefix("bytes 0-1/").unwrap().parse().unwrap();
        let mut remote = Self { url, size, table: Value::Null, table_at: 0 };
        let footer = remote.read(size - FOOTER, size);
        assert_eq!((&footer[12..14], &footer[32..38]), (&b"SG"[..], &b"STARGZ"[..]));
        remote.table_at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
        let archive = unpack(&remote.read(remote.table_at, size - FOOTER));
        let mut archive = tar::Archive::new(&archive[..]);
        let mut table = Vec::new();
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path_bytes(), TABLE.as_bytes());
        entry.read_to_end(&mut table).unwrap();
        assert_eq!(http::digest(&table), table_digest);
        remote.table = serde_json::from_slice(&table).unwrap();
        remote
    }

    fn read(&self, from: usize, to: usize) -> Vec<u8> {
        let answer = get_with(&self.url, &[("range", &format!("bytes={from}-{}", to - 1))]);
        assert_eq!((answer.status, answer.body.len(), answer.whole), (206, to - from, true), "{from} to {to}");
        assert_eq!(answer.headers["content-range"], format!("bytes {from}-{}/{}", to - 1, self.size));
        answer.body
    }

    /// A file, each chunk of it by itself and checked.
    fn file(&self, path: &str) -> Vec<u8> {
        let entries = self.table["entries"].as_array().unwrap();
        let mut content = Vec::new();
        for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| entry["name"] == path) {
            let offset = |entry: &Value| usize::try_from(entry["offset"].as_u64().unwrap()).unwrap();
            let end = entries.get(n + 1).map_or(self.table_at, offset);
            // What follows up to the next entry are members of padding and of the next header.
            let chunk = unpack(&self.read(offset(entry), end));
            assert_eq!(http::digest(&chunk), entry["chunkDigest"].as_str().unwrap());
            content.extend(chunk);
        }
        content
    }
}

#[test]
fn files_are_read_by_ranges_here_and_through_a_cold_node() {
    let Some(skopeo) = Client::packaged("skopeo") else { return };
    let files = [("srv/first", 6 << 20), ("srv/wanted", 100_000), ("srv/large", CHUNK + 1_000), ("srv/last", 14 << 20)];
    let files = files.map(|(path, size)| (path, Content::new(path, size).bytes()));
    let (layer, table) = estargz(&files);
    let (layout, pushed) = Layout::of("v1", "lazy", std::slice::from_ref(&layer));
    let here = Node::start(&[]);
    super::skopeo::push(&skopeo, &layout, "v1", &format!("{}/team/lazy:v1", here.host()));
    assert_eq!(digest(&here, "team/lazy", "v1"), Some(pushed));
    let blob = format!("team/lazy/blobs/{}", http::digest(&layer.blob));

    // It tries several ranges at once, and where that is refused one after the other.
    let several = get_with(&format!("http://{}/v2/{blob}", here.http), &[("range", "bytes=0-1,100-200")]);
    assert_eq!(several.status, 400);
    let local = Remote::open(format!("http://{}/v2/{blob}", here.http), &table);
    for (path, content) in &files {
        assert!(local.file(path) == *content, "{path}");
    }

    let (root, address) = (here.publish(), here.address());
    let proxy = Proxy::start(&address);
    let there = Node::with_peer(&proxy.through(&address));
    let cold = Remote::open(format!("http://{}/v2/{root}/{blob}", there.http), &table);
    assert!(cold.file("srv/wanted") == files[1].1);
    let sent = proxy.sent();
    assert!(sent < layer.blob.len() as u64 / 2, "{sent} bytes were fetched for one file of {}", files[1].1.len());
    assert!(cold.file("srv/large") == files[2].1);
}

/// For everybody else it is a layer like any other.
#[test]
fn a_plain_client_unpacks_it() {
    let (Some(containerd), Some(skopeo)) = (Containerd::start(), Client::packaged("skopeo")) else { return };
    let Some(shell) = Layer::shell() else { return };
    let (layer, _) = estargz(&[("srv/one", noise("plain", 0, 3_000)), ("srv/two", noise("plain", 1, CHUNK + 7))]);
    let (layout, pushed) = Layout::of("v1", "unpacked", &[layer, shell]);
    let here = Node::start(&[]);
    super::skopeo::push(&skopeo, &layout, "v1", &format!("{}/team/lazy:v1", here.host()));
    let there = Node::with_peer(&here.address());
    let name = format!("{}/{}/team/lazy:v1", there.host(), here.publish());
    containerd.run(&["images", "pull", "--plain-http", &name]);
    assert_eq!(containerd.digest(&name), Some(pushed));
    assert_eq!(containerd.greeting(&name), "unpacked");
}
