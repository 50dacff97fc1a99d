//! Accounts as a server uses them.

use super::*;
use crate::{
    Pattern, Rule,
    policy::Groups,
    users::{NewToken, Users},
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn users(&self) -> Users {
        Users::at(self.path("users"))
    }

    fn add(&self, name: &str, password: &str) {
        self.users().set(name, &Secret::new(password)).expect("added");
    }

    fn config(&self) -> Config {
        Config { users: Some(self.path("users")), key: Some(self.path("token-key")), ..Config::default() }
    }

    fn open(&self) -> Access {
        Access::open(self.config()).expect("readable")
    }

    fn with_rules(&self, rules: &[(&str, &str, &str)]) -> Access {
        let rule = |(user, pattern, rights): &(&str, &str, &str)| Rule {
            users: vec![user.to_string()],
            repositories: vec![pattern.parse::<Pattern>().expect("a pattern")],
            rights: Rights::read(rights.split(',')).expect("rights"),
        };
        let policy = Policy::new(rules.iter().map(rule).collect(), &Groups::new(), false).expect("valid");
        Access::open(Config { policy, ..self.config() }).expect("readable")
    }
}

async fn log_in(access: &Access, user: &str, password: &str) -> Result<Principal, LoginError> {
    access.log_in(user, &Secret::new(password), HERE).await
}

fn htpasswd(path: &Path, users: &[(&str, &str)]) {
    let line = |(user, password): &(&str, &str)| {
        let hash = bcrypt::hash_with_result(password, 4).expect("hashed").format_for_version(bcrypt::Version::TwoY);
        format!("{user}:{hash}\n")
    };
    fs::write(path, users.iter().map(line).collect::<String>()).expect("written");
}

fn own(name: &str) -> Option<String> {
    Some(name.to_owned())
}

fn bearer(issued: &Issued) -> Credentials {
    Credentials::Bearer(issued.token.clone())
}

#[tokio::test]
async fn users_of_both_files_log_in() {
    let world = World::new();
    let access = world.open();
    assert!(!access.is_required().await);
    world.add("alice", "secret");
    htpasswd(&world.path("htpasswd"), &[("bob", "b"), ("alice", "old")]);
    let access = Access::open(Config { htpasswd: Some(world.path("htpasswd")), ..world.config() }).expect("readable");
    assert!(access.is_required().await);
    assert_eq!(access.users(), 2);
    assert_eq!(log_in(&access, "alice", "secret").await.expect("alice").name(), Some("alice"));
    assert_eq!(log_in(&access, "bob", "b").await.expect("bob").limit, Rights::ALL);
    for (user, password) in [("alice", "old"), ("alice", ""), ("bob", "secret"), ("carol", "secret"), ("", "")] {
        assert_eq!(log_in(&access, user, password).await, Err(LoginError::Wrong), "{user}");
    }
}

#[tokio::test]
async fn wrong_files_stop_the_start_and_nothing_later() {
    let world = World::new();
    let config = Config { htpasswd: Some(world.path("htpasswd")), ..world.config() };
    assert!(matches!(Access::open(config.clone()), Err(Error::Io { .. })));
    fs::write(world.path("htpasswd"), "alice:plain\n").expect("written");
    let error = Access::open(config.clone()).expect_err("refused").to_string();
    assert!(error.contains("line 1") && error.contains("htpasswd -B") && !error.contains("plain"), "{error}");
    htpasswd(&world.path("htpasswd"), &[("alice", "a")]);
    let access = Access::open(config).expect("readable");
    fs::write(world.path("htpasswd"), "alice:plain\n").expect("written");
    access.directory.now().await;
    assert!(log_in(&access, "alice", "a").await.is_ok());
    fs::remove_file(world.path("htpasswd")).expect("removed");
    access.directory.now().await;
    assert!(access.is_required().await && log_in(&access, "alice", "a").await.is_ok());
}

#[tokio::test]
async fn a_changed_password_counts_at_once() {
    let world = World::new();
    world.add("alice", "one");
    let access = world.open();
    let who = log_in(&access, "alice", "one").await.expect("alice");
    let issued = access.issue(&who, &[], true, own).expect("issued");
    assert!(access.authenticate(&bearer(&issued), HERE).await.is_ok());
    world.add("alice", "two");
    assert!(log_in(&access, "alice", "two").await.is_ok());
    assert_eq!(log_in(&access, "alice", "one").await, Err(LoginError::Wrong));
    // So do tokens that the former one was good for.
    assert_eq!(access.authenticate(&bearer(&issued), HERE).await, Err(LoginError::Token));
    assert_eq!(access.refresh(issued.refresh.as_ref().expect("asked for")).await, Err(LoginError::Token));
    world.users().remove("alice").expect("removed");
    access.directory.now().await;
    assert_eq!(log_in(&access, "alice", "two").await, Err(LoginError::Wrong));
    assert!(access.is_required().await, "the last user took the lock with him");
}

