//! Progress for people: a bar on standard error when that is a terminal, nothing otherwise.

use crate::control::types::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Arc, OnceLock};

/// A bar over bytes whose total may grow.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar labelled with what is being done.
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Shows how far it is.
    pub fn show(&self, progress: &Progress) {
        self.0.set_length(progress.total.max(progress.done));
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar for a store that takes long to open: shown once it has something to say.
pub fn rebuild() -> Arc<dyn Fn(cidery_blockstore::Progress) + Send + Sync> {
    let bar = OnceLock::new();
    Arc::new(move |progress| {
        let bar = bar.get_or_init(|| Bar::new("rebuilding the index"));
        bar.show(&Progress { done: progress.done, total: progress.total });
    })
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
