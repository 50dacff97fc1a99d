//! Archives from strangers: refused with a clear error, and nothing of them is adopted.

use super::support::{Layer, Node, config, image_manifest, layout, listed, manifest, noise, sha256, tar_of};
use crate::{
    archive::{
        ArchiveError, Format,
        tar_in::{EntryKind, TarReader},
    },
    tree::{Blob, Image},
};
use cidery_core::{Block, Blockstore, Origin};
use cidery_unixfs::FileBuilder;
use proptest::prelude::*;
use serde_json::json;
use std::io::{Read, repeat};

/// A tar with one entry of this raw name and type, and nothing checked.
fn raw_entry(name: &[u8], link: &[u8], kind: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar
}

/// A good image's layout with something in front.
fn with_prefix(prefix: &[u8]) -> Vec<u8> {
    let layers = [Layer::plain(b"one")];
    let config = config("amd64", &layers);
    let manifest = manifest(&config, &layers);
    let descriptor = listed(&manifest, json!({ "org.opencontainers.image.ref.name": "app:1" }));
    [prefix, &layout(json!([descriptor]), &[&config, b"one", &manifest])].concat()
}

fn refused(archive: &[u8]) -> ArchiveError {
    let node = Node::new();
    let error = node.import(archive).expect_err("refused");
    assert_eq!(node.root(), None, "nothing is adopted");
    assert!(!error.to_string().is_empty());
    error
}

#[test]
fn paths_cannot_leave_the_archive() {
    for name in [&b"../evil"[..], b"a/../../evil", b"/etc/passwd", b"blobs/../../x", b"a/..", b"\xff\xfe"] {
        let error = refused(&with_prefix(&raw_entry(name, b"", b'0', 3, b"bad")));
        assert!(matches!(error, ArchiveError::Refused { .. }), "{error}");
    }
    assert!(Node::new().import(&with_prefix(&raw_entry(b"./a/./b//c", b"", b'0', 3, b"fin"))).is_ok());
}

#[test]
fn links_out_of_the_archive_lead_nowhere() {
    for (link, kind) in [(&b"/etc/passwd"[..], b'2'), (b"../../../etc/passwd", b'2'), (b"../x", b'1'), (b"/x", b'1')] {
        let layers = [Layer::plain(b"one")];
        let config = config("amd64", &layers);
        let list = json!([{ "Config": "c.json", "RepoTags": ["app:1"], "Layers": ["a/layer.tar"] }]).to_string();
        let files = tar_of(&[("c.json", &config), ("manifest.json", list.as_bytes())]);
        let error = refused(&[raw_entry(b"a/layer.tar", link, kind, 0, b""), files].concat());
        assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
    }
    // Round and round.
    let list = json!([{ "Config": "c.json", "RepoTags": ["app:1"], "Layers": [] }]).to_string();
    let files = tar_of(&[("manifest.json", list.as_bytes())]);
    let ring = [raw_entry(b"c.json", b"d", b'2', 0, b""), raw_entry(b"d", b"c.json", b'2', 0, b""), files].concat();
    assert!(matches!(refused(&ring), ArchiveError::Missing { .. }));
}

#[test]
fn a_link_is_not_the_blob_it_is_named_by() {
    let layers = [Layer::plain(b"one")];
    let config = config("amd64", &layers);
    let manifest = manifest(&config, &layers);
    let descriptor = listed(&manifest, json!({ "org.opencontainers.image.ref.name": "app:1" }));
    let path = format!("blobs/sha256/{}", sha256(b"one").hex());
    let link = raw_entry(path.as_bytes(), b"../../other", b'2', 0, b"");
    let files = layout(json!([descriptor]), &[&config, &manifest]);
    let error = refused(&[raw_entry(b"other", b"", b'0', 3, b"two"), link, files].concat());
    assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
}

#[test]
fn devices_and_directories_are_passed_over() {
    for kind in [b'3', b'4', b'5', b'6'] {
        // Some writers give them a size, and no content.
        assert!(Node::new().import(&with_prefix(&raw_entry(b"dev/x", b"", kind, 999, b""))).is_ok(), "{kind}");
    }
    let sparse = refused(&with_prefix(&raw_entry(b"s", b"", b'S', 3, b"abc")));
    assert!(sparse.to_string().contains("sparse"), "{sparse}");
    let pax = raw_entry(b"p", b"", b'x', 22, b"22 GNU.sparse.major=1\n");
    assert!(refused(&with_prefix(&pax)).to_string().contains("sparse"));
}

