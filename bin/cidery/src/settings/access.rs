//! Accounts and rights, as they are configured.

use super::File;
use crate::{
    cli,
    serve::{TOKEN_KEY, USERS},
};
use anyhow::{Context, Result, anyhow};
use cidery_access::{Challenge, Config, Policy, Proxies};
use serde::Deserialize;
use std::path::Path;

/// How clients are asked to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scheme {
    Bearer,
    Basic,
}

/// Takes the rules out of the file, and adds the flags.
pub(super) fn read(data: &Path, flags: &cli::Serve, file: &mut File) -> Result<Config> {
    let rules = std::mem::take(&mut file.access);
    let flags = &flags.accounts;
    let anonymous_pull = flags.anonymous_pull.or(file.anonymous_pull).unwrap_or(false);
    let policy = Policy::new(rules, &file.groups, anonymous_pull).context("the access rules");
    let flagged = flags.trusted_proxies.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let mut proxies: Vec<_> = flagged.collect();
    if proxies.is_empty() {
        proxies.extend(file.trusted_proxies.iter().map(String::as_str));
    }
    Ok(Config {
        users: Some(data.join(USERS)),
        htpasswd: flags.htpasswd.clone().or_else(|| file.htpasswd.take()),
        key: Some(data.join(TOKEN_KEY)),
        policy: file.named(policy)?,
        proxies: Proxies::read(proxies).map_err(|error| anyhow!(error))?,
        challenge: match file.auth_challenge {
            Some(Scheme::Basic) => Challenge::Basic,
            _ => Challenge::Bearer,
        },
        insecure: flags.insecure_auth.or(file.insecure_auth).unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};
    use cidery_access::{Right, Rights};

    const RULES: &str = r#"
htpasswd = "/etc/cidery/htpasswd"
trusted-proxies = ["10.0.0.0/8"]
auth-challenge = "basic"

[groups]
ci = ["bot1", "bot2"]

[[access]]
users = ["alice", "@ci"]
repositories = ["team/**"]
rights = ["pull", "push"]

[[access]]
users = ["anonymous"]
repositories = ["public/*"]
rights = ["pull"]
"#;

    fn config(text: &str, flags: &cli::Serve) -> Result<Config> {
        read(Path::new("d"), flags, &mut parse(text)?)
    }

    #[test]
    fn rules_are_read() {
        let config = config(RULES, &cli::Serve::default()).expect("valid");
        assert_eq!(config.htpasswd.as_deref(), Some(Path::new("/etc/cidery/htpasswd")));
        assert_eq!(config.users.as_deref(), Some(Path::new("d/users")));
        assert!(config.proxies.trust([10, 1, 1, 1].into()) && !config.insecure);
        assert_eq!(config.challenge, Challenge::Basic);
        assert_eq!(config.policy.rights(Some("bot2"), "team/app"), Rights::PULL | Rights::PUSH);
        assert!(!config.policy.rights(Some("bot2"), "team/app").has(Right::Delete));
        assert_eq!(config.policy.rights(None, "public/app"), Rights::PULL);
    }

    #[test]
    fn flags_beat_the_file() {
        let accounts = cli::Accounts {
            htpasswd: Some("f".into()),
            anonymous_pull: Some(true),
            insecure_auth: Some(true),
            trusted_proxies: vec!["192.0.2.0/24".into()],
        };
        let flags = cli::Serve { accounts, ..Default::default() };
        let config = config(RULES, &flags).expect("valid");
        assert_eq!(config.htpasswd.as_deref(), Some(Path::new("f")));
        assert!(config.insecure && config.proxies.trust([192, 0, 2, 1].into()));
        assert!(!config.proxies.trust([10, 1, 1, 1].into()));
        assert_eq!(config.policy.rights(None, "any/thing"), Rights::PULL);
        let accounts = cli::Accounts { insecure_auth: Some(false), ..Default::default() };
        let flags = cli::Serve { accounts, ..Default::default() };
        let config = super::tests::config("insecure-auth = true\nanonymous-pull = true", &flags).expect("valid");
        assert!(!config.insecure && config.policy.rights(None, "any/thing") == Rights::PULL);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let rule = |users: &str, repositories: &str, rights: &str| {
            format!("[[access]]\nusers = [{users}]\nrepositories = [{repositories}]\nrights = [{rights}]\n")
        };
        for (text, needle) in [
            (rule("\"@ops\"", "\"a\"", "\"pull\""), "[groups]"),
            ("[groups]\n\"@ops\" = [\"a\"]".to_owned(), "without the @"),
            (rule("\"a\"", "\"A/*\"", "\"pull\""), "line 3"),
            (rule("\"a\"", "\"a\"", "\"write\""), "overwrite"),
            (rule("\"a\"", "\"a\"", ""), "number 1"),
            ("[[access]]\nuser = [\"a\"]\n".to_owned(), "line 2"),
            ("trusted-proxies = [\"proxy\"]".to_owned(), "10.0.0.0/8"),
            ("auth-challenge = \"digest\"".to_owned(), "line 1"),
        ] {
            let error = config(&text, &cli::Serve::default()).expect_err(&text);
            let error = crate::line::one_line(&error);
            assert!(error.contains(needle) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
