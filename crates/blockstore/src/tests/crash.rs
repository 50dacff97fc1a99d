//! The power goes at every moment of a push, and at random moments of random histories.

use super::{
    player::{DOOMED, Player, Step},
    rig::Rig,
};
use crate::disk::faulty::Fate;
use cidery_core::Origin;
use proptest::prelude::*;

/// A push as the registry makes it, and what surrounds it.
fn push() -> Vec<Step> {
    use Step::*;
    vec![
        SaveUpload(1, 10),
        File(1, 4),
        SaveUpload(1, 200),
        Put(1, Origin::Pushed),
        Link(1),
        DropUpload(1),
        Put(2, Origin::Peer),
        Link(2),
        Put(3, Origin::Pushed),
        Commit(2),
        Publish,
        Checkpoint,
        Shorten,
        File(2, 3),
        Link(3),
        Commit(1),
        Put(4, Origin::Pushed),
        Sync,
        Unpublish,
        Commit(0),
        Reopen,
        PublishOnce(1),
        File(3, 2),
        Commit(0),
        SaveUpload(2, 5),
        Publish,
        Unlink(1),
        Shorten,
        Link(5),
    ]
}

/// Deletes, collections, and what comes to life again between them.
fn tidy() -> Vec<Step> {
    use Step::*;
    vec![
        File(1, 4),
        Put(1, Origin::Pushed),
        Put(2, Origin::Peer),
        Commit(0),
        Publish,
        CommitDoomed(0),
        CommitDoomed(1),
        Replace,
        Forget(0),
        Forget(1),
        Shorten,
        Collect,
        Shorten,
        Put(3, Origin::Pushed),
        File(2, 3),
        Link(3),
        SaveUpload(1, 4),
        Put(4, Origin::Pushed),
        Replace,
        Replace,
        Replace,
        Replace,
        Unpublish,
        Collect,
        Put(1, Origin::Pushed),
        File(1, 4),
        Commit(1),
        Collect,
        Reopen,
        Replace,
        DropUpload(1),
        Collect,
        Shorten,
        Reopen,
    ]
}

/// Pins, and what is deleted and purged beside them.
fn pins() -> Vec<Step> {
    use Step::*;
    vec![
        Put(1, Origin::Peer),
        Put(2, Origin::Pushed),
        File(1, 2),
        CommitDoomed(0),
        Pin(1, 0),
        CommitDoomed(1),
        Publish,
        Pin(2, 0),
        Shorten,
        Replace,
        Replace,
        Replace,
        Replace,
        Forget(0),
        Collect,
        Pin(1, 9),
        Reopen,
        Purge(1),
        Shorten,
        Collect,
        Unpin(2),
        Reopen,
        Collect,
        Pin(0, 0),
        Unpin(1),
        Unpublish,
        Collect,
        Shorten,
        Reopen,
    ]
}

fn run_until_trouble(rig: Rig, steps: &[Step]) -> Player {
    let mut player = Player::new(rig);
    for step in steps {
        if player.trouble {
            break;
        }
        player.play(step);
    }
    player
}

#[test]
fn an_undisturbed_push_is_all_there() {
    let rig = Rig::new();
    let player = run_until_trouble(rig, &push());
    assert!(!player.trouble);
    player.check();
    for steps in [tidy(), pins()] {
        let mut player = Player::new(Rig::with_kept_index());
        for step in steps {
            player.play(&step);
            assert!(!player.trouble, "{step:?}");
            player.check();
        }
    }
}

fn stop_everywhere(steps: &[Step], rig: impl Fn() -> Rig, fates: impl Fn(u64) -> Vec<Fate>) {
    let undisturbed = rig();
    run_until_trouble(undisturbed.clone(), steps);
    let operations = undisturbed.disk.operations();
    assert!(operations > 60, "{operations}");
    for operation in 1..=operations {
        for fate in fates(operation) {
            let rig = rig();
            rig.disk.stop_before(operation);
            let mut player = run_until_trouble(rig, steps);
            player.power_cut(fate);
            // And it goes on from there.
            for step in [Step::Put(9, Origin::Pushed), Step::Commit(1), Step::Publish, Step::Collect, Step::Reopen] {
                player.play(&step);
                assert!(!player.trouble, "{step:?} after stop {operation} and {fate:?}");
            }
            player.check();
        }
    }
}

#[test]
fn whatever_was_answered_is_there_when_everything_else_is_dropped() {
    stop_everywhere(&push(), Rig::new, |_| vec![Fate::Drop, Fate::Keep]);
}