#[test]
fn headers_cannot_take_memory() {
    for kind in [b'L', b'K', b'x'] {
        let huge = raw_entry(b"././@LongLink", b"", kind, 1 << 40, b"");
        let mut endless = (&huge[..]).chain(repeat(b'a'));
        let error = TarReader::new(&mut endless).next_entry().unwrap_err();
        assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
    }
    let long = [b'n'; 4000];
    let too_long = raw_entry(b"././@LongLink", b"", b'L', 4000, &long);
    let error = refused(&with_prefix(&[too_long, raw_entry(b"n", b"", b'0', 0, b"")].concat()));
    assert!(matches!(error, ArchiveError::Refused { .. }), "{error}");
    for pax in [&b"99 path=a\n"[..], b"x path=a\n", b"8 path a\n", b"12 size=abc\n", b"3\n"] {
        let error = refused(&with_prefix(&raw_entry(b"p", b"", b'x', pax.len() as u64, pax)));
        assert!(matches!(error, ArchiveError::Malformed { .. } | ArchiveError::Truncated { .. }), "{error}");
    }
    // More entries than are remembered, of an input without end.
    let entry = raw_entry(b"x", b"", b'5', 0, b"");
    struct Again<'a>(&'a [u8], usize);
    impl Read for Again<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let taken = buf.len().min(self.0.len() - self.1);
            buf[..taken].copy_from_slice(&self.0[self.1..self.1 + taken]);
            self.1 = (self.1 + taken) % self.0.len();
            Ok(taken)
        }
    }
    let mut reader = TarReader::new(Again(&entry, 0));
    let error = loop {
        if let Err(error) = reader.next_entry() {
            break error;
        }
    };
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
}

#[test]
fn pax_names_and_sizes_are_followed() {
    let long = format!("{}/f", "d".repeat(300));
    let mut record = format!(" path={long}\n");
    record = format!("{}{record}", record.len() + 3);
    let size = b"10 size=5\n";
    let records = [record.as_bytes(), size].concat();
    // The header of a file over 8 GiB says nothing useful about its size.
    let tar = [raw_entry(b"p", b"", b'x', records.len() as u64, &records), raw_entry(b"f", b"", b'0', 0, b"12345")];
    let tar = tar.concat();
    let mut reader = TarReader::new(&tar[..]);
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.path, entry.kind, entry.size), (long, EntryKind::File, 5));
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"12345");
    assert_eq!(reader.next_entry().unwrap(), None);
}

#[test]
fn documents_cannot_take_memory() {
    for name in ["index.json", "manifest.json"] {
        let error = refused(&tar_of(&[(name, &vec![b' '; (4 << 20) + 1])]));
        assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
    }
    // A manifest that is no manifest, but a layer's size.
    let huge = noise(5 << 20, 3);
    let descriptor = listed(&huge, json!({ "org.opencontainers.image.ref.name": "app:1" }));
    assert!(matches!(refused(&layout(json!([descriptor]), &[&huge])), ArchiveError::TooLarge { .. }));
    let error = refused(&tar_of(&[("index.json", "[".repeat(100_000).as_bytes())]));
    assert!(matches!(error, ArchiveError::Json { .. }), "{error}");
}

#[test]
fn indexes_within_indexes_end() {
    let mut blobs: Vec<Vec<u8>> = vec![manifest(b"{}", &[]).to_vec(), b"{}".to_vec()];
    for _ in 0..12 {
        let inner = blobs.last().filter(|last| *last != b"{}").unwrap_or(&blobs[0]).clone();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": sha256(&inner), "size": inner.len() }],
        });
        blobs.push(index.to_string().into());
    }
    let mut top = listed(blobs.last().unwrap(), json!({ "org.opencontainers.image.ref.name": "app:1" }));
    top["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    assert!(matches!(refused(&layout(json!([top]), &blobs)), ArchiveError::TooLarge { .. }));
}

#[test]
fn a_blob_must_be_what_its_name_says() {
    let path = format!("blobs/sha256/{}", sha256(b"good").hex());
    let error = refused(&with_prefix(&tar_of(&[(&path, b"evil")])[..1024]));
    assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{error}");
}

