//! Accounts, tokens and rights, as clients meet them.

mod beside;
mod logins;
mod outside;
mod rights;
mod tokens;

use crate::support::{Answer, Call, Node, image, sha256};
use axum::http::{Method, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use cidery_access::{Access, Config as AccessConfig, Policy, Rights, Rule, Secret, users::Users};
use cidery_registry::Config;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;

/// A registry with accounts. Each user's password is the name, twice.
pub struct World {
    pub node: Node,
    pub users: Users,
    _directory: TempDir,
}

pub fn password(user: &str) -> String {
    format!("{user}{user}")
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub fn rule(users: &str, repositories: &str, rights: &str) -> Rule {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    Rule {
        users: words(users),
        repositories: words(repositories).iter().map(|text| text.parse().unwrap()).collect(),
        rights: Rights::read(rights.split(',')).unwrap(),
    }
}

impl World {
    pub async fn new(users: &[&str], rules: Vec<Rule>) -> Self {
        Self::with(users, rules, false, AccessConfig::default()).await
    }

    pub async fn with(users: &[&str], rules: Vec<Rule>, anonymous_pull: bool, access: AccessConfig) -> Self {
        Self::on(Config::default(), users, rules, anonymous_pull, access).await
    }

    pub async fn on(
        config: Config,
        users: &[&str],
        rules: Vec<Rule>,
        anonymous_pull: bool,
        access: AccessConfig,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let file = Users::at(directory.path().join("users"));
        for user in users {
            file.set(user, &Secret::new(password(user))).unwrap();
        }
        let policy = Policy::new(rules, &Default::default(), anonymous_pull).unwrap();
        let access = Access::open(AccessConfig { users: Some(directory.path().join("users")), policy, ..access });
        let hosts = vec!["registry.lan".to_owned()];
        let config = Config { access: Some(Arc::new(access.unwrap())), allowed_hosts: hosts, ..config };
        Self { node: Node::with(config).await, users: file, _directory: directory }
    }

    pub fn call(&self, user: &str, method: Method, path: impl Into<String>) -> Call<'_> {
        let call = self.node.request(method, path);
        if user.is_empty() { call } else { call.header("authorization", &basic(user, &password(user))) }
    }

    pub async fn get(&self, user: &str, path: &str) -> Answer {
        self.call(user, Method::GET, path).send().await
    }

    pub async fn push_blob(&self, user: &str, repository: &str, data: &'static [u8]) -> Answer {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(data));
        self.call(user, Method::POST, path).body(data).send().await
    }

    pub async fn push_manifest(&self, user: &str, repository: &str, reference: &str, layer: &'static [u8]) -> Answer {
        let config = b"{}";
        let manifest = image((sha256(config), config.len()), &[(sha256(layer), layer.len())]);
        self.call(user, Method::PUT, format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", manifest["mediaType"].as_str().unwrap())
            .body(manifest.to_string())
            .send()
            .await
    }

    /// Pushes a small image; the last answer.
    pub async fn push(&self, user: &str, repository: &str, tag: &str, layer: &'static [u8]) -> Answer {
        for blob in [&b"{}"[..], layer] {
            assert_eq!(self.push_blob(user, repository, blob).await.status, StatusCode::CREATED);
        }
        self.push_manifest(user, repository, tag, layer).await
    }

    pub async fn token(&self, user: &str, query: &str) -> Value {
        let answer = self.get(user, &format!("/token?service=cidery&{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    pub async fn form(&self, form: &str) -> Answer {
        let call =
            self.node.request(Method::POST, "/token").header("content-type", "application/x-www-form-urlencoded");
        call.body(form.to_owned()).send().await
    }

    pub async fn with_token(&self, token: &Value, method: Method, path: &str) -> Answer {
        let call = self.node.request(method, path);
        call.header("authorization", &format!("Bearer {}", token["token"].as_str().unwrap())).send().await
    }

    pub async fn catalog(&self, user: &str, query: &str) -> Value {
        self.get(user, &format!("/v2/_catalog{query}")).await.json()["repositories"].clone()
    }
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The challenge of a 401, after its checks.
#[track_caller]
pub fn challenge(answer: &Answer) -> &str {
    answer.is_error(401, "UNAUTHORIZED");
    answer.header("www-authenticate")
}
