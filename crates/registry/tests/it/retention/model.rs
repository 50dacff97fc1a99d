//! Random pushes, deletes and runs beside a simple model of what must stay.

use super::{config, covered, gone, manifest, push, status, tags};
use crate::support::Node;
use axum::http::StatusCode;
use cidery_access::Selection;
use cidery_registry::Retention;
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    time::{Duration, SystemTime},
};

const REPOSITORIES: [&str; 3] = ["ci/a", "ci/b", "other"];
const TAGS: [&str; 6] = ["a", "b", "c", "latest", "x1", "x2"];

#[derive(Debug, Clone)]
enum Step {
    /// Of a repository, a tag, and what it stands for then.
    Push(usize, usize, u8),
    Delete(usize, usize),
    /// So many days from now.
    Run(u64),
    /// The registry is opened again.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..REPOSITORIES.len(), 0..TAGS.len(), 0_u8..4).prop_map(|(repository, tag, n)| Step::Push(repository, tag, n)),
        2 => (0..REPOSITORIES.len(), 0..TAGS.len()).prop_map(|(repository, tag)| Step::Delete(repository, tag)),
        2 => prop_oneof![Just(0), Just(20)].prop_map(Step::Run),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What is there: by repository and tag, what it stands for and when it was pushed, by a clock of pushes.
type Model = BTreeMap<(usize, usize), (u8, u64)>;

/// What goes: in `ci/**`, of all but `latest` the last two stay, and all that is younger than ten days.
fn expected(model: &Model, days: u64) -> Vec<(usize, usize)> {
    let is_covered = |(repository, tag): &(usize, usize)| *repository < 2 && TAGS[*tag] != "latest";
    let goes = |(place, (_, at)): (&(usize, usize), &(u8, u64))| {
        let newer =
            model.iter().filter(|(other, (_, when))| other.0 == place.0 && is_covered(other) && when > at).count();
        (is_covered(place) && days >= 10 && newer >= 2).then_some(*place)
    };
    model.iter().filter_map(goes).collect()
}

async fn play(steps: Vec<Step>) {
    let rule = Retention {
        covered: covered("ci/**", "*"),
        keep_last: NonZeroUsize::new(2),
        keep_younger: Some(Duration::from_secs(10 * 24 * 3600)),
        keep: Some(Selection::read(["latest"]).unwrap()),
    };
    let mut node = Node::with(config(vec![rule.clone()])).await;
    let (mut model, mut clock) = (Model::new(), 0);
    for step in steps {
        clock += 1;
        match step {
            Step::Push(repository, tag, n) => {
                let name = format!("{}:{}", REPOSITORIES[repository], TAGS[tag]);
                push(&node, &name, &manifest(&n.to_string())).await;
                model.insert((repository, tag), (n, clock));
            }
            Step::Delete(repository, tag) => {
                let path = format!("/v2/{}/manifests/{}", REPOSITORIES[repository], TAGS[tag]);
                let was = model.remove(&(repository, tag)).is_some();
                let answer = node.delete(path).await.status;
                assert_eq!(answer, if was { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND });
            }
            Step::Run(days) => {
                let now = SystemTime::now() + Duration::from_secs(days * 24 * 3600);
                let dry = node.registry.retain_at(true, now).await.unwrap();
                let done = node.registry.retain_at(false, now).await.unwrap();
                assert_eq!(dry, done);
                let goes = expected(&model, days);
                let names: Vec<String> = goes
                    .iter()
                    .map(|(repository, tag)| format!("{}:{}", REPOSITORIES[*repository], TAGS[*tag]))
                    .collect();
                assert_eq!(gone(&done), names);
                let removed: Vec<_> = goes.iter().map(|place| (place.0, model.remove(place).unwrap().0)).collect();
                for (repository, n) in removed {
                    let held = model.iter().any(|(other, (content, _))| other.0 == repository && *content == n);
                    let digest = crate::support::sha256(manifest(&n.to_string()).to_string().as_bytes());
                    let here = done.gone.iter().find(|gone| gone.repository == REPOSITORIES[repository]).unwrap();
                    let found = status(&node, REPOSITORIES[repository], &digest).await;
                    let expected = if held { (200, false) } else { (404, true) };
                    assert_eq!((found, here.manifests.contains(&digest)), expected);
                }
            }
            Step::Reopen => {
                let network = cidery_core::memory::World::new().join(node.store.clone());
                node = Node::over(config(vec![rule.clone()]), node.store.clone(), std::sync::Arc::new(network)).await;
            }
        }
    }
    for (at, repository) in REPOSITORIES.iter().enumerate() {
        let left: Vec<_> = model.keys().filter(|place| place.0 == at).map(|place| TAGS[place.1].to_owned()).collect();
        assert_eq!(tags(&node, repository).await, left);
        for (place, (n, _)) in model.iter().filter(|(place, _)| place.0 == at) {
            let digest = crate::support::sha256(manifest(&n.to_string()).to_string().as_bytes());
            let found = node.head(format!("/v2/{repository}/manifests/{}", TAGS[place.1])).await;
            assert_eq!(found.header("docker-content-digest"), digest.as_str());
        }
    }
}

#[test]
fn what_goes_is_what_a_simple_model_says() {
    let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    TestRunner::new(config)
        .run(&steps(), |steps| {
            runtime.block_on(play(steps));
            Ok(())
        })
        .unwrap();
}
