//! What the server's own data is asked to take over: a piece of `config.json`, and an administrator. Done by a process
//! that is the server's user, so that files keep their owner and root follows none of the server's links.

use std::fmt;
use std::path::Path;

use outpost_wire::id::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::Problem;
use super::durable;
use crate::auth::{self, PasswordHash, password};
use crate::clock;
use crate::config::{self, Document};
use crate::control;
use crate::model::{Event, SiteRights};
use crate::store::{Durability, Store, StoreError};

/// Name of the configuration in the data folder, and of the one before.
const CONFIG: &str = "config.json";
const CONFIG_BEFORE: &str = "config.json-before";
/// Largest configuration that is merged into, in bytes: what the server reads.
const LARGEST: usize = 4 << 20;

/// What is asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// Laid over `config.json`.
    pub config: Option<Fragment>,
    /// Made, or let back in.
    pub admin: Option<Admin>,
}

/// A piece of `config.json`, in its own spellings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fragment(pub Map<String, Value>);

impl Fragment {
    /// What the configuration's own reading says to it.
    pub(super) fn problems(&self) -> Vec<config::Problem> {
        let text = Value::Object(self.0.clone()).to_string();
        match Document::parse(&text, Path::new("outpost.toml")) {
            Ok(document) => config::read(&document, "/".into()).1,
            Err(error) => vec![config::Problem { path: String::new(), message: error.to_string() }],
        }
    }
}

/// An account that administers the server from now on.
#[derive(Clone, Serialize, Deserialize)]
pub struct Admin {
    /// Name of the account in the default domain.
    pub name: String,
    /// Its new password.
    pub password: String,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Does what is asked in the server's data folder while the server is stopped; gives what could not be done. The keys of
/// these problems begin with the section's name.
pub async fn take_over(folder: &Path, request: Request) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(fragment) = request.config
        && let Err(message) = merge_into(folder, &fragment)
    {
        problems.push(Problem::of("config", message));
    }
    if let Some(admin) = request.admin
        && let Err(message) = admit(folder, &admin).await
    {
        problems.push(Problem::of("admin", message));
    }
    problems
}

/// Lays a fragment over the configuration. The one before is kept beside it.
fn merge_into(folder: &Path, fragment: &Fragment) -> Result<(), String> {
    let file = folder.join(CONFIG);
    let failed = |error: std::io::Error| format!("config.json cannot be changed: {error}");
    let before = durable::read(&file, LARGEST).map_err(failed)?;
    let mut whole: Map<String, Value> = match &before {
        Some(text) => serde_json::from_slice(text)
            .map_err(|error| format!("the config.json that is there cannot be read, and stays: {error}"))?,
        None => Map::new(),
    };
    merge(&mut whole, &fragment.0);
    let text = serde_json::to_vec_pretty(&whole).map_err(|error| error.to_string())?;
    if before.as_ref() == Some(&text) {
        return Ok(());
    }
    if let Some(before) = before {
        durable::replace(&folder.join(CONFIG_BEFORE), &before, 0o600).map_err(failed)?;
    }
    durable::replace(&file, &text, 0o600).map_err(failed)
}

