//! What a page of the documentation shows, to be used as it is written.

/// The blocks of a language in a section of a page. A section goes from its heading to the next one of its own level,
/// or of a higher one.
pub fn blocks(page: &str, section: &str, language: &str) -> Vec<String> {
    let level = |line: &str| line.find(|c| c != '#').filter(|&marks| marks > 0 && line[marks..].starts_with(' '));
    let (mut inside, mut fence) = (0, None);
    let mut blocks = Vec::new();
    for line in page.lines() {
        match (&mut fence, line.strip_prefix("```")) {
            (Some((wanted, block)), Some("")) => {
                if *wanted {
                    blocks.push(std::mem::take(block));
                }
                fence = None;
            }
            (Some((_, block)), _) => *block = format!("{block}{line}\n"),
            (None, Some(word)) => fence = Some((inside > 0 && word == language, String::new())),
            (None, None) => {
                if let Some(level) = level(line) {
                    let is_it = line[level..].trim() == section;
                    inside = if is_it {
                        level
                    } else if level <= inside {
                        0
                    } else {
                        inside
                    };
                }
            }
        }
    }
    assert!(!blocks.is_empty(), "no {language} in a section {section:?}");
    blocks
}

#[test]
fn sections_end_where_the_next_begins() {
    let page = "# a\n```sh\none\n```\n## b\n```sh\n# c\ntwo\n```\n### d\n```toml\nx\n```\n```sh\nthree\n```\n## e\n```sh\nfour\n```\n";
    assert_eq!(blocks(page, "b", "sh"), ["# c\ntwo\n", "three\n"]);
    assert_eq!(blocks(page, "d", "sh"), ["three\n"]);
    assert_eq!(blocks(page, "d", "toml"), ["x\n"]);
    assert_eq!(blocks(page, "a", "sh").len(), 4);
}
