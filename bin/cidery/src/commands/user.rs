//! `cidery user add`, `remove`, `list` and `token`: changes to a file of the data directory, which a running node
//! reads anew.

use super::print_json;
use crate::{
    cli::{Json, User, UserAdd, UserRemove, UserToken},
    serve::{USERS, make_data},
};
use anyhow::{Context, Result, bail};
use cidery_access::{
    Rights, Secret,
    users::{NewToken, TokenInfo, Users},
};
use serde_json::json;
use std::{
    io::{self, BufRead, IsTerminal, Read},
    path::Path,
    time::{Duration, SystemTime},
};

/// The longest line that is read for a password.
const MAX_LINE: u64 = 4096;

pub fn run(options: User, data: &Path) -> Result<()> {
    let users = Users::at(data.join(USERS));
    match options {
        User::Add(options) => {
            make_data(data)?;
            add(&users, options)
        }
        _ if !data.is_dir() => {
            bail!("there is no data directory {0}: add a user with cidery user add NAME --data {0}", data.display())
        }
        User::Remove(options) => remove(&users, options),
        User::List(Json { json }) => list(&users, json),
        User::Token(options) => token(&users, options),
    }
}

fn add(users: &Users, UserAdd { name, password_stdin }: UserAdd) -> Result<()> {
    cidery_access::users::check_name(&name).map_err(anyhow::Error::msg)?;
    let password = if io::stdin().is_terminal() && !password_stdin { ask(&name)? } else { read_line()? };
    match users.set(&name, &password)? {
        true => println!("added      {name}  (log in: docker login -u {name} HOST:PORT)"),
        false => println!("changed    the password of {name}"),
    }
    Ok(())
}

fn remove(users: &Users, UserRemove { name }: UserRemove) -> Result<()> {
    let left = users.remove(&name)?;
    println!("removed    {name}");
    if left == 0 {
        println!("No user is left: nobody can log in now. Add one: cidery user add NAME");
    }
    Ok(())
}

fn list(users: &Users, json: bool) -> Result<()> {
    let accounts = users.list()?;
    if json {
        return print_json(&accounts);
    }
    if accounts.is_empty() {
        println!("There are no users but those of an htpasswd file, if there is one. Add one: cidery user add alice");
        return Ok(());
    }
    let width = accounts.iter().map(|account| account.name.chars().count()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:20}  TOKENS", "NAME", "CREATED");
    for account in accounts {
        let tokens: Vec<_> = account.tokens.iter().map(|token| token.name.as_str()).collect();
        println!("{:width$}  {:20}  {}", account.name, date(account.created), tokens.join(", "));
    }
    Ok(())
}

fn token(users: &Users, options: UserToken) -> Result<()> {
    let UserToken { user, name, expires, rights, list, revoke, json } = options;
    if list {
        return list_tokens(users, &user, json);
    }
    if let Some(label) = revoke {
        users.revoke_token(&user, &label)?;
        println!("ended      {label} of {user}");
        return Ok(());
    }
    let name = name.unwrap_or_else(|| "ci".to_owned());
    let rights = (!rights.is_empty()).then(|| rights.into_iter().fold(Rights::NONE, |all, one| all | one));
    let new = NewToken { name: name.clone(), lifetime: expires.map(|time| time.0), rights };
    let token = users.add_token(&user, new)?;
    if json {
        return print_json(&json!({ "user": user, "name": name, "token": token.reveal() }));
    }
    println!("{}", token.reveal());
    eprintln!("It is shown this once. End it with: cidery user token {user} --revoke {name}");
    Ok(())
}

fn list_tokens(users: &Users, user: &str, json: bool) -> Result<()> {
    let accounts = users.list()?;
    let Some(account) = accounts.into_iter().find(|account| account.name == user) else {
        bail!("there is no user {user:?} here: see cidery user list");
    };
    if json {
        return print_json(&account.tokens);
    }
    if account.tokens.is_empty() {
        println!("{user} has no tokens. Make one: cidery user token {user} --name ci");
        return Ok(());
    }
    let width = account.tokens.iter().map(|token| token.name.chars().count()).max().unwrap_or(0).max(4);
    println!("{:width$}  {:20}  {:20}  RIGHTS", "NAME", "CREATED", "EXPIRES");
    for TokenInfo { name, created, expires, rights } in account.tokens {
        let expires = expires.map_or_else(|| "never".to_owned(), date);
        let rights = rights.map_or_else(|| "as the user".to_owned(), |rights| rights.to_string());
        println!("{name:width$}  {:20}  {expires:20}  {rights}", date(created));
    }
    Ok(())
}

/// Asks twice, without showing what is typed.
fn ask(name: &str) -> Result<Secret> {
    let prompt = |text: String| rpassword::prompt_password(text).context("reading the password from the terminal");
    let password = prompt(format!("Password of {name}: "))?;
    if prompt("The same again: ".to_owned())? != password {
        bail!("the two are not the same: try again");
    }
    Ok(Secret::new(password))
}

fn read_line() -> Result<Secret> {
    let mut line = String::new();
    io::stdin().lock().take(MAX_LINE).read_line(&mut line).context("reading the password from standard input")?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("there is no password on standard input: type one in a terminal, or write it there in one line");
    }
    Ok(Secret::new(password))
}

fn date(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    // Beyond the year 9999 nobody waits.
    let time = time.filter(|_| seconds < 253_402_300_800);
    time.map_or_else(|| "never".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
}
