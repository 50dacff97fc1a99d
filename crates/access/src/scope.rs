//! Scopes of bearer tokens: `repository:team/app:pull,push`, `registry:catalog:*`
//! (distribution, "Token Scope Documentation").

use crate::{Right, Rights};
use serde::{Deserialize, Serialize};

/// Scopes in one request at most; docker asks for one or two.
const MAX_SCOPES: usize = 32;

/// Actions in one scope at most.
const MAX_ACTIONS: usize = 8;

/// What a token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Some actions on a repository; its name as the client knows it, not checked yet.
    Repository {
        /// The name.
        name: String,
        /// What is asked for.
        rights: Rights,
    },
    /// The list of repositories.
    Catalog,
}

/// What a token is for: an entry of its claim `access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository's full name, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`; `*` for the catalog.
    pub actions: Vec<String>,
}

impl Scope {
    /// Reads what a client sends: several values, each with several scopes in it. What is no scope, or of a
    /// kind that is not known here, gives nothing, as the specification has it.
    pub fn read<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        values.into_iter().flat_map(|value| value.split(' ')).filter_map(Self::parse).take(MAX_SCOPES).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may have colons: a host with a port.
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').take(MAX_ACTIONS);
        match kind.split_once('(').map_or(kind, |(kind, _class)| kind) {
            "repository" if !name.is_empty() => {
                let rights = actions.map(rights_of).fold(Rights::NONE, |all, one| all | one);
                Some(Self::Repository { name: name.to_owned(), rights })
            }
            "registry" if name == "catalog" => Some(Self::Catalog),
            _ => None,
        }
    }
}

fn rights_of(action: &str) -> Rights {
    match action {
        "pull" => Rights::PULL,
        "push" => Rights::PUSH,
        "delete" => Right::Delete.into(),
        "*" => Rights::ALL,
        _ => Rights::NONE,
    }
}

impl Grant {
    /// For what is left of a repository's scope; nothing, if nothing is.
    pub(crate) fn repository(name: String, rights: Rights) -> Option<Self> {
        let actions = [("pull", Rights::PULL), ("push", Rights::PUSH), ("delete", Right::Delete.into())];
        let actions: Vec<_> =
            actions.iter().filter(|(_, of)| rights.any_of(*of)).map(|(action, _)| (*action).to_owned()).collect();
        (!actions.is_empty()).then(|| Self { kind: "repository".into(), name, actions })
    }

    /// For the list of repositories.
    pub(crate) fn catalog() -> Self {
        Self { kind: "registry".into(), name: "catalog".into(), actions: vec!["*".into()] }
    }

    /// What it allows on a repository, as far as the token is concerned.
    pub(crate) fn rights_on(&self, repository: &str) -> Rights {
        if self.kind != "repository" || self.name != repository {
            return Rights::NONE;
        }
        self.actions.iter().map(|action| rights_of(action)).fold(Rights::NONE, |all, one| all | one)
    }

    /// Whether it is for the list of repositories.
    pub(crate) fn is_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog"
    }

    /// As a scope is written.
    pub fn to_scope(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_as_clients_send_them() {
        let repository = |name: &str, words: &[&str]| Scope::Repository {
            name: name.into(),
            rights: Rights::read(words.iter().copied()).expect("rights"),
        };
        assert_eq!(
            Scope::read(["repository:team/app:pull,push repository:base:pull", "registry:catalog:*"]),
            [repository("team/app", &["pull", "push"]), repository("base", &["pull"]), Scope::Catalog]
        );
        assert_eq!(Scope::read(["repository(plugin):a:*"]), [repository("a", &["all"])]);
        assert_eq!(Scope::read(["repository:host:5000/a:delete"]), [repository("host:5000/a", &["delete"])]);
        assert_eq!(Scope::read(["repository:a:frobnicate,pull"]), [repository("a", &["pull"])]);
        for nothing in
            ["", " ", "repository", "repository:a", "repository::pull", "registry:other:*", "user:a:pull", ":::"]
        {
            assert_eq!(Scope::read([nothing]), [], "{nothing:?}");
        }
        assert_eq!(Scope::read(vec!["repository:a:pull"; 100]).len(), MAX_SCOPES);
    }

    #[test]
    fn grants_say_what_they_are_for() {
        let grant = Grant::repository("a".into(), Rights::PULL | Right::Overwrite.into()).expect("something");
        assert_eq!(grant.to_scope(), "repository:a:pull,push");
        assert_eq!((grant.rights_on("a"), grant.rights_on("b")), (Rights::PULL | Rights::PUSH, Rights::NONE));
        assert_eq!(Grant::repository("a".into(), Rights::NONE), None);
        assert!(Grant::catalog().is_catalog() && Grant::catalog().rights_on("catalog").is_empty());
    }
}