#[test]
fn whatever_was_answered_is_there_when_everything_else_is_torn() {
    stop_everywhere(&push(), Rig::new, |operation| vec![Fate::Tear(operation), Fate::Tear(operation + 10_000)]);
}

#[test]
fn the_same_with_an_index_that_survives() {
    stop_everywhere(&push(), Rig::with_kept_index, |operation| vec![Fate::Drop, Fate::Tear(operation)]);
}

#[test]
fn what_was_collected_stays_away_and_nothing_else_goes() {
    stop_everywhere(&tidy(), Rig::new, |operation| vec![Fate::Drop, Fate::Keep, Fate::Tear(operation)]);
}

#[test]
fn the_same_with_an_index_that_survives_a_collection() {
    stop_everywhere(&tidy(), Rig::with_kept_index, |operation| vec![Fate::Drop, Fate::Keep, Fate::Tear(operation)]);
}

#[test]
fn what_is_pinned_stays_and_what_was_purged_of_it_goes() {
    stop_everywhere(&pins(), Rig::new, |operation| vec![Fate::Drop, Fate::Keep, Fate::Tear(operation)]);
    stop_everywhere(&pins(), Rig::with_kept_index, |operation| vec![Fate::Drop, Fate::Tear(operation)]);
}

fn step() -> impl Strategy<Value = Step> {
    let origin = prop_oneof![Just(Origin::Pushed), Just(Origin::Peer), Just(Origin::Imported), Just(Origin::Upstream)];
    prop_oneof![
        6 => (0..60_u16, origin).prop_map(|(n, origin)| Step::Put(n, origin)),
        1 => (0..4_u16, 1..4_u8).prop_map(|(file, leaves)| Step::File(file, leaves)),
        2 => Just(Step::Sync),
        2 => (0..60_u16).prop_map(Step::Link),
        1 => (0..60_u16).prop_map(Step::Unlink),
        4 => (0..4_u8).prop_map(Step::Commit),
        2 => Just(Step::Publish),
        1 => (0..3_u8).prop_map(Step::PublishOnce),
        1 => Just(Step::Unpublish),
        2 => (0..3_u8, 0..300_u16).prop_map(|(id, n)| Step::SaveUpload(id, n)),
        1 => (0..3_u8).prop_map(Step::DropUpload),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Shorten),
        2 => Just(Step::Replace),
        1 => (0..DOOMED).prop_map(Step::CommitDoomed),
        1 => (0..DOOMED).prop_map(Step::Forget),
        1 => (0..DOOMED).prop_map(Step::Purge),
        2 => (0..3_u8, 0..4_u8).prop_map(|(id, back)| Step::Pin(id, back)),
        1 => (0..3_u8).prop_map(Step::Unpin),
        2 => Just(Step::Collect),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::PowerCut),
        1 => (0..30_u16).prop_map(Step::StopAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_with_power_cuts(
        steps in proptest::collection::vec(step(), 1..60),
        kept in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut player = Player::new(if kept { Rig::with_kept_index() } else { Rig::new() });
        for (n, step) in steps.iter().enumerate() {
            player.play(step);
            if player.trouble {
                player.power_cut(Fate::Tear(seed.wrapping_add(n as u64)));
            }
        }
        player.check();
    }
}

/// A forgotten file that a later root holds again is not forgotten when a collection finds it there.
#[test]
fn what_a_later_root_holds_again_has_come_back() {
    let mut player = Player::new(Rig::new());
    let before = [Step::File(0, 2), Step::CommitDoomed(4), Step::Put(0, Origin::Pushed), Step::CommitDoomed(0)];
    let after = [Step::Forget(4), Step::Replace, Step::Collect, Step::Replace, Step::Commit(0), Step::PublishOnce(1)];
    for step in before.iter().chain(&after) {
        player.play(step);
    }
    player.check();
}

/// A record that a cut tore, with whole ones behind it, does not come back as damage once the tail is flushed.
#[test]
fn what_a_cut_tore_stays_away_after_the_next_sync() {
    let put = |n| Step::Put(n, Origin::Pushed);
    let mut steps = vec![put(52), put(37), put(5), Step::File(0, 1), put(11), Step::Commit(0), Step::Commit(0)];
    steps.extend([put(8), put(0), put(9), Step::PowerCut(2515838964331339314), Step::Sync, Step::PowerCut(0)]);
    let mut player = Player::new(Rig::new());
    for step in &steps {
        player.play(step);
    }
    player.check();
}