#[tokio::test]
async fn an_htpasswd_file_is_read_anew() {
    let world = World::new();
    htpasswd(&world.path("htpasswd"), &[("alice", "one")]);
    let config = Config { htpasswd: Some(world.path("htpasswd")), ..world.config() };
    let access = Access::open(config).expect("readable");
    assert!(log_in(&access, "alice", "one").await.is_ok());
    htpasswd(&world.path("htpasswd"), &[("alice", "two")]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(log_in(&access, "alice", "one").await, Err(LoginError::Wrong));
    assert!(log_in(&access, "alice", "two").await.is_ok());
}

#[tokio::test]
async fn a_right_password_is_hashed_once() {
    let world = World::new();
    world.add("alice", "secret");
    let access = Arc::new(world.open());
    let many = (0..40).map(|_| log_in(&access, "alice", "secret"));
    // More than may fail, and more than may be hashed at once: they are one.
    assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
    let start = Instant::now();
    for _ in 0..200 {
        assert!(log_in(&access, "alice", "secret").await.is_ok());
    }
    let remembered = start.elapsed();
    let start = Instant::now();
    assert!(log_in(&access, "alice", "wrong").await.is_err());
    assert!(remembered < start.elapsed() * 20, "{remembered:?} for 200, {:?} for one that is hashed", start.elapsed());
}

#[tokio::test]
async fn who_is_not_there_takes_the_time_of_who_is() {
    let world = World::new();
    world.add("alice", "secret");
    let access = world.open();
    let time = async |user: String| {
        let start = Instant::now();
        let source = IpAddr::from(rand::random::<[u8; 4]>());
        assert!(access.log_in(&user, &Secret::new("wrong"), source).await.is_err());
        start.elapsed()
    };
    let (mut there, mut not_there) = (Duration::MAX, Duration::MAX);
    for n in 0..5 {
        there = there.min(time("alice".into()).await);
        not_there = not_there.min(time(format!("user{n}")).await);
    }
    assert!(not_there * 4 > there && there * 4 > not_there, "{there:?} and {not_there:?}");
}

#[tokio::test]
async fn failures_slow_down_who_fails() {
    let world = World::new();
    world.add("alice", "secret");
    let new = NewToken { name: "ci".into(), lifetime: None, rights: None };
    let token = world.users().add_token("alice", new).expect("made");
    let access = world.open();
    let who = log_in(&access, "alice", "secret").await.expect("alice");
    let issued = access.issue(&who, &[], false, own).expect("issued");
    // At the same time, so that none is known to have failed when the next one comes.
    let guesses = (0..30).map(|n| {
        let access = &access;
        async move { log_in(access, "alice", &format!("guess {n}")).await }
    });
    let results = futures::future::join_all(guesses).await;
    let hashed = results.iter().filter(|result| **result == Err(LoginError::Wrong)).count();
    assert!((1..=10).contains(&hashed), "{hashed} guesses at once");
    assert!(results.iter().any(|result| matches!(result, Err(LoginError::Slowed(wait)) if wait.as_millis() > 0)));
    // Not even the right password is told from a wrong one now; what cannot be guessed is not slowed.
    assert!(matches!(log_in(&access, "alice", "secret").await, Err(LoginError::Slowed(_))));
    assert!(access.log_in("alice", &token, HERE).await.is_ok());
    assert!(access.authenticate(&bearer(&issued), HERE).await.is_ok());
    assert!(access.log_in("alice", &Secret::new("secret"), [192, 0, 2, 1].into()).await.is_ok());
}

#[tokio::test]
async fn long_lived_tokens_stand_for_passwords() {
    let world = World::new();
    world.add("alice", "secret");
    world.add("bob", "secret");
    let access = world.open();
    let token = |name: &str, seconds, rights| NewToken {
        name: name.into(),
        lifetime: Some(Duration::from_secs(seconds)),
        rights,
    };
    let ci = world.users().add_token("alice", token("ci", 60, Some(Rights::PULL))).expect("made");
    let over = world.users().add_token("alice", token("over", 0, None)).expect("made");
    let who = access.log_in("alice", &ci, HERE).await.expect("alice");
    assert_eq!((who.name(), who.limit), (Some("alice"), Rights::PULL));
    assert_eq!(access.log_in("bob", &ci, HERE).await, Err(LoginError::Wrong));
    assert_eq!(access.log_in("alice", &over, HERE).await, Err(LoginError::Wrong));
    // A bearer token that it gets is as narrow, and ends with it.
    let scopes = Scope::read(["repository:app:pull,push"]);
    let issued = access.issue(&who, &scopes, true, own).expect("issued");
    assert_eq!(issued.grants.iter().map(Grant::to_scope).collect::<Vec<_>>(), ["repository:app:pull"]);
    let again = access.authenticate(&bearer(&issued), HERE).await.expect("alice");
    assert_eq!(again.limit, Rights::PULL);
    assert_eq!(access.decide(&again, "app", Right::Create.into()), Decision::Denied);
    let refreshed = access.refresh(issued.refresh.as_ref().expect("asked for")).await.expect("alice");
    assert_eq!((refreshed.limit, refreshed.grants), (Rights::PULL, None));
    world.users().revoke_token("alice", "ci").expect("ended");
    access.directory.now().await;
    assert_eq!(access.authenticate(&bearer(&issued), HERE).await, Err(LoginError::Token));
    assert_eq!(access.log_in("alice", &ci, HERE).await, Err(LoginError::Wrong));
}

#[tokio::test]
async fn bearer_tokens_are_narrowed_to_what_may_be() {
    let world = World::new();
    world.add("alice", "secret");
    let access = world.with_rules(&[("alice", "team/**", "pull,create"), ("anonymous", "public/*", "pull")]);
    let alice = log_in(&access, "alice", "secret").await.expect("alice");
    let scopes = Scope::read([
        "repository:team/app:pull,push,delete repository:other:pull registry:catalog:* repository:BAD:pull",
    ]);
    let canonical = |name: &str| (name != "BAD").then(|| name.to_owned());
    let issued = access.issue(&alice, &scopes, false, canonical).expect("issued");
    let grants: Vec<_> = issued.grants.iter().map(Grant::to_scope).collect();
    assert_eq!(grants, ["repository:team/app:pull,push", "registry:catalog:*"]);
    assert!(issued.refresh.is_none());
    let who = access.authenticate(&bearer(&issued), HERE).await.expect("alice");
    assert_eq!(access.decide(&who, "team/app", Rights::PULL), Decision::Allowed);
    // The scope "push" is for both of its rights, of which alice has one.
    assert_eq!(access.allowed(&who, "team/app"), Rights::PULL | Right::Create.into());
    assert_eq!(access.decide(&who, "team/app", Right::Delete.into()), Decision::Denied);
    assert_eq!(access.decide(&who, "team/app2", Rights::PULL), Decision::NeedsToken);
    assert_eq!(access.decide(&who, "other", Rights::PULL), Decision::Hidden);
    assert_eq!(access.decide(&alice, "team/app2", Rights::PULL), Decision::Allowed);
    assert_eq!(access.decide_list(&who), Decision::Allowed);
    assert!(access.is_listed(&who, "team/x") && !access.is_listed(&who, "other") && !access.may_pull_everything(&who));
    // Who did not log in gets a token too: for what everybody may.
    let nobody = Principal::anonymous();
    let scopes = Scope::read(["repository:team/app:pull", "repository:public/a:pull,push"]);
    let issued = access.issue(&nobody, &scopes, true, own).expect("issued");
    assert_eq!(issued.grants.iter().map(Grant::to_scope).collect::<Vec<_>>(), ["repository:public/a:pull"]);
    assert!(issued.refresh.is_none());
    let who = access.authenticate(&bearer(&issued), HERE).await.expect("nobody");
    assert_eq!(access.decide(&who, "public/a", Rights::PULL), Decision::Allowed);
    assert_eq!(access.decide(&who, "team/app", Rights::PULL), Decision::NeedsLogin);
    assert_eq!(access.decide_list(&who), Decision::NeedsLogin);
    assert_eq!(access.decide_list(&nobody), Decision::Allowed);
}

#[tokio::test]
async fn tokens_outlast_a_restart_and_belong_to_one_node() {
    let (world, other) = (World::new(), World::new());
    world.add("alice", "secret");
    fs::copy(world.path("users"), other.path("users")).expect("copied");
    let access = world.open();
    let who = log_in(&access, "alice", "secret").await.expect("alice");
    let issued = access.issue(&who, &[], true, own).expect("issued");
    let refresh = issued.refresh.clone().expect("asked for");
    let restarted = world.open();
    assert!(restarted.authenticate(&bearer(&issued), HERE).await.is_ok());
    assert!(restarted.refresh(&refresh).await.is_ok());
    assert_eq!(other.open().authenticate(&bearer(&issued), HERE).await, Err(LoginError::Token));
    // One kind does not do for the other.
    assert_eq!(restarted.authenticate(&Credentials::Bearer(refresh), HERE).await, Err(LoginError::Token));
    assert_eq!(restarted.refresh(&issued.token).await, Err(LoginError::Token));
}

#[test]
fn nothing_secret_is_shown() {
    let world = World::new();
    world.add("alice", "hunter2");
    let shown = format!("{:?} {:?}", world.open(), world.config());
    assert!(!shown.contains("hunter2") && !shown.contains("argon2id$"), "{shown}");
}
