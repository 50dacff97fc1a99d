//! One node of a file's tree, as any known writer makes it.

use crate::{
    UnixfsError, dagpb,
    data::{self, Type},
    error::About,
    wire::Defect,
};
use cidery_core::{Bytes, Cid, codec};

/// A decoded node: its own bytes come first, then its children's.
#[derive(Debug)]
pub(crate) struct FileNode {
    /// All bytes below this node, its own included.
    pub size: u64,
    /// The bytes it carries itself (all of them in a leaf).
    pub own: Bytes,
    /// Each child and the bytes below it.
    pub children: Vec<(Cid, u64)>,
}

/// Decodes a node of a file: a raw block, or dag-pb of type `File` or `Raw`.
pub(crate) fn decode(cid: &Cid, block: &Bytes) -> Result<FileNode, UnixfsError> {
    match cid.codec() {
        codec::RAW => Ok(FileNode { size: block.len() as u64, own: block.clone(), children: Vec::new() }),
        codec::DAG_PB => {
            let (node, message) = data::decode_block(cid, block)?;
            match message.kind {
                Type::File | Type::Raw => assemble(block, &node, &message).about(cid),
                _ => Err(UnixfsError::NotAFile { cid: *cid }),
            }
        }
        _ => Err(UnixfsError::Unsupported { cid: *cid, what: "its codec is neither raw nor dag-pb" }),
    }
}

fn assemble(block: &Bytes, node: &dagpb::Node<'_>, message: &data::Data<'_>) -> Result<FileNode, Defect> {
    if node.links.len() != message.block_sizes.len() {
        return Err(Defect("a file node with another number of links than of sizes"));
    }
    let mut size = message.data.len() as u64;
    let mut children = Vec::with_capacity(node.links.len());
    for (link, below) in node.links.iter().zip(&message.block_sizes) {
        if !link.name.is_empty() {
            return Err(Defect("a chunk of a file has a name"));
        }
        size = size.checked_add(*below).ok_or(Defect("the sizes of a file node overflow"))?;
        children.push((link.cid, *below));
    }
    if message.file_size.is_some_and(|said| said != size) {
        return Err(Defect("a file node's size is not the sum of its parts"));
    }
    Ok(FileNode { size, own: block.slice_ref(message.data), children })
}