/// Objects are merged, everything else is replaced. Keys are the same in any case, as they are when they are read.
fn merge(whole: &mut Map<String, Value>, fragment: &Map<String, Value>) {
    for (key, value) in fragment {
        let there = whole.keys().find(|there| there.to_lowercase() == key.to_lowercase()).cloned();
        match (there.as_ref().and_then(|there| whole.get_mut(there)), value) {
            (Some(Value::Object(whole)), Value::Object(fragment)) => merge(whole, fragment),
            (Some(place), value) => *place = value.clone(),
            (None, value) => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Makes the account, or gives it a new password; it administers the server, and has no second factor any more.
async fn admit(folder: &Path, admin: &Admin) -> Result<(), String> {
    control::check_name(&admin.name)?;
    let document = Document::load(&folder.join(CONFIG)).map_err(|error| error.to_string())?;
    let (config, _) = config::read(&document, folder.to_owned());
    if let Some(unmet) = password::unmet(&config.domain("").password, &admin.password).first() {
        return Err(format!("the password is not accepted: {unmet}"));
    }
    let id = UserId::from_name("", &admin.name).map_err(|error| error.to_string())?;
    let hash = PasswordHash::of(&admin.password);
    let folder = folder.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&folder))
        .await
        .map_err(|_| "the store cannot be opened".to_owned())?
        .map_err(|error| error.to_string())?;
    let now = clock::now_ms();
    let written = store
        .write(Durability::Durable, |change| {
            let stored = change.directory().user(&id).map(|user| (**user).clone());
            let (mut user, done) = match stored {
                Some(user) => (user, "given a new password, without its second factors,"),
                None => (control::new_user(id.clone(), &admin.name, None), "made"),
            };
            auth::let_back_in(&mut user, hash);
            user.siteadmin = SiteRights::FULL;
            let user = change.put_user(user);
            let text = format!("Account {} was {done} by the settings on the box's card", user.name);
            let event = Event::new("user", "accountchange", "")
                .by(&user)
                .with("account", control::safe_user(&user))
                .with("msg", text)
                .to_account(&user.id);
            change.log(&event, now);
            Ok::<_, StoreError>(())
        })
        .await;
    tokio::task::spawn_blocking(move || store.close()).await.map_err(|error| error.to_string())?;
    written.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::EventQuery;

    fn fragment(value: Value) -> Fragment {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_fragment_is_laid_over_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(CONFIG);
        let there =
            r#"{"Settings":{"Port":443,"aliasPort":8443},"domains":{"":{"title":"Attic"}},"_note":"mine"}"#;
        std::fs::write(&file, there).expect("written");
        merge_into(
            folder.path(),
            &fragment(json!({ "settings": { "port": 8443 }, "domains": { "": { "newAccounts": true } } })),
        )
        .expect("merged");
        let now: Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
        let wanted = json!({
            "Settings": { "Port": 8443, "aliasPort": 8443 }, "domains": { "": { "title": "Attic", "newAccounts": true } }, "_note": "mine",
        });
        assert_eq!(now, wanted);
        assert_eq!(std::fs::read_to_string(folder.path().join(CONFIG_BEFORE)).expect("kept"), there);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(CONFIG), "{ not JSON").expect("written");
        let refused = merge_into(folder.path(), &fragment(json!({ "settings": {} })));
        assert!(refused.expect_err("refused").contains("stays"));
        assert_eq!(std::fs::read_to_string(folder.path().join(CONFIG)).expect("read"), "{ not JSON");
    }

    #[test]
    fn a_fragment_is_checked_as_the_configuration_is() {
        let problems = fragment(json!({ "settings": { "port": 99_999, "prot": 1 } })).problems();
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["settings.port", "settings.prot"]);
        assert!(fragment(json!({ "settings": { "port": 8443 } })).problems().is_empty());
    }

    #[tokio::test]
    async fn whoever_holds_the_card_gets_back_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let admin = |password: &str| Request {
            admin: Some(Admin { name: "Ada".into(), password: password.into() }),
            ..Request::default()
        };
        assert!(take_over(folder.path(), admin("slate harbour violin")).await.is_empty());
        let id = UserId::complete("", "ada").expect("an id");
        {
            let store = Store::open(folder.path()).expect("a store");
            let mut user = (**store.directory().user(&id).expect("made")).clone();
            assert!(user.siteadmin.is_full());
            user.siteadmin = SiteRights::LOCKED;
            user.extra.insert("otpsecret".into(), "JBSWY3DP".into());
            store
                .write(Durability::Durable, |change| {
                    change.put_user(user);
                    Ok::<_, StoreError>(())
                })
                .await
                .expect("locked out");
            store.close();
        }
        // A password that the domain does not accept changes nothing.
        let refused = take_over(folder.path(), admin("short")).await;
        assert!(refused[0].key == "admin" && !refused[0].message.contains("short"), "{refused:?}");
        assert!(take_over(folder.path(), admin("another harbour entirely")).await.is_empty());
        let store = Store::open(folder.path()).expect("a store");
        let user = store.directory().user(&id).expect("still there").clone();
        assert!(user.siteadmin.is_full() && !user.extra.contains_key("otpsecret"));
        let hash =
            PasswordHash { salt: user.salt.clone().expect("salt"), hash: user.hash.clone().expect("hash") };
        assert!(hash.matches("another harbour entirely"));
        let log = store
            .events(EventQuery {
                any_of: vec!["*".into()],
                domain: String::new(),
                action: None,
                between: None,
                limit: 10,
            })
            .await
            .expect("the log");
        let said: Vec<&str> = log.iter().filter_map(|event| event["msg"].as_str()).collect();
        assert!(said[0].contains("new password") && said[1].contains("Account Ada was made"), "{said:?}");
        store.close();
    }
}
