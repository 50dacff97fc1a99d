//! Trees that strangers wrote.

use super::*;
use crate::tree::{NodeCache, Snapshot};
use async_trait::async_trait;
use cidery_core::{Block, FetchError, codec};
use cidery_unixfs::{Change, edit};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn foreign(store: &MemoryStore, root: Cid, path: &[&str]) -> Snapshot {
    let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
    Snapshot::foreign(fetcher(store), root, &path, Arc::new(NodeCache::default()))
}

/// A root with these files.
async fn write(store: &MemoryStore, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Cid {
    let mut out = store.writer(Origin::Peer).unwrap();
    let mut changes = Vec::new();
    for (path, content) in files {
        let file = write_file(&content, &mut *out);
        let path = path.split('/').map(str::to_owned).collect();
        changes.push((path, Change::Put { cid: file.cid, tsize: file.tsize }));
    }
    edit(&*fetcher(store), None, changes, &mut *out).await.unwrap().cid
}

/// The files of one image `app:v1`, below the storage directory.
fn registry() -> BTreeMap<String, Vec<u8>> {
    let manifest = image(&[b"{}", b"layer"]).to_string().into_bytes();
    let digest = digest_of(&manifest);
    let link = |digest: &Digest| digest.as_str().as_bytes().to_vec();
    let data = |digest: &Digest| format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex());
    let mut files = BTreeMap::from([
        (CURRENT.to_owned(), link(&digest)),
        (format!("{REVISIONS}/{}/link", digest.hex()), link(&digest)),
        (data(&digest), manifest),
    ]);
    for content in [&b"{}"[..], b"layer"] {
        let digest = digest_of(content);
        files.insert(format!("repositories/app/_layers/sha256/{}/link", digest.hex()), link(&digest));
        files.insert(data(&digest), content.to_vec());
    }
    files
}

const CURRENT: &str = "repositories/app/_manifests/tags/v1/current/link";
const REVISIONS: &str = "repositories/app/_manifests/revisions/sha256";

fn manifest_digest() -> Digest {
    digest_of(image(&[b"{}", b"layer"]).to_string().as_bytes())
}

fn below(prefix: &str, files: BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = (String, Vec<u8>)> + use<'_> {
    files.into_iter().map(move |(path, content)| (format!("{prefix}{path}"), content))
}

async fn reads(snapshot: &Snapshot) {
    let name = repository("app");
    let manifest = snapshot.manifest(&name, &by_tag("v1")).await.unwrap().unwrap();
    assert_eq!((&manifest.digest, manifest.media_type.as_str()), (&manifest_digest(), OCI_MANIFEST));
    let blob = snapshot.blob(&name, &digest_of(b"layer")).await.unwrap().unwrap();
    assert_eq!(blob.size, 5);
    assert_eq!(snapshot.repositories(None, 10).await.unwrap(), std::slice::from_ref(&name));
    assert_eq!(snapshot.tags(&name, None, 10).await.unwrap(), Some(vec![tag("v1")]));
}

#[tokio::test]
async fn a_storage_directory_is_found_in_its_common_places() {
    let store = MemoryStore::new();
    for prefix in ["docker/registry/v2/", "registry/v2/", "v2/", "", "registry/docker/registry/v2/"] {
        let root = write(&store, below(prefix, registry())).await;
        reads(&foreign(&store, root, &[])).await;
        let deep = write(&store, below(&format!("a/b/{prefix}"), registry())).await;
        reads(&foreign(&store, deep, &["a", "b"])).await;
    }
    let root = write(&store, below("docker/registry/v2/", registry())).await;
    reads(&foreign(&store, root, &["docker", "registry", "v2"])).await;
    let none = write(&store, [("README".to_owned(), b"hello".to_vec())]).await;
    for (root, path) in [(none, &[][..]), (none, &["README"]), (none, &["x"]), (root, &["docker", "x"])] {
        let missing = foreign(&store, root, path).tags(&repository("app"), None, 1).await;
        assert!(matches!(missing, Err(TreeError::Malformed { .. })), "{path:?}: {missing:?}");
    }
    let file = foreign(&store, *Block::raw(&b"x"[..]).cid(), &[]).exists(&repository("app")).await;
    assert!(matches!(file, Err(TreeError::Fetch(FetchError::NotFound(_)))));
}

