//! `cidery export`.

use super::{bar::Bar, files::Destination};
use crate::{
    cli::{Export, ExportFormat},
    control::{
        client::Client,
        types::{ExportRequest, Exported},
    },
};
use anyhow::Result;

pub async fn run(node: &mut Client, options: Export) -> Result<()> {
    super::without_host(&options.source)?;
    // The node's rule, needed here before its answer: a bare CID is a tree, everything else an image.
    let format = options.format.unwrap_or(if cidery_core::Cid::try_from(options.source.as_str()).is_ok() {
        ExportFormat::Registry
    } else {
        ExportFormat::Oci
    });
    let is_tar = options.dest.extension().is_some_and(|extension| extension == "tar");
    let unpack = match format {
        ExportFormat::Registry | ExportFormat::Oci => !is_tar,
        ExportFormat::Docker | ExportFormat::Car => false,
    };
    let name = match format {
        ExportFormat::Registry => "registry",
        ExportFormat::Oci => "oci",
        ExportFormat::Docker => "docker",
        ExportFormat::Car => "car",
    };
    let request = ExportRequest { source: options.source.clone(), format: Some(name.into()) };
    let frames = node.frames("/export", &request).await?;
    let mut destination = Destination::new(&options.dest, unpack)?;
    let bar = Bar::new(&options.source);
    let exported: Exported = frames.finish(|progress| bar.show(&progress), |data| destination.write(&data)).await?;
    destination.finish()?;
    drop(bar);
    let platform = exported.platform.map(|platform| format!(", {platform} only")).unwrap_or_default();
    eprintln!("{}  ({name}{platform}, {})", options.dest.display(), super::bar::bytes(exported.bytes));
    Ok(())
}
