//! Web sessions: the signed cookie, the list of who is logged in, revocation.
//!
//! The cookie carries who and since when, signed with the session key, so sessions survive a restart when
//! `sessionKey` is set. The list in memory is for people to look at; revocations and password changes are
//! what the store keeps.
//!
//! The clock may be set while somebody is logged in: a box without a battery learns the time late. A session's age is
//! what has really passed: jumps of the clock are noticed beside a time that does not jump, and left out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outpost_wire::id::UserId;
use outpost_wire::random;
use ring::hmac;
use ring::rand::SystemRandom;
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
    /// User name of the login token it was opened with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
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
    /// User name of the login token it was opened with; the session is good while the token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
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
    jumps: Jumps,
    /// The latest moment that a session began at, Unix ms.
    latest: i64,
}

/// Differences of the clock below this are drift, or a time server's small corrections.
const JUMP_MS: i64 = 30_000;
/// Jumps remembered. The oldest go first: their sessions are old as well.
const JUMPS: usize = 64;

/// When the clock was set, and by how much.
#[derive(Default)]
struct Jumps {
    /// Clock and steady time when they were last looked at, ms.
    seen: Option<(i64, i64)>,
    /// The clock just before, and how far it went, ms.
    all: VecDeque<(i64, i64)>,
}

impl Jumps {
    fn note(&mut self, now: i64, steady: Duration) {
        let steady = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
        if let Some((clock, then)) = self.seen.replace((now, steady)) {
            let expected = clock.saturating_add(steady - then);
            let jump = now.saturating_sub(expected);
            if jump.abs() >= JUMP_MS {
                self.all.push_back((expected, jump));
                if self.all.len() > JUMPS {
                    self.all.pop_front();
                }
            }
        }
    }

    /// What has passed since a session began, ms.
    fn age(&self, began: i64, now: i64) -> i64 {
        if began > now {
            // By a clock that was ahead, and has been set back since.
            let back = self.all.iter().rev().find(|(before, jump)| *jump < 0 && *before >= began);
            return back.map_or(0, |(before, jump)| (before - began) + (now - (before + jump)).max(0));
        }
        let jumped = self.all.iter().filter(|(before, jump)| *jump > 0 && *before >= began);
        now.saturating_sub(began) - jumped.map(|(_, jump)| jump).sum::<i64>()
    }
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
        let state = State { revoked: revoked.ids, ..State::default() };
        Sessions { key, lifetime, ip_check, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notices whether the clock was set. `now` is the clock, Unix ms; `steady` a time that nobody sets.
    pub fn note_clock(&self, now: i64, steady: Duration) {
        self.state().jumps.note(now, steady);
    }

    /// A moment after the beginning of every session so far, for what ends them: now, unless the clock was set back.
    pub fn after_all(&self, now: i64) -> i64 {
        now.max(self.state().latest + 1)
    }

    /// Begins a session, with a login token's user name when it was opened with one; returns it with the value
    /// of its cookie.
    pub fn begin(
        &self,
        user: &UserId,
        token: Option<&str>,
        ip: IpAddr,
        user_agent: &str,
        now: i64,
    ) -> (WebSession, String) {
        let claims = Claims {
            userid: user.clone(),
            x: URL_SAFE_NO_PAD.encode(random::bytes::<18>()),
            t: now,
            ip,
            token: token.map(str::to_owned),
        };
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).expect("claims are plain data"));
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, payload.as_bytes()));
        let session = self.list(&claims, ip, user_agent, now);
        let mut state = self.state();
        state.latest = state.latest.max(now);
        drop(state);
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
        if lifetime.is_some_and(|lifetime| self.state().jumps.age(claims.t, now) > lifetime) {
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
            token: claims.token.clone(),
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
        let (_, cookie) = sessions(Some("0123456789abcdef")).begin(&bob, None, home(), "Browser", 1000);
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
        let (_, cookie) = sessions.begin(&bob, None, home(), "Browser", 1000);
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
        let (session, cookie) = sessions.begin(&bob_id, None, home(), "Browser", 1000);
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
    fn a_clock_that_is_set_logs_nobody_out_and_keeps_nobody_in() {
        let (directory, bob) = directory(bob());
        let sessions = sessions(None);
        let steady = Duration::from_secs;
        let good = |cookie: &str, now| sessions.check(cookie, home(), "", &directory, now).is_ok();
        sessions.note_clock(1000, steady(1));
        let (_, before) = sessions.begin(&bob, None, home(), "Browser", 1000);
        // Ten seconds later a browser sets it a year ahead. A session lives for 60 s.
        let year = 365 * 86_400_000;
        sessions.note_clock(year, steady(11));
        assert!(good(&before, year), "ten seconds have passed");
        let (_, after) = sessions.begin(&bob, None, home(), "Browser", year);
        sessions.note_clock(year + 51_000, steady(62));
        assert!(!good(&before, year + 51_000), "61 seconds have");
        assert!(good(&after, year + 51_000));
        // And back again.
        sessions.note_clock(100_000, steady(70));
        assert!(good(&after, 100_000), "59 seconds");
        sessions.note_clock(102_000, steady(72));
        assert!(!good(&after, 102_000), "61 seconds");
        assert!(
            sessions.after_all(102_000) > year,
            "a new password ends sessions of the clock that was ahead"
        );
    }

    #[test]
    fn a_stolen_cookie_does_not_work_from_far_away() {
        let (directory, bob) = directory(bob());
        let sessions = sessions(None);
        let (_, cookie) = sessions.begin(&bob, None, home(), "Browser", 1000);
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
