//! Commands on the data of a stopped server: the way back in for somebody who has the machine.

use std::io::{Read as _, Write as _};

use outpost_wire::cookie::CookieKey;
use outpost_wire::id::UserId;
use serde_json::Value;

use super::arguments::{Offline, Shown};
use super::refuse;
use crate::auth::{self, PasswordHash};
use crate::clock;
use crate::config::Config;
use crate::control;
use crate::model::{SiteRights, User};
use crate::site::CookieKeys;
use crate::store::{Durability, Engine, Store, StoreError};

/// Does the command and prints its outcome.
///
/// # Errors
/// In words for the administrator; nothing was changed then.
pub fn run(command: &Offline, config: &Config) -> anyhow::Result<()> {
    let folder = &config.data_folder;
    if !folder.join(crate::store::FILE_NAME).exists() && !matches!(command, Offline::CreateAccount { .. }) {
        return Err(refuse(format!(
            "there is no store in {}; is this the right --datapath?",
            folder.display()
        )));
    }
    crate::server::make_private_folder(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(folder)?;
        let done = perform(command, config, &store).await;
        store.close();
        done
    })
}

async fn perform(command: &Offline, config: &Config, store: &Store) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        Offline::CreateAccount { id, pass, email, domain } => {
            check_domain(config, domain)?;
            let name = id.rsplit('/').next().unwrap_or(id);
            control::check_name(name).map_err(refuse)?;
            let id = user_id(domain, id)?;
            let email = match email {
                Some(email) => Some(
                    control::check_email(email).ok_or_else(|| refuse("This is not an e-mail address."))?,
                ),
                None => None,
            };
            let hash = PasswordHash::of(&password(pass)?);
            let mut user = control::new_user(id.clone(), name, email);
            user.email_verified = user.email.is_some().then_some(true);
            user.salt = Some(hash.salt);
            user.hash = Some(hash.hash);
            store
                .write(Durability::Durable, |change| {
                    if change.directory().user(&id).is_some() {
                        return Err(refuse("User already exists."));
                    }
                    change.put_user(user);
                    Ok(())
                })
                .await?;
            writeln!(out, "Done.")?;
        }
        Offline::ResetAccount { id, pass, domain } => {
            let hash = PasswordHash::of(&password(pass)?);
            change_user(config, store, domain, id, |user| auth::let_back_in(user, hash)).await?;
            writeln!(out, "Done.")?;
        }
        Offline::MakeAdmin { id, domain } => {
            change_user(config, store, domain, id, |user| user.siteadmin = SiteRights::FULL).await?;
            writeln!(out, "Done.")?;
        }
        Offline::LoginKey { renew } => {
            let key = login_key(config, store, *renew).await?;
            writeln!(out, "{}", key.to_hex())?;
        }
        Offline::LoginCookie { id, domain, renew } => {
            check_domain(config, domain)?;
            let id = user_id(domain, id)?;
            if store.directory().user(&id).is_none() {
                return Err(refuse(format!("User {id} not found.")));
            }
            let key = login_key(config, store, *renew).await?;
            let claims = serde_json::json!({ "u": id, "a": 3 });
            writeln!(out, "{}", outpost_wire::cookie::seal(&key, &claims, clock::now_seconds()))?;
        }
        Offline::ListUserIds => {
            for user in store.directory().users() {
                writeln!(out, "{}", user.id)?;
            }
        }
        Offline::Show(shown) => {
            let records = records(&**store.engine(), *shown)?;
            serde_json::to_writer_pretty(&mut out, &records)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// The key of login cookies, a new one if asked for. One that `config.json` fixes cannot be renewed here.
async fn login_key(config: &Config, store: &Store, renew: bool) -> anyhow::Result<CookieKey> {
    let fixed = config.settings.login_cookie_encryption_key.as_deref();
    if renew {
        if fixed.is_some() {
            return Err(refuse("settings.loginCookieEncryptionKey fixes the key; change it there."));
        }
        CookieKeys::renew_login(store).await?;
    }
    Ok(CookieKeys::load(store, fixed).await?.login)
}

async fn change_user(
    config: &Config,
    store: &Store,
    domain: &str,
    id: &str,
    change_it: impl FnOnce(&mut User),
) -> anyhow::Result<()> {
    check_domain(config, domain)?;
    let id = user_id(domain, id)?;
    store
        .write(Durability::Durable, |change| {
            let stored =
                change.directory().user(&id).ok_or_else(|| refuse(format!("There is no account {id}.")))?;
            let mut user = (**stored).clone();
            change_it(&mut user);
            change.put_user(user);
            Ok(())
        })
        .await
}

fn check_domain(config: &Config, domain: &str) -> anyhow::Result<()> {
    if config.domains.contains_key(domain) { Ok(()) } else { Err(refuse("Invalid domain.")) }
}

fn user_id(domain: &str, id: &str) -> anyhow::Result<UserId> {
    let id = if id.contains('/') { id.to_owned() } else { id.to_lowercase() };
    UserId::complete(domain, &id).map_err(|error| refuse(format!("Invalid userid: {error}.")))
}

/// A password from the command line, or from the first line of standard input when it is `-`, so that it
/// need not stand in the list of processes.
fn password(given: &str) -> anyhow::Result<String> {
    let password = if given == "-" {
        let mut text = String::new();
        std::io::stdin().take(4096).read_to_string(&mut text)?;
        text.lines().next().unwrap_or_default().to_owned()
    } else {
        given.to_owned()
    };
    if password.is_empty() { Err(refuse("The password is empty.")) } else { Ok(password) }
}

fn records(engine: &dyn Engine, shown: Shown) -> Result<Vec<Value>, StoreError> {
    let prefix = match shown {
        Shown::Users => "user/",
        Shown::UserGroups => "ugrp/",
        Shown::Groups => "mesh/",
        Shown::Devices => "node/",
        Shown::All => "",
        Shown::Events => return Ok(engine.all_events()?.into_iter().map(Value::Object).collect()),
        Shown::Power => {
            return Ok(engine
                .all_power()?
                .into_iter()
                .map(|(device, change)| {
                    serde_json::json!({
                        "time": clock::iso8601(change.time), "nodeid": device, "power": change.state,
                        "oldPower": change.previous,
                    })
                })
                .collect());
        }
    };
    engine
        .with_prefix(prefix)?
        .into_iter()
        .map(|(id, json)| {
            let mut record: Value = serde_json::from_slice(&json)
                .map_err(|error| StoreError::Record { id: id.clone(), reason: error.to_string() })?;
            record["_id"] = id.into();
            Ok(record)
        })
        .filter(|record: &Result<Value, StoreError>| {
            shown != Shown::Groups || record.as_ref().is_ok_and(|record| record.get("deleted").is_none())
        })
        .collect()
}
