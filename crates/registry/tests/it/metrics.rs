//! A strict reader of OpenMetrics text: what it does not know is a failure.

use std::collections::{BTreeMap, BTreeSet};

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Reads a whole exposition, and checks what can be checked of its form.
#[track_caller]
pub fn parse(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut families, mut samples, mut seen) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    let mut current: Option<String> = None;
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
            is_name(name);
            match word {
                "HELP" => {
                    assert!(!rest.is_empty() && !families.contains_key(name), "{line}");
                    current = Some(name.to_owned());
                }
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(families.insert(name.to_owned(), rest.to_owned()).is_none(), "twice: {line}");
                    assert_eq!(current.as_deref(), Some(name), "TYPE follows HELP");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = sample(line);
        let family = current.as_deref().expect("a sample has a family");
        let suffix = sample.name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        match families[family].as_str() {
            "counter" => assert!(suffix == "_total" && sample.value >= 0.0, "{line}"),
            "gauge" => assert_eq!(suffix, "", "{line}"),
            _ => {
                assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                assert_eq!(suffix == "_bucket", sample.labels.contains_key("le"), "{line}");
            }
        }
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
        samples.push(sample);
    }
    check_histograms(&samples);
    samples
}

/// The buckets of each name and its other labels: bound and count.
type Buckets = BTreeMap<(String, BTreeMap<String, String>), Vec<(f64, f64)>>;

/// Buckets grow with their bounds, and the last is all.
fn check_histograms(samples: &[Sample]) {
    let mut series = Buckets::new();
    for sample in samples.iter().filter(|sample| sample.labels.contains_key("le")) {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le").unwrap();
        let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
        let name = sample.name.strip_suffix("_bucket").unwrap().to_owned();
        series.entry((name, labels)).or_default().push((bound, sample.value));
    }
    for ((name, labels), buckets) in series {
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name} {labels:?}");
        let count = samples.iter().find(|sample| sample.name == format!("{name}_count") && sample.labels == labels);
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite() && Some(last.1) == count.map(|count| count.value), "{name} {labels:?}");
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    is_name(name);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            is_name(key);
            let (value, after) = quoted(after, line);
            assert!(labels.insert(key.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
            assert!(after.starts_with(['}', ',']), "{line}");
        }
        rest = &rest[1..];
    }
    let number = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    let value = number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// A value up to its closing quote, and what follows that.
fn quoted<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                _ => panic!("{line}"),
            }),
            c => value.push(c),
        }
    }
    panic!("{line}");
}

fn is_name(name: &str) {
    let first = name.chars().next().unwrap();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    assert!(!first.is_ascii_digit() && name.chars().all(fits), "{name:?}");
}
