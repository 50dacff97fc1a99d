//! `cidery images`.

use super::{bar::bytes, print_json};
use crate::control::{client::Client, types::Image};
use anyhow::Result;

pub async fn run(node: &mut Client, json: bool) -> Result<()> {
    let images: Vec<Image> = node.get("/images").await?;
    warn(&images);
    if json {
        return print_json(&images);
    }
    if images.is_empty() {
        println!("No images yet. Push one: docker push localhost:5000/hello:1");
        return Ok(());
    }
    let width = images.iter().map(|image| image.name.len()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:>10}  {:20}  {:10}  DIGEST", "NAME", "SIZE", "PUSHED", "NAMESPACE");
    for image in images {
        let Image { name, digest, bytes: size, pushed, namespace, missing, damaged } = image;
        let digest = digest.unwrap_or_else(|| "-".into());
        let (size, note) = match (damaged, missing.len()) {
            (Some(_), _) => ("-".into(), "  (damaged)".to_owned()),
            (None, 0) => (bytes(size), String::new()),
            (None, missing) => (bytes(size), format!("  (incomplete: {missing} missing)")),
        };
        println!("{name:width$}  {size:>10}  {pushed:20}  {namespace:10}  {digest}{note}");
    }
    Ok(())
}

/// Says which can't be read, and what to do about it.
fn warn(images: &[Image]) {
    let mut any = false;
    for Image { name, damaged, .. } in images {
        if let Some(why) = damaged {
            any = true;
            eprintln!("warning: {name} can't be read: {why}");
        }
    }
    if any {
        eprintln!("warning: `cidery scrub` finds all that is damaged, and fetches it again from peers that have it");
    }
}