#[test]
fn an_incomplete_image_is_not_adopted() {
    let layers = [Layer::plain(b"one"), Layer::plain(b"two")];
    let config = config("amd64", &layers);
    let manifest = manifest(&config, &layers);
    let descriptor = || listed(&manifest, json!({ "org.opencontainers.image.ref.name": "app:1" }));
    for blobs in [&[&config[..], b"one", &manifest][..], &[b"one", b"two", &manifest], &[&config, b"one", b"two"]] {
        let error = refused(&layout(json!([descriptor()]), blobs));
        assert!(matches!(&error, ArchiveError::Missing { missing, .. } if missing.len() == 1), "{error}");
    }
    // Where one of two is whole, neither is taken.
    let lonely = super::support::manifest(b"absent", &[]);
    let second = listed(&lonely, json!({ "org.opencontainers.image.ref.name": "other:1" }));
    let error = refused(&layout(json!([descriptor(), second]), &[&config, b"one", b"two", &manifest, &lonely]));
    assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
}

#[test]
fn one_platform_of_an_index_is_imported_as_such() {
    let from = Node::new();
    let (digest, images) = from.push_index("app:1", &["amd64", "arm64"]);
    let index = from.manifest("app:1").unwrap();
    let whole = &images[1];
    let layer = b"layer for arm64".repeat(1000);
    let mut descriptor = listed(&index, json!({ "org.opencontainers.image.ref.name": "app:1" }));
    descriptor["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    assert_eq!(descriptor["digest"], json!(digest));
    let archive = layout(json!([descriptor]), &[&index, &whole.manifest, &whole.config, &layer]);
    let node = Node::new();
    let imported = node.import(&archive).unwrap();
    assert_eq!(imported[0].platform.as_deref(), Some("linux/arm64"));
    assert_eq!(node.manifest("app:1").unwrap(), whole.manifest);
}

#[test]
fn a_stream_cut_anywhere_is_not_adopted() {
    let from = Node::new();
    from.push("app:1", &[Layer::plain(&noise(2000, 1)), Layer::gzip(b"two")]);
    for format in [Format::Oci, Format::Docker, Format::Car] {
        let (archive, _) = from.export("app:1", format).unwrap();
        let node = Node::new();
        // The two zero blocks at the end of a tar may be missing, as in some writers' tars.
        let end = archive.len() - if format == Format::Car { 1 } else { 1024 };
        let blocks = (0..end).step_by(512).flat_map(|at| [at, at + 1, at + 511]);
        for cut in blocks.filter(|cut| *cut < end) {
            if let Ok(imported) = node.import(&archive[..cut]) {
                // What lies behind the cut must then have been padding.
                assert!(archive[cut..].iter().all(|byte| *byte == 0), "{format:?} cut at {cut}: {imported:?}");
                break;
            }
            assert_eq!(node.root(), None, "{format:?} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_archive_is_named() {
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"hello, this is text", "neither a tar nor a CAR"),
        (&[0; 2048], "neither a tar nor a CAR"),
        (b"BZh91AY&SY and so on", "bzip2"),
        (&tar_of(&[("README", b"read me")]), "without index.json"),
        (b"\x0a\xa1\x67version\x02 and the rest of a CAR v2", "version 2"),
    ] {
        let error = refused(bytes).to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn car_of(node: &Node, root: &cidery_core::Cid) -> Vec<u8> {
    node.export_cid(*root, Format::Car).unwrap()
}

#[test]
fn a_car_of_something_else_says_what_it_is() {
    let node = Node::new();
    let file = node.put_blob(&"app".parse().unwrap(), b"a file");
    let error = refused(&car_of(&node, &file.cid));
    assert!(error.to_string().contains("a file of 6 bytes"), "{error}");
    let mut writer = node.store.writer(Origin::Pushed).unwrap();
    let change = cidery_unixfs::Change::Put { cid: file.cid, tsize: 6 };
    let changes = vec![(vec!["readme".to_owned()], change)];
    let root =
        node.runtime.block_on(cidery_unixfs::edit(&*node.source().fetcher, None, changes, &mut *writer)).unwrap();
    let error = refused(&car_of(&node, &root.cid));
    assert!(error.to_string().contains("readme"), "{error}");
}

#[test]
fn a_tree_that_lies_about_a_digest_is_refused() {
    // Another blob's bytes stand where the layer's should: every block is in order.
    let node = Node::new();
    let layers = [Layer::plain(b"good")];
    let config = config("amd64", &layers);
    let manifest = manifest(&config, &layers);
    let repository = "app".parse().unwrap();
    let config_blob = node.put_blob(&repository, &config);
    let mut writer = node.store.writer(Origin::Pushed).unwrap();
    let mut builder = FileBuilder::new();
    builder.write(b"evil", &mut *writer).unwrap();
    let evil = builder.finish(&mut *writer).unwrap();
    let lie = Blob { digest: sha256(b"good"), cid: evil.cid, size: 4 };
    let image = Image {
        blobs: vec![config_blob, lie],
        manifests: vec![image_manifest(&manifest)],
        tags: vec![("1".parse().unwrap(), sha256(&manifest))],
    };
    let root = node.runtime.block_on(node.tree.adopt(&repository, image)).unwrap();
    let error = refused(&car_of(&node, &root));
    assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{error}");
    // Nor does it get out of here as an image.
    for format in [Format::Oci, Format::Docker, Format::Registry] {
        let error = node.export("app:1", format).unwrap_err();
        assert!(matches!(error, ArchiveError::DigestMismatch { .. }), "{format:?}: {error}");
    }
}

#[test]
fn a_car_without_all_its_blocks_is_refused() {
    let node = Node::new();
    node.push("app:1", &[Layer::plain(&noise(3 << 20, 4))]);
    let (archive, exported) = node.export("app:1", Format::Car).unwrap();
    let all: Vec<Block> = cidery_unixfs::car::Reader::new(&archive[..]).unwrap().map(Result::unwrap).collect();
    let header = archive.len() - all.iter().map(|block| section(block).len()).sum::<usize>();
    let mut needless = 0;
    for left_out in 0..all.len() {
        let mut car = archive[..header].to_vec();
        all.iter().enumerate().filter(|(at, _)| *at != left_out).for_each(|(_, block)| car.extend(section(block)));
        let fresh = Node::new();
        match fresh.import(&car) {
            Err(error) => {
                assert!(matches!(error, ArchiveError::Missing { .. } | ArchiveError::NotARegistry { .. }), "{error}");
                assert_eq!(fresh.root(), None);
            }
            // Only links that are written anew can be missed: the image is whole.
            Ok(_) => {
                assert_eq!(fresh.root(), exported.root);
                fresh.export_cid(fresh.root().unwrap(), Format::Car).unwrap();
                needless += 1;
            }
        }
    }
    assert!(needless < all.len() / 2, "{needless} of {}", all.len());
    assert_eq!(all[0].cid(), &exported.root.unwrap());
    // A block that is not what its CID says.
    let mut damaged = archive.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(&damaged), ArchiveError::Car(_)));
}

fn section(block: &Block) -> Vec<u8> {
    let mut section = block.cid().to_bytes();
    section.extend_from_slice(block.data());
    let mut out = Vec::new();
    let mut length = section.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(section);
    out
}

#[test]
fn a_tree_that_no_disk_can_hold_is_not_written() {
    // Basic directories by hand: Data (Type 1) after one link for each entry.
    fn directory(names: &[&str], cid: &cidery_core::Cid) -> Block {
        let mut node = Vec::new();
        for name in names {
            let cid = cid.to_bytes();
            let mut link = vec![0x0a, cid.len() as u8];
            link.extend(&cid);
            link.extend([0x12, name.len() as u8]);
            link.extend_from_slice(name.as_bytes());
            link.extend([0x18, 1]);
            node.extend([0x12, link.len() as u8]);
            node.extend(link);
        }
        node.extend([0x0a, 2, 0x08, 1]);
        Block::of(0x70, node)
    }
    let node = Node::new();
    let leaf = Block::raw(&b"x"[..]);
    node.store.put(&leaf, Origin::Peer).unwrap();
    for names in [&["../evil"][..], &["a/b"], &[".."], &["."], &["nul\0"], &["same", "same"]] {
        let root = directory(names, leaf.cid());
        node.store.put(&root, Origin::Peer).unwrap();
        assert!(node.export_cid(*root.cid(), Format::Registry).is_err(), "{names:?}");
    }
    // Two entries that are the same directory, again and again: 2^40 files out of 40 blocks.
    let mut cid = *leaf.cid();
    for _ in 0..100 {
        let level = directory(&["a", "b"], &cid);
        node.store.put(&level, Origin::Peer).unwrap();
        cid = *level.cid();
    }
    assert!(matches!(node.export_cid(cid, Format::Registry), Err(ArchiveError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(format in 0..3usize, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        thread_local! {
            static ARCHIVES: (Node, Vec<Vec<u8>>) = {
                let node = Node::new();
                node.push("app:1", &[Layer::plain(b"one"), Layer::gzip(b"two")]);
                let formats = [Format::Oci, Format::Docker, Format::Car];
                let archives = formats.map(|format| node.export("app:1", format).unwrap().0);
                (Node::new(), archives.into())
            };
        }
        ARCHIVES.with(|(node, archives)| {
            let mut archive = archives[format].clone();
            for (at, value) in damage {
                let at = at.index(archive.len());
                archive[at] = value;
            }
            let _ = node.import(&archive);
        });
    }
}
