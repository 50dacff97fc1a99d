//! What is wrong with a configuration file, in one line and in the words of who wrote it: where, with which key, and
//! what would be right. The parser says it over several lines, in the words of who wrote the program.

use std::fmt::Write as _;
use toml::de::Error;

/// How near a key must come to be what was probably meant (Jaro and Winkler's similarity).
const NEAR: f64 = 0.8;

/// The line, the key, and what is wrong with it.
pub(super) fn one_line(text: &str, error: &Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message().replace('\n', " ");
    let (key, table) = place(text, line);
    let mut said = format!("line {line}: ");
    match (Wrong::read(&message), key) {
        (Wrong::UnknownKey { key, known }, _) => {
            let _ = write!(said, "there is no key {key}");
            if let Some(table) = table {
                let _ = write!(said, " in {table}");
            }
            let near = known.iter().map(|&known| (strsim::jaro_winkler(known, &key.replace('_', "-")), known));
            match near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(near, _)| *near >= NEAR) {
                Some((_, meant)) => {
                    let _ = write!(said, ", but {meant}");
                }
                None => {
                    let _ = write!(said, ": there are {}", known.join(", "));
                }
            }
        }
        (Wrong::Missing(key), _) => {
            let _ = write!(said, "{} has no {key}", table.unwrap_or("the file"));
        }
        (Wrong::SingleBrackets, _) => {
            let header = table.unwrap_or("[…]");
            let _ = write!(said, "there may be several {header}: write each with double brackets, [{header}]");
        }
        (Wrong::Type { expected, found }, Some(key)) => {
            let _ = write!(said, "{key} takes {expected}, not {found}");
        }
        (Wrong::Type { expected, found }, None) => {
            let _ = write!(said, "it takes {expected}, not {found}");
        }
        (Wrong::Other, Some(key)) => {
            let _ = write!(said, "{key}: {message}{}", hint(&message));
        }
        (Wrong::Other, None) => said += &message,
    }
    said
}

/// What is behind a message of the parser.
enum Wrong<'a> {
    UnknownKey { key: &'a str, known: Vec<&'a str> },
    Missing(&'a str),
    SingleBrackets,
    Type { expected: String, found: String },
    Other,
}

impl<'a> Wrong<'a> {
    fn read(message: &'a str) -> Self {
        // What it quotes, one after the other.
        let quoted: Vec<_> = message.split('`').skip(1).step_by(2).collect();
        if message.starts_with("unknown field `") {
            return Self::UnknownKey { key: quoted[0], known: quoted[1..].to_vec() };
        }
        if message.starts_with("missing field `") {
            return Self::Missing(quoted[0]);
        }
        if message.starts_with("unknown variant `") {
            let words: Vec<_> = quoted[1..].iter().map(|word| format!("{word:?}")).collect();
            return Self::Type { expected: words.join(" or "), found: format!("{:?}", quoted[0]) };
        }
        if message == "wanted string or table" {
            return Self::Type { expected: "a word in quotes".into(), found: "that".into() };
        }
        let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
        match wrong.and_then(|wrong| wrong.split_once(", expected ")) {
            Some(("map", "a sequence")) => Self::SingleBrackets,
            Some((found, expected)) => Self::Type { expected: plain(expected), found: plain_found(found) },
            None => Self::Other,
        }
    }
}

/// The name of a type.
fn plain(expected: &str) -> String {
    match expected {
        "a sequence" => "a list, like [\"…\"]",
        "a boolean" => "true or false, without quotes",
        "a string" | "path string" => "a text in quotes",
        "a map" => "a table",
        "a nonzero usize" => "a whole number from 1, without quotes",
        "usize" => "a whole number, without quotes",
        other => other,
    }
    .to_owned()
}

/// What was there. A text is not repeated: it may be a password that got to the wrong place.
fn plain_found(found: &str) -> String {
    let value = || found.split('`').nth(1).unwrap_or("that").to_owned();
    match found.split([' ', '`']).next().unwrap_or_default() {
        "string" => "a text in quotes".into(),
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        "integer" | "float" | "floating" | "boolean" => value(),
        _ => "that".into(),
    }
}

/// What probably lies behind an error of the syntax.
fn hint(message: &str) -> &'static str {
    let value = ["invalid float", "invalid integer", "invalid datetime", "extra leading", "string values"];
    if value.iter().any(|start| message.starts_with(start)) { " (a text stands in quotes)" } else { "" }
}

