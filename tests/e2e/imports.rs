//! The rules of who may import whom (`docs/ARCHITECTURE.md`), held.

use std::{collections::BTreeSet, fs, path::Path};

fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.starts_with("dependencies");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn imports_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let of = |name: &str| dependencies(&root.join("crates").join(name).join("Cargo.toml"));
    let own = |name: &str| of(name).into_iter().filter(|d| d.starts_with("cidery-")).collect::<Vec<_>>();
    assert_eq!(own("core"), [] as [String; 0]);
    assert_eq!(own("access"), [] as [String; 0]);
    for leaf in ["unixfs", "blockstore", "bitswap"] {
        assert_eq!(own(leaf), ["cidery-core"], "{leaf}");
    }
    assert_eq!(own("registry"), ["cidery-access", "cidery-core", "cidery-unixfs"]);
    assert_eq!(own("node"), ["cidery-bitswap", "cidery-core"]);
    for free in ["core", "unixfs"] {
        for heavy in ["tokio", "libp2p", "axum", "sled"] {
            assert!(!of(free).contains(heavy), "{free} must not know {heavy}");
        }
    }
    for (name, foreign) in [
        ("registry", "libp2p"),
        ("access", "axum"),
        ("access", "hyper"),
        ("blockstore", "tokio"),
        ("blockstore", "libp2p"),
        ("node", "axum"),
    ] {
        assert!(!of(name).contains(foreign), "{name} must not know {foreign}");
    }
}

/// Only the program reads the environment.
#[test]
fn the_environment_is_read_in_one_place() {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for krate in fs::read_dir(root.join("crates")).unwrap().map(Result::unwrap) {
        let mut files = Vec::new();
        sources(&krate.path().join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            let is_test = file.components().any(|part| part.as_os_str().to_string_lossy().contains("test"));
            assert!(is_test || !product.contains("env::var"), "{} reads the environment", file.display());
        }
    }
}
