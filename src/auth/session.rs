//! Web sessions: the signed cookie, the list of who is logged in, revocation.
//!
//! The cookie carries who and since when, signed with the session key, so sessions survive a restart when
//! `sessionKey` is set. The list in memory is for people to look at; revocations and password changes are
//! what the store keeps.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outpost_wire::id::UserId;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::throttle::Network;
use crate::config::IpCheck;
use crate::model::{Directory, SiteRights, User};

/// Name of the session cookie, MeshCentral's.
pub const COOKIE: &str = "xid";
/// Longest cookie read, in bytes.
const LONGEST_COOKIE: usize = 1024;
/// Sessions listed; the stalest leave the list (not their session) first.
const LISTED: usize = 1024;
/// Revocations remembered. Older ones are dropped: their browsers are long gone.
const REVOKED: usize = 4096;
/// Longest user agent text kept, in characters.
const LONGEST_USER_AGENT: usize = 256;

/// What the cookie says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    userid: UserId,
    /// Session id.
    x: String,
    /// Issued, Unix ms.
    t: i64,
    /// Address it began at.
    ip: IpAddr,
}

/// Somebody who is logged in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSession {
    /// Session id.
    pub id: String,
    /// Whose.
    #[serde(skip)]
    pub user: UserId,
    /// Last address.
    pub ip: IpAddr,
    /// Browser, as it names itself.
    pub user_agent: String,
    /// Login, Unix ms.
    pub created: i64,
    /// Last use, Unix ms.
    pub last_seen: i64,
}

/// Why a cookie is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not ours, changed, or of an earlier key.
    #[error("not a session of this server")]
    Foreign,
    /// Too old, logged out, revoked, or before a password change.
    #[error("the session has ended")]
    Ended,
    /// Used from too far away.
    #[error("the session began at another address")]
    Moved,
    /// The account is gone or locked.
    #[error("the account cannot log in")]
    NoAccount,
}

/// The sessions of this server.
pub struct Sessions {
    key: hmac::Key,
    lifetime: Option<Duration>,
    ip_check: IpCheck,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listed: HashMap<String, WebSession>,
    revoked: VecDeque<String>,
}

/// Record of the revocations in the store.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Revocations {
    /// Session ids, oldest first.
    pub ids: VecDeque<String>,
}

impl Revocations {
    /// Id of the record.
    pub const ID: &str = "revokedsessions";
}