#[tokio::test]
async fn malformed_trees_are_refused_and_nothing_else_is_harmed() {
    let hex = manifest_digest().hex().to_owned();
    let revision = format!("{REVISIONS}/{hex}/link");
    let data = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
    let digest = manifest_digest().to_string();
    let other = digest_of(b"other").to_string();
    let sha512 = Digest::sha512(&[1; 64]).to_string();
    let mut huge = image(&[b"{}", b"layer"]).to_string().into_bytes();
    huge.resize((4 << 20) + 1, b' ');
    let table: Vec<(&str, &str, Option<Vec<u8>>, &str)> = vec![
        ("a link of nothing", CURRENT, Some(Vec::new()), "malformed"),
        ("a short link", CURRENT, Some(digest.as_bytes()[..40].to_vec()), "malformed"),
        ("a long link", CURRENT, Some([digest.as_bytes(), b"00"].concat()), "malformed"),
        ("a gigantic link", CURRENT, Some(vec![b'a'; 3 << 20]), "malformed"),
        ("two newlines", CURRENT, Some(format!("{digest}\n\n").into()), "malformed"),
        ("not UTF-8", CURRENT, Some(vec![0xff; 71]), "malformed"),
        ("a path for a link", CURRENT, Some(b"sha256:../../../../etc/passwd".to_vec()), "malformed"),
        ("another algorithm", CURRENT, Some(format!("md5:{}", "a".repeat(32)).into()), "malformed"),
        ("one newline", CURRENT, Some(format!("{digest}\n").into()), "found"),
        ("a tag that leads nowhere", CURRENT, Some(other.clone().into()), "none"),
        ("a sha512 that is not there", CURRENT, Some(sha512.into()), "none"),
        ("no revision", &revision, None, "none"),
        ("a revision that names another", &revision, Some(other.into()), "malformed"),
        ("no bytes", &data, None, "none"),
        ("other bytes", &data, Some(b"{}".to_vec()), "mismatch"),
        ("too many bytes", &data, Some(huge), "malformed"),
    ];
    for (what, path, content, expected) in table {
        let store = MemoryStore::new();
        let mut files = registry();
        files.remove(path);
        files.extend(content.map(|content| (path.to_owned(), content)));
        let root = write(&store, below("docker/registry/v2/", files)).await;
        let snapshot = foreign(&store, root, &[]);
        let got = match snapshot.manifest(&repository("app"), &by_tag("v1")).await {
            Ok(Some(manifest)) if manifest.digest == manifest_digest() => "found",
            Ok(Some(_)) => "another",
            Ok(None) => "none",
            Err(TreeError::Malformed { .. }) => "malformed",
            Err(TreeError::DigestMismatch { .. }) => "mismatch",
            Err(_) => "an error",
        };
        assert_eq!(got, expected, "{what}");
        let blob = snapshot.blob(&repository("app"), &digest_of(b"layer")).await.unwrap();
        assert_eq!(blob.map(|blob| blob.size), Some(5), "{what}");
    }
}

#[tokio::test]
async fn a_directory_or_a_symlink_where_a_file_must_be() {
    let store = MemoryStore::new();
    let layer = digest_of(b"layer");
    let data = format!("blobs/sha256/{}/{}/data", &layer.hex()[..2], layer.hex());
    // A directory: something lies below `data`.
    let mut files = registry();
    files.remove(&data);
    files.insert(format!("{data}/x"), b"x".to_vec());
    let link = files.remove(CURRENT).unwrap();
    files.insert(format!("{CURRENT}/x"), link);
    let root = write(&store, below("", files)).await;
    let snapshot = foreign(&store, root, &[]);
    let blob = snapshot.blob(&repository("app"), &layer).await;
    assert!(matches!(blob, Err(TreeError::Malformed { .. })), "{blob:?}");
    let manifest = snapshot.manifest(&repository("app"), &by_tag("v1")).await;
    assert!(matches!(manifest, Err(TreeError::Malformed { .. })), "{manifest:?}");
    // A symbolic link: UnixFS type 4 with the target as data.
    let symlink = Block::of(codec::DAG_PB, vec![0x0a, 0x07, 0x08, 0x04, 0x12, 0x03, b'/', b'e', b't']);
    store.put(&symlink, Origin::Peer).unwrap();
    let root = write(&store, below("", registry())).await;
    let change =
        |path: &str| (path.split('/').map(str::to_owned).collect(), Change::Put { cid: *symlink.cid(), tsize: 9 });
    let mut out = store.writer(Origin::Peer).unwrap();
    let root = edit(&*fetcher(&store), Some(&root), vec![change(CURRENT), change(&data)], &mut *out).await.unwrap();
    let snapshot = foreign(&store, root.cid, &[]);
    let blob = snapshot.blob(&repository("app"), &layer).await;
    assert!(matches!(blob, Err(TreeError::Malformed { .. })), "{blob:?}");
    let manifest = snapshot.manifest(&repository("app"), &by_tag("v1")).await;
    assert!(matches!(manifest, Err(TreeError::Malformed { .. })), "{manifest:?}");
}

#[tokio::test]
async fn names_that_nobody_can_ask_for_are_passed_over() {
    let store = MemoryStore::new();
    let mut files = registry();
    let link = files[CURRENT].clone();
    for name in ["App", "a..b", "_uploads", "-a", "ä", "a b"] {
        files.insert(format!("repositories/{name}/_manifests/tags/v1/current/link"), link.clone());
    }
    for tag in [".hidden", "a b", "ä", &"x".repeat(129)] {
        files.insert(format!("repositories/app/_manifests/tags/{tag}/current/link"), link.clone());
    }
    files.insert("repositories/README".into(), b"hello".to_vec());
    files.insert("repositories/plain".into(), b"hello".to_vec());
    files.insert("repositories/empty/dir/x".into(), b"hello".to_vec());
    let root = write(&store, below("", files)).await;
    reads(&foreign(&store, root, &[])).await;
}

