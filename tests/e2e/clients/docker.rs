//! The docker engine. It lists nothing and deletes nothing; building, pulling by CID and by domain, and running
//! are in `journey`.

use super::{digest, image, layout_that_runs};
use cidery_tests::{Client, Engine, Node};

#[test]
fn pulls_what_others_pushed_and_pushes_it_on() {
    let (Some(engine), Some(skopeo)) = (Engine::start(), Client::packaged("skopeo")) else { return };
    let Some((layout, pushed)) = layout_that_runs("for-docker") else { return };
    let node = Node::start(&[]);
    let first = format!("{}/team/app:v1", node.host());
    super::skopeo::push(&skopeo, &layout, "v1", &first);
    assert!(engine.run(&["pull", &first]).contains(&pushed));
    assert_eq!(engine.greeting(&first), "for-docker");

    // The layers are mounted from where they were, or pushed; either way it is the same image.
    let second = format!("{}/team/again:v2", node.host());
    engine.run(&["tag", &first, &second]);
    engine.run(&["push", "-q", &second]);
    let stored = digest(&node, "team/again", "v2").unwrap();
    assert_eq!(image(&node, "team/again", "v2").len(), 5);
    engine.forget();
    let by_digest = format!("{}@{stored}", second.trim_end_matches(":v2"));
    engine.run(&["pull", "-q", &by_digest]);
    assert_eq!(engine.greeting(&by_digest), "for-docker");

    // Every tag of a repository at once.
    engine.run(&["tag", &by_digest, &format!("{}/team/again:v3", node.host())]);
    engine.run(&["push", "-q", "--all-tags", second.trim_end_matches(":v2")]);
    engine.forget();
    let all = engine.run(&["pull", "--all-tags", second.trim_end_matches(":v2")]);
    assert!(all.contains("v2: Pulling from") && all.contains("v3: Pulling from"), "{all}");
    let missing = engine.run_err(&["pull", "-q", &format!("{}/team/again:v4", node.host())]);
    assert!(missing.contains("manifest unknown"), "{missing}");
}

#[test]
fn makes_and_reads_a_list_of_platforms() {
    let Some(engine) = Engine::start() else { return };
    let node = Node::start(&[]);
    let name = |tag: &str| format!("{}/team/list:{tag}", node.host());
    for tag in ["one", "two"] {
        engine.build(&name(tag), tag, &[900]);
        engine.run(&["push", "-q", &name(tag)]);
    }
    engine.run(&["manifest", "create", "--insecure", &name("all"), &name("one"), &name("two")]);
    engine.run(&["manifest", "annotate", "--arch", "arm64", &name("all"), &name("two")]);
    let pushed = engine.run(&["manifest", "push", "--insecure", &name("all")]);
    assert_eq!(pushed.trim().lines().last().map(str::to_owned), digest(&node, "team/list", "all"));
    let shown = engine.run(&["manifest", "inspect", "--insecure", &name("all")]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let children = shown["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    engine.forget();
    engine.run(&["pull", "-q", &name("all")]);
    assert_eq!(engine.greeting(&name("all")), "one");
    engine.run(&["pull", "-q", "--platform", "linux/arm64", &name("all")]);
    // The image is for this machine after all, whatever its list says.
    assert_eq!(engine.greeting(&name("all")), "two");
}
