//! `cidery images`.

use super::{bar::bytes, print_json};
use crate::control::{client::Client, types::Image};
use anyhow::Result;

pub async fn run(node: &mut Client, json: bool) -> Result<()> {
    let images: Vec<Image> = node.get("/images").await?;
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
        let Image { name, digest, bytes: size, pushed, namespace, missing } = image;
        let incomplete = match missing.len() {
            0 => String::new(),
            missing => format!("  (incomplete: {missing} missing)"),
        };
        println!("{name:width$}  {:>10}  {pushed:20}  {namespace:10}  {digest}{incomplete}", bytes(size));
    }
    Ok(())
}
