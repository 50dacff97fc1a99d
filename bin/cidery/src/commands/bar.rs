//! Progress for people: a bar on standard error when that is a terminal, nothing otherwise.

use crate::control::types::{Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const BYTES: &str = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const BLOCKS: &str = "{msg} [{wide_bar}] {human_pos}/{human_len} blocks {eta}";

/// A bar over bytes, or over blocks in stages that count them. Its total may grow.
pub struct Bar {
    bar: ProgressBar,
    stage: Mutex<Option<Stage>>,
}

impl Bar {
    /// A bar labelled with what is being done.
    pub fn new(what: &str) -> Self {
        let bar =
            Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()), stage: Mutex::default() };
        bar.label(what, BYTES);
        bar
    }

    fn label(&self, what: &str, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(what.to_owned());
    }

    /// Shows how far it is. Each stage has a bar of its own.
    pub fn show(&self, progress: &Progress) {
        let mut shown = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != progress.stage
            && let Some(stage) = &progress.stage
        {
            self.bar.reset();
            self.label(&stage.name, if stage.blocks { BLOCKS } else { BYTES });
            *shown = Some(stage.clone());
        }
        self.bar.set_length(progress.total.max(progress.done));
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for a store that takes long to open: shown once it has something to say.
pub fn rebuild() -> Arc<dyn Fn(cidery_blockstore::Progress) + Send + Sync> {
    let bar = OnceLock::new();
    Arc::new(move |progress| {
        let bar = bar.get_or_init(|| Bar::new("rebuilding the index"));
        bar.show(&Progress { done: progress.done, total: progress.total, stage: None });
    })
}

/// How many of something, whose plural has an s.
pub fn count(count: impl TryInto<u64>, what: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n: u64| count(n, "pack")), ["0 packs", "1 pack", "2 packs"]);
    }
}
