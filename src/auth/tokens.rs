//! Login tokens: names and passwords that tools log in with on behalf of an account, each revocable alone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outpost_wire::id::UserId;
use outpost_wire::random;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PasswordHash;
use crate::store::{Durability, Store, StoreError};

/// What the user name of a token begins with (control-protocol §2.6).
pub const PREFIX: &str = "~t:";
/// What the id of its record begins with (data-formats §2.5).
const RECORD: &str = "logintoken-";
/// Tokens of one account.
pub const MOST: usize = 100;

/// A login token, as it stands in the store.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginToken {
    /// `logintoken-~t:…`.
    #[serde(rename = "_id")]
    pub id: String,
    /// `logintoken-user/…`, the index MeshCentral lists them by.
    pub nodeid: String,
    /// Whose.
    pub userid: UserId,
    /// What its owner calls it.
    pub name: String,
    /// The user name it logs in with.
    #[serde(rename = "tokenUser")]
    pub user_name: String,
    salt: String,
    hash: String,
    /// Domain of the account.
    #[serde(default)]
    pub domain: String,
    /// Unix ms.
    pub created: i64,
    /// Unix ms; 0 = never.
    #[serde(default)]
    pub expire: i64,
}

/// Never its salt and hash.
impl std::fmt::Debug for LoginToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginToken")
            .field("id", &self.id)
            .field("userid", &self.userid)
            .finish_non_exhaustive()
    }
}

impl LoginToken {
    /// A new token with the password it logs in with, which is known only now. Hashes: call it where blocking
    /// is allowed. `expire` is Unix ms, 0 = never.
    pub fn new(user: &UserId, name: &str, now: i64, expire: i64) -> (LoginToken, String) {
        let (user_name, password) = (format!("{PREFIX}{}", letters(16)), letters(20));
        let PasswordHash { salt, hash } = PasswordHash::of(&password);
        let token = LoginToken {
            id: format!("{RECORD}{user_name}"),
            nodeid: format!("{RECORD}{user}"),
            userid: user.clone(),
            name: name.to_owned(),
            user_name,
            salt,
            hash,
            domain: user.domain().to_owned(),
            created: now,
            expire,
        };
        (token, password)
    }

    /// Whether its time is over. `now` is Unix ms.
    pub fn has_expired(&self, now: i64) -> bool {
        self.expire != 0 && self.expire <= now
    }

    /// What passwords are checked against.
    pub fn password(&self) -> PasswordHash {
        PasswordHash { salt: self.salt.clone(), hash: self.hash.clone() }
    }

    /// As its owner sees it.
    pub fn view(&self) -> Value {
        json!({
            "name": self.name, "tokenUser": self.user_name, "created": self.created, "expire": self.expire,
        })
    }
}

/// Random letters and digits (base64 without `+` and `/`).
fn letters(count: usize) -> String {
    let mut text = String::new();
    while text.len() < count {
        text.extend(STANDARD.encode(random::bytes::<30>()).chars().filter(char::is_ascii_alphanumeric));
    }
    text.truncate(count);
    text
}

/// Every login token of this server, in memory as in the store.
#[derive(Default)]
pub struct LoginTokens {
    tokens: RwLock<HashMap<String, Arc<LoginToken>>>,
}

impl LoginTokens {
    /// Those in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(store: &Store) -> Result<LoginTokens, StoreError> {
        let stored: Vec<(String, LoginToken)> = store.with_prefix(RECORD).await?;
        let tokens = stored.into_iter().map(|(_, token)| (token.user_name.clone(), Arc::new(token)));
        Ok(LoginTokens { tokens: RwLock::new(tokens.collect()) })
    }

    /// The token of a user name, while it is good; names are case-sensitive. `now` is Unix ms.
    pub fn get(&self, user_name: &str, now: i64) -> Option<Arc<LoginToken>> {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(user_name).filter(|token| !token.has_expired(now)).cloned()
    }

    /// The good tokens of an account, oldest first.
    pub fn of(&self, user: &UserId, now: i64) -> Vec<Arc<LoginToken>> {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let mut own: Vec<_> = tokens
            .values()
            .filter(|token| token.userid == *user && !token.has_expired(now))
            .cloned()
            .collect();
        own.sort_by(|a, b| (a.created, &a.user_name).cmp(&(b.created, &b.user_name)));
        own
    }

    /// Adds a token, which is stored when this returns; the account's expired ones go.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added then.
    pub async fn add(
        &self,
        store: &Store,
        token: LoginToken,
        now: i64,
    ) -> Result<Arc<LoginToken>, StoreError> {
        let expired: Vec<_> = {
            let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
            tokens
                .values()
                .filter(|other| other.userid == token.userid && other.has_expired(now))
                .cloned()
                .collect()
        };
        store
            .write(Durability::Durable, |change| {
                for token in &expired {
                    change.delete(&token.id);
                }
                change.put(&token.id, "logintoken", &token);
                Ok::<_, StoreError>(())
            })
            .await?;
        let token = Arc::new(token);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        for token in &expired {
            tokens.remove(&token.user_name);
        }
        tokens.insert(token.user_name.clone(), token.clone());
        Ok(token)
    }

    /// Removes tokens of an account for good; returns those that were there.
    ///
    /// # Errors
    /// [`StoreError`]; they stay then.
    pub async fn remove(
        &self,
        store: &Store,
        user: &UserId,
        which: impl Fn(&LoginToken) -> bool,
    ) -> Result<Vec<Arc<LoginToken>>, StoreError> {
        let removed: Vec<_> = {
            let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
            tokens.values().filter(|token| token.userid == *user && which(token)).cloned().collect()
        };
        store
            .write(Durability::Durable, |change| {
                for token in &removed {
                    change.delete(&token.id);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        for token in &removed {
            tokens.remove(&token.user_name);
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_meshcentral_is_read() {
        let stored = json!({"_id":"logintoken-~t:siHKmtc4BJUBgEOR","type":"logintoken",
            "nodeid":"logintoken-user//admin","userid":"user//admin","name":"tok1",
            "tokenUser":"~t:siHKmtc4BJUBgEOR","salt":"c2FsdA==","hash":"aGFzaA==","domain":"",
            "created":1795454079468i64,"expire":0});
        let token: LoginToken = serde_json::from_value(stored).expect("a token");
        assert!(!token.has_expired(i64::MAX));
        assert_eq!(token.view()["tokenUser"], "~t:siHKmtc4BJUBgEOR");
        assert!(!format!("{token:?}").contains("aGFzaA"), "no secret in a log");
    }

    #[test]
    fn a_new_token_knows_its_password_and_its_time() {
        let bob = UserId::from_name("", "bob").expect("an id");
        let (token, password) = LoginToken::new(&bob, "backup", 1_000, 61_000);
        assert_eq!((token.user_name.len(), password.len()), (19, 20));
        assert!(token.password().matches(&password));
        assert!(!token.password().matches("guess"));
        assert!(!token.has_expired(60_999) && token.has_expired(61_000));
    }
}