/// `ipfs add -r` of Kubo 0.43 over a stock registry's directory: CIDv0, and leaves of dag-pb.
#[tokio::test]
async fn what_kubo_imports_by_default_is_read() {
    let store = MemoryStore::new();
    let car = cidery_unixfs::car::Reader::new(&include_bytes!("kubo-default-import.car")[..]).unwrap();
    let root = car.roots()[0];
    assert_eq!(root.to_string(), "QmQn1HNhQSb3nfPFq87XrMkDmDm9qcVAW4UUU5nmFa8skd");
    for block in car {
        store.put(&block.unwrap(), Origin::Peer).unwrap();
    }
    let (snapshot, name) = (foreign(&store, root, &[]), repository("team/app"));
    let manifest = snapshot.manifest(&name, &by_tag("v1")).await.unwrap().unwrap();
    assert_eq!(manifest.digest, digest_of(&manifest.bytes));
    let blob = snapshot.blob(&name, &digest_of(b"layer")).await.unwrap().unwrap();
    assert_eq!((blob.size, blob.cid.codec()), (5, codec::DAG_PB));
    assert_eq!(snapshot.repositories(None, 10).await.unwrap(), [name]);
}

/// Counts what is fetched.
struct Counting(MemoryStore, AtomicUsize);

#[async_trait]
impl Fetcher for Counting {
    async fn fetch(&self, cid: &Cid) -> Result<Bytes, FetchError> {
        self.1.fetch_add(1, SeqCst);
        Ok(self.0.get(cid)?.ok_or(FetchError::NotFound(*cid))?)
    }
    fn local(&self, _: &Cid) -> Result<Option<Bytes>, FetchError> {
        Ok(None)
    }
}

#[tokio::test]
async fn what_was_read_once_is_not_fetched_again() {
    let store = MemoryStore::new();
    let root = write(&store, below("docker/registry/v2/", registry())).await;
    let fetcher = Arc::new(Counting(store, AtomicUsize::new(0)));
    let cache = Arc::new(NodeCache::default());
    reads(&Snapshot::foreign(fetcher.clone(), root, &[], cache.clone())).await;
    let cold = fetcher.1.load(SeqCst);
    assert!(cold < 40, "{cold} blocks");
    reads(&Snapshot::foreign(fetcher.clone(), root, &[], cache)).await;
    assert_eq!(fetcher.1.load(SeqCst), cold);
}

#[tokio::test]
async fn a_blobs_size_is_its_own_and_not_what_its_directory_says() {
    let store = MemoryStore::new();
    let root = write(&store, below("", registry())).await;
    let layer = digest_of(b"layer");
    let data = ["blobs", "sha256", &layer.hex()[..2], layer.hex(), "data"];
    let entry = cidery_unixfs::resolve(&*fetcher(&store), &root, &data).await.unwrap().unwrap();
    let lie = (data.iter().map(|part| (*part).to_owned()).collect(), Change::Put { cid: entry.cid, tsize: 1 << 40 });
    let mut out = store.writer(Origin::Peer).unwrap();
    let root = edit(&*fetcher(&store), Some(&root), vec![lie], &mut *out).await.unwrap().cid;
    reads(&foreign(&store, root, &[])).await;
}

#[tokio::test]
async fn referrers_of_a_tree_without_the_slot_come_from_the_tag() {
    let store = MemoryStore::new();
    let subject = manifest_digest();
    let mut files = registry();
    let list = index(&[&digest_of(b"signature")]).to_string().into_bytes();
    let digest = digest_of(&list);
    let link = digest.as_str().as_bytes().to_vec();
    let fallback = format!("sha256-{}", subject.hex());
    files.insert(format!("repositories/app/_manifests/tags/{fallback}/current/link"), link.clone());
    files.insert(format!("{REVISIONS}/{}/link", digest.hex()), link);
    files.insert(format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex()), list);
    let root = write(&store, below("", files)).await;
    let found = foreign(&store, root, &[]).referrers(&repository("app"), &subject, None).await.unwrap();
    assert_eq!(found.iter().map(|one| one.digest.clone()).collect::<Vec<_>>(), [digest_of(b"signature")]);
    assert_eq!(found[0].media_type, OCI_MANIFEST, "as the list says: the manifest itself is not there");
    // A tag of that name that is no index, and a slot that lies, list nothing.
    let mut files = registry();
    let link = files[CURRENT].clone();
    files.insert(format!("repositories/app/_manifests/tags/{fallback}/current/link"), link.clone());
    let slot = format!("repositories/app/_referrers/sha256/{}", subject.hex());
    for name in
        [format!("sha256/{}", subject.hex()), format!("sha256/{}", "a".repeat(64)), "md5/x".into(), "sha256/x".into()]
    {
        files.insert(format!("{slot}/{name}/link"), link.clone());
    }
    let root = write(&store, below("", files)).await;
    let found = foreign(&store, root, &[]).referrers(&repository("app"), &subject, None).await.unwrap();
    assert_eq!(found, []);
}