impl Sessions {
    /// Sessions signed with `key` (random when none: they end with the process), on top of what was revoked
    /// before.
    pub fn new(
        key: Option<&str>,
        lifetime: Option<Duration>,
        ip_check: IpCheck,
        revoked: Revocations,
    ) -> Sessions {
        let key = match key {
            Some(text) => hmac::Key::new(hmac::HMAC_SHA384, text.as_bytes()),
            None => hmac::Key::generate(hmac::HMAC_SHA384, &SystemRandom::new())
                .expect("the system gives random bytes"),
        };
        let state = State { listed: HashMap::new(), revoked: revoked.ids };
        Sessions { key, lifetime, ip_check, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; returns it with the value of its cookie.
    pub fn begin(&self, user: &UserId, ip: IpAddr, user_agent: &str, now: i64) -> (WebSession, String) {
        let mut random = [0u8; 18];
        SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
        let claims = Claims { userid: user.clone(), x: URL_SAFE_NO_PAD.encode(random), t: now, ip };
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).expect("claims are plain data"));
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, payload.as_bytes()));
        let session = self.list(&claims, ip, user_agent, now);
        (session, format!("{payload}.{tag}"))
    }

    /// The session and user of a cookie.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn check<'d>(
        &self,
        cookie: &str,
        ip: IpAddr,
        user_agent: &str,
        directory: &'d Directory,
        now: i64,
    ) -> Result<(WebSession, &'d std::sync::Arc<User>), SessionError> {
        let claims = self.claims(cookie)?;
        let lifetime = self.lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
        if lifetime.is_some_and(|lifetime| now.saturating_sub(claims.t) > lifetime) {
            return Err(SessionError::Ended);
        }
        if self.state().revoked.contains(&claims.x) {
            return Err(SessionError::Ended);
        }
        if !close_enough(self.ip_check, claims.ip, ip) {
            return Err(SessionError::Moved);
        }
        let user = directory.user(&claims.userid).ok_or(SessionError::NoAccount)?;
        if user.siteadmin.restricted_by(SiteRights::LOCKED) {
            return Err(SessionError::NoAccount);
        }
        // An account removed and made again under the same name is not the one that logged in.
        let kept = user.session_kept.as_ref() == Some(&claims.x);
        if (claims.t < user.sessions_since && !kept) || claims.t < user.creation * 1000 {
            return Err(SessionError::Ended);
        }
        Ok((self.list(&claims, ip, user_agent, now), user))
    }

    fn claims(&self, cookie: &str) -> Result<Claims, SessionError> {
        if cookie.len() > LONGEST_COOKIE {
            return Err(SessionError::Foreign);
        }
        let (payload, tag) = cookie.split_once('.').ok_or(SessionError::Foreign)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| SessionError::Foreign)?;
        hmac::verify(&self.key, payload.as_bytes(), &tag).map_err(|_| SessionError::Foreign)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| SessionError::Foreign)?;
        serde_json::from_slice(&payload).map_err(|_| SessionError::Foreign)
    }

    fn list(&self, claims: &Claims, ip: IpAddr, user_agent: &str, now: i64) -> WebSession {
        let mut state = self.state();
        if state.listed.len() >= LISTED && !state.listed.contains_key(&claims.x) {
            let stalest = state
                .listed
                .values()
                .min_by_key(|session| session.last_seen)
                .map(|session| session.id.clone());
            if let Some(stalest) = stalest {
                state.listed.remove(&stalest);
            }
        }
        let session = state.listed.entry(claims.x.clone()).or_insert_with(|| WebSession {
            id: claims.x.clone(),
            user: claims.userid.clone(),
            ip,
            user_agent: user_agent.chars().filter(|c| !c.is_control()).take(LONGEST_USER_AGENT).collect(),
            created: claims.t,
            last_seen: now,
        });
        session.ip = ip;
        session.last_seen = now;
        session.clone()
    }

    /// Ends the session of a cookie, if it is one of ours, and returns its id and user.
    pub fn end(&self, cookie: &str) -> Option<(String, UserId)> {
        let claims = self.claims(cookie).ok()?;
        self.revoke(&claims.x);
        Some((claims.x, claims.userid))
    }

    /// Ends a session by its id.
    pub fn revoke(&self, id: &str) {
        let mut state = self.state();
        state.listed.remove(id);
        if !state.revoked.iter().any(|revoked| revoked == id) {
            state.revoked.push_back(id.to_owned());
        }
        while state.revoked.len() > REVOKED {
            state.revoked.pop_front();
        }
    }

    /// What is to be stored of the revocations.
    pub fn revocations(&self) -> Revocations {
        Revocations { ids: self.state().revoked.clone() }
    }

    /// The listed sessions of a user, newest use first.
    pub fn of(&self, user: &UserId) -> Vec<WebSession> {
        let mut sessions: Vec<WebSession> =
            self.state().listed.values().filter(|session| session.user == *user).cloned().collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.last_seen));
        sessions
    }
}

