//! Errors, as a person reads them.

/// What failed, and why, down to the cause; nothing is said twice where an error's own text already
/// ends in its cause's.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for text in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidery_blockstore::OpenError;
    use cidery_core::StoreError;
    use std::io::{Error, ErrorKind};

    #[test]
    fn each_cause_is_said_once() {
        let full = || Error::from(ErrorKind::ReadOnlyFilesystem);
        let store = OpenError::Store(StoreError::io("locking d", full()));
        let error = anyhow::Error::from(store);
        assert_eq!(one_line(&error), format!("the store could not be opened: locking d: {}", full()));
        let error = anyhow::Error::from(full()).context("making d");
        assert_eq!(one_line(&error), format!("making d: {}", full()));
    }
}
