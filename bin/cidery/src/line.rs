//! Errors as people read them: one line, from what failed down to the cause.

/// What failed, and why. Many errors say what lies behind them in their own text, which once is enough.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

/// Ends the program without a word when whoever reads its output has read enough (`cidery images | head`).
/// Printing panics then.
pub fn end_with_the_pipe() {
    /// What a shell makes of SIGPIPE.
    const STATUS: i32 = 128 + 13;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout") && text.contains("Broken pipe")) {
            std::process::exit(STATUS);
        }
        report(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use cidery_core::StoreError;
    use std::io;

    #[test]
    fn nothing_is_said_twice() {
        let store = StoreError::io("locking d", io::Error::other("File exists"));
        let error = Err::<(), _>(store).context("the store could not be opened").map_err(|error| one_line(&error));
        assert_eq!(error, Err("the store could not be opened: locking d: File exists".into()));
        assert_eq!(one_line(&anyhow::anyhow!("a\nb").context("c")), "c: a b");
    }
}