/// The key whose value stands on a line, if one begins there or above it, and the header of the table that it is in.
fn place(text: &str, line: usize) -> (Option<&str>, Option<&str>) {
    let mut key = None;
    for line in text.lines().take(line).collect::<Vec<_>>().into_iter().rev() {
        let line = line.trim();
        if line.starts_with('[') && line.split(['#', '=']).next().is_some_and(|text| text.trim_end().ends_with(']')) {
            let header = line.split('#').next().unwrap_or(line).trim();
            // An item of a list of lists would look the same; there are none.
            return (key, Some(header));
        }
        key = key.or_else(|| Some(line.split_once('=')?.0.trim()).filter(|key| is_key(key)));
    }
    (key, None)
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.\"'@ ".contains(c))
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn said(text: &str) -> String {
        let error = parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
        error.to_string()
    }

    #[test]
    fn each_mistake_is_named_with_its_line_its_key_and_what_would_be_right() {
        for (text, line) in [
            ("mdns = \"on\"\nhtttp = \"127.0.0.1:1\"", "line 2: there is no key htttp, but http"),
            ("cache_limit = \"1GiB\"", "line 1: there is no key cache_limit, but cache-limit"),
            ("[[access]]\nuser = [\"a\"]", "line 2: there is no key user in [[access]], but users"),
            ("[[access]]\nusers = [\"a\"]\nrights = [\"pull\"]", "line 1: [[access]] has no repositories"),
            (
                "[access]\nusers = [\"a\"]",
                "line 1: there may be several [access]: write each with double brackets, [[access]]",
            ),
            ("http = 5000", "line 1: http takes an IP address and a port, like \"127.0.0.1:5000\", not 5000"),
            (
                "\nhttp = \"localhost:5000\"",
                "line 2: http: \"localhost:5000\" is not an IP address and a port, like 127.0.0.1:5000",
            ),
            ("mdns = \"no\"", "line 1: mdns takes \"on\" or \"off\", not \"no\""),
            ("mdns = false", "line 1: mdns takes a word in quotes, not that"),
            ("peer = \"/ip4/1.1.1.1/tcp/1\"", "line 1: peer takes a list, like [\"…\"], not a text in quotes"),
            ("hosts = [\n  \"a\",\n  5,\n]", "line 3: hosts takes a text in quotes, not 5"),
            ("history = 0", "line 1: history takes a whole number from 1, without quotes, not 0"),
            ("history = \"32\"", "line 1: history takes a whole number from 1, without quotes, not a text in quotes"),
            ("deletes = \"no\"", "line 1: deletes takes true or false, without quotes, not a text in quotes"),
            ("upload-expiry = 24", "line 1: upload-expiry takes a duration, like \"24h\", not 24"),
            ("upload-expiry = \"soon\"", "line 1: upload-expiry: \"soon\" is not a duration: write 90s, 30m, or 24h"),
            ("htpasswd = [\"x\"]", "line 1: htpasswd takes a text in quotes, not a list"),
            ("[groups]\nci = \"bot\"", "line 2: ci takes a list, like [\"…\"], not a text in quotes"),
            ("history = 1\nhistory = 2", "line 2: history: duplicate key"),
        ] {
            assert_eq!(said(text), line, "{text}");
        }
    }

    #[test]
    fn what_is_like_no_key_is_answered_with_all() {
        let all = said("[[webhook]]\nurl = \"https://a/\"\nzzz = 1");
        assert!(all.starts_with("line 3: there is no key zzz in [[webhook]]: there are url, "), "{all}");
        assert!(all.contains("retry-for"), "{all}");
    }

    #[test]
    fn errors_of_the_syntax_name_their_line() {
        for (text, start) in [
            ("http = 127.0.0.1:5000", "line 1: http: "),
            ("mdns = \"on\"\nread-only", "line 2: "),
            ("http = \"127.0.0.1:5000", "line 1: http: "),
            ("cors = [\"https://a\"", "line 1: cors: "),
            ("http = localhost", "line 1: http: "),
            ("= 5", "line 1: "),
            ("[[access]\nusers = []", "line 1: "),
        ] {
            let said = said(text);
            assert!(said.starts_with(start) && !said.contains('\n'), "{text}: {said}");
        }
        assert!(said("http = 127.0.0.1:5000").ends_with("(a text stands in quotes)"));
    }

    #[test]
    fn secrets_are_not_repeated() {
        for text in [
            "[[webhook]]\nurl = \"https://a/\"\nheaders = \"Authorization: Bearer s3cret\"",
            "[[webhook]]\nurl = \"https://a/\"\nheaders = [\"s3cret\"]",
            "[[webhook]]\nurl = [\"https://user:s3cret@a/\"]",
        ] {
            let said = said(text);
            assert!(said.starts_with("line 3: headers takes ") || said.starts_with("line 2: url takes "), "{said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}