/// `cookieIpCheck` (control-protocol §1.4).
pub fn close_enough(check: IpCheck, began: IpAddr, now: IpAddr) -> bool {
    let (began, now) = (began.to_canonical(), now.to_canonical());
    match check {
        IpCheck::None => true,
        IpCheck::Strict => began == now,
        IpCheck::Lax => Network::from(began) == Network::from(now) || (is_private(began) && is_private(now)),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn home() -> IpAddr {
        "192.0.2.7".parse().expect("an address")
    }

    fn directory(user: serde_json::Value) -> (Directory, UserId) {
        let user: User = serde_json::from_value(user).expect("a user");
        let id = user.id.clone();
        let mut directory = Directory::default();
        directory.put_user(Arc::new(user));
        (directory, id)
    }

    fn bob() -> serde_json::Value {
        serde_json::json!({ "_id": "user//bob", "name": "Bob" })
    }

    fn sessions(key: Option<&str>) -> Sessions {
        Sessions::new(key, Some(Duration::from_secs(60)), IpCheck::Lax, Revocations::default())
    }

    #[test]
    fn a_session_survives_a_restart_only_with_a_key() {
        let (directory, bob) = directory(bob());
        let (_, cookie) = sessions(Some("0123456789abcdef")).begin(&bob, home(), "Browser", 1000);
        assert!(
            sessions(Some("0123456789abcdef")).check(&cookie, home(), "Browser", &directory, 2000).is_ok()
        );
        let other = sessions(None).check(&cookie, home(), "Browser", &directory, 2000);
        assert_eq!(other.err(), Some(SessionError::Foreign));
    }

    #[test]
    fn a_changed_cookie_is_foreign() {
        let (directory, bob) = directory(bob());
        let sessions = sessions(None);
        let (_, cookie) = sessions.begin(&bob, home(), "Browser", 1000);
        for at in [0, 10, cookie.len() - 2] {
            let mut changed = cookie.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(
                sessions.check(&changed, home(), "", &directory, 1000).err(),
                Some(SessionError::Foreign),
                "byte {at}"
            );
        }
        assert!(sessions.check("", home(), "", &directory, 1000).is_err());
        assert!(sessions.check(&"x".repeat(5000), home(), "", &directory, 1000).is_err());
    }

    #[test]
    fn sessions_end_by_age_logout_password_change_and_removal() {
        let (directory_now, bob_id) = directory(bob());
        let sessions = sessions(None);
        let (session, cookie) = sessions.begin(&bob_id, home(), "Browser", 1000);
        assert_eq!(
            sessions.check(&cookie, home(), "", &directory_now, 62_000).err(),
            Some(SessionError::Ended)
        );
        let mut changed = bob();
        changed["sessionsSince"] = 1001.into();
        assert_eq!(
            sessions.check(&cookie, home(), "", &directory(changed).0, 2000).err(),
            Some(SessionError::Ended)
        );
        let mut locked = bob();
        locked["siteadmin"] = 32.into();
        assert_eq!(
            sessions.check(&cookie, home(), "", &directory(locked).0, 2000).err(),
            Some(SessionError::NoAccount)
        );
        assert_eq!(
            sessions.check(&cookie, home(), "", &Directory::default(), 2000).err(),
            Some(SessionError::NoAccount)
        );
        assert_eq!(sessions.of(&bob_id).len(), 1);
        sessions.revoke(&session.id);
        assert_eq!(
            sessions.check(&cookie, home(), "", &directory_now, 2000).err(),
            Some(SessionError::Ended)
        );
        assert!(sessions.of(&bob_id).is_empty());
        assert_eq!(sessions.revocations().ids, [session.id]);
    }

    #[test]
    fn a_stolen_cookie_does_not_work_from_far_away() {
        let (directory, bob) = directory(bob());
        let sessions = sessions(None);
        let (_, cookie) = sessions.begin(&bob, home(), "Browser", 1000);
        let near: IpAddr = "192.0.2.99".parse().expect("an address");
        let far: IpAddr = "198.51.100.1".parse().expect("an address");
        assert!(sessions.check(&cookie, near, "", &directory, 1000).is_ok());
        assert_eq!(sessions.check(&cookie, far, "", &directory, 1000).err(), Some(SessionError::Moved));
        assert!(close_enough(
            IpCheck::Lax,
            "10.0.0.1".parse().expect("a"),
            "192.168.1.1".parse().expect("b")
        ));
        assert!(!close_enough(IpCheck::Strict, near, home()));
    }
}
