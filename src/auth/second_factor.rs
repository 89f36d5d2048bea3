//! The second factor of an account: codes of an authenticator app (TOTP) and backup codes.
//!
//! Stored as MeshCentral stores them, in `otpsecret` and `otpkeys` of the user record (data-formats §2.1).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use outpost_wire::cookie::{self, CookieKey};
use outpost_wire::id::UserId;
use outpost_wire::random;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Secret, TOTP};

use super::throttle::Network;
use crate::model::User;

/// Seconds that one code is for (RFC 6238, and what every app assumes).
const STEP: u64 = 30;
/// Codes of this many steps before and after now are taken (config §14): clocks of phones and boxes differ.
const TOLERANCE: i64 = 2;
/// Bytes of a new secret: those of SHA-1's output, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
/// Shortest secret taken, in bytes: those of MeshCentral have 10.
const SHORTEST_SECRET: usize = 10;
/// Backup codes made at once.
const BACKUP_CODES: usize = 10;
/// Backup codes are numbers below this: 8 digits.
const BACKUP_LIMIT: u32 = 100_000_000;
/// Accounts whose last code is remembered.
const REMEMBERED: usize = 4096;

/// A code that works once, for the day the phone is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupCode {
    /// The number; shown with leading zeros as 8 digits.
    pub number: u32,
    /// It has not been used.
    pub unused: bool,
}

impl BackupCode {
    /// As MeshCentral keeps and sends it: `{"p":12345678,"u":true}`.
    pub fn to_json(self) -> Value {
        json!({ "p": self.number, "u": self.unused })
    }

    fn read(value: &Value) -> Option<BackupCode> {
        let number = u32::try_from(value.get("p")?.as_u64()?).ok().filter(|number| *number < BACKUP_LIMIT)?;
        Some(BackupCode { number, unused: value.get("u").and_then(Value::as_bool).unwrap_or(false) })
    }
}

/// What an account has set up beside its password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondFactor {
    secret: Option<String>,
    codes: Vec<BackupCode>,
    /// A factor that this server cannot check (a security key set up on another server).
    foreign: bool,
}

/// Which factor a code proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The app's code of this time step.
    App {
        /// Number of the 30 s step.
        step: u64,
    },
    /// This backup code, which is used up now.
    Backup(BackupCode),
}

impl SecondFactor {
    /// Fields of a user record that hold second factors, those of other servers included.
    pub const FIELDS: [&str; 3] = ["otpsecret", "otpkeys", "otphkeys"];

    /// What a user has.
    pub fn of(user: &User) -> SecondFactor {
        let text = |name: &str| user.extra.get(name).and_then(Value::as_str).map(str::to_owned);
        let codes = user.extra.get("otpkeys").and_then(|keys| keys.get("keys")).and_then(Value::as_array);
        let has_keys =
            |name: &str| user.extra.get(name).and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
        SecondFactor {
            secret: text("otpsecret").filter(|secret| decode(secret).is_some()),
            codes: codes.map(|codes| codes.iter().filter_map(BackupCode::read).collect()).unwrap_or_default(),
            foreign: has_keys("otphkeys"),
        }
    }

    /// Whether a login needs more than the password. Backup codes alone are no factor.
    pub fn is_set_up(&self) -> bool {
        self.secret.is_some() || self.foreign
    }

    /// Whether an authenticator app is set up.
    pub fn has_app(&self) -> bool {
        self.secret.is_some()
    }

    /// The backup codes.
    pub fn backup_codes(&self) -> &[BackupCode] {
        &self.codes
    }

    /// What a code proves at a moment (Unix seconds), if anything. Zeros that an app's code begins with may be missing:
    /// `meshctrl --token 012345` sends `12345`.
    pub fn check(&self, code: &str, now: i64) -> Option<Proof> {
        if !self.is_set_up() || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match code.len() {
            1..=6 => {
                step_of(self.secret.as_ref()?, &format!("{code:0>6}"), now).map(|step| Proof::App { step })
            }
            8 => {
                let number: u32 = code.parse().ok()?;
                self.codes
                    .iter()
                    .find(|code| code.unused && code.number == number)
                    .copied()
                    .map(Proof::Backup)
            }
            _ => None,
        }
    }

    /// The record's value of `otpkeys` once a code is used up.
    pub fn without(&self, used: BackupCode) -> Value {
        let codes = self
            .codes
            .iter()
            .map(|code| BackupCode { unused: code.unused && code.number != used.number, ..*code }.to_json());
        json!({ "keys": codes.collect::<Vec<_>>() })
    }
}

fn decode(secret: &str) -> Option<Vec<u8>> {
    let bytes = Secret::Encoded(secret.to_ascii_uppercase()).to_bytes().ok()?;
    (SHORTEST_SECRET..=128).contains(&bytes.len()).then_some(bytes)
}

/// The time step whose code this is, within the tolerance.
fn step_of(secret: &str, code: &str, now: i64) -> Option<u64> {
    let app = TOTP::new_unchecked(Algorithm::SHA1, 6, 0, STEP, decode(secret)?);
    let current = now.div_euclid(STEP.cast_signed());
    let steps = (current - TOLERANCE..=current + TOLERANCE).filter_map(|step| u64::try_from(step).ok());
    // All are computed, so that the time taken does not tell which one it was.
    steps.fold(
        None,
        |found, step| {
            if constant_time_equal(&app.generate(step * STEP), code) { Some(step) } else { found }
        },
    )
}

fn constant_time_equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Whether a code is that of a secret now; for setting the app up.
pub fn fits(secret: &str, code: &str, now: i64) -> bool {
    step_of(secret, code, now).is_some()
}

/// A new secret, base32 without padding.
pub fn new_secret() -> String {
    Secret::Raw(random::bytes::<SECRET_BYTES>().to_vec())
        .to_encoded()
        .to_string()
        .trim_end_matches('=')
        .to_owned()
}

/// What an app reads from a QR code: the secret of `account` at `issuer`.
pub fn app_url(secret: &str, issuer: &str, account: &str) -> String {
    let part = |text: &str| {
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        encoded.replace('+', "%20")
    };
    let (issuer, account) = (part(issuer), part(account));
    format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&period={STEP}&digits=6&algorithm=SHA1&issuer={issuer}"
    )
}

/// Ten new, different backup codes.
pub fn new_backup_codes() -> Vec<BackupCode> {
    let mut codes: Vec<BackupCode> = Vec::with_capacity(BACKUP_CODES);
    // Numbers above the last full multiple would make the low ones more likely.
    let fair = u32::MAX - u32::MAX % BACKUP_LIMIT;
    while codes.len() < BACKUP_CODES {
        let number = u32::from_le_bytes(random::bytes());
        // Eight digits without a leading zero read the same for clients that drop zeros.
        let (number, fits) = (number % BACKUP_LIMIT, number < fair);
        if fits && number >= BACKUP_LIMIT / 10 && !codes.iter().any(|code| code.number == number) {
            codes.push(BackupCode { number, unused: true });
        }
    }
    codes
}

/// A cookie by which a browser is known to have shown the second factor, for `days`; `None` when that is 0.
/// `now` is Unix seconds.
pub fn remember(key: &CookieKey, user: &User, days: u32, now: i64) -> Option<String> {
    let claims = json!({ "userid": user.id, "expire": u64::from(days) * 1440 });
    (days > 0).then(|| cookie::seal(key, &claims, now))
}

/// Whether a cookie of [`remember`] is the user's and still good: it is not after a change of the password or
/// of the second factor.
pub fn is_remembered(key: &CookieKey, user: &User, days: u32, text: &str, now: i64) -> bool {
    // Browsers are given it as it is; MeshCentral's clients encode it for a URL.
    let decoded = form_urlencoded::parse(format!("c={text}").as_bytes()).next().map(|(_, c)| c.into_owned());
    let text = decoded.as_deref().unwrap_or(text);
    let Ok(claims) = cookie::open(key, text, now, days.saturating_mul(1440)) else { return false };
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    let made = number(claims.get("time"));
    // Other cookies of the same key have other fields, and are no such proof.
    days > 0
        && claims.get("userid").and_then(Value::as_str) == Some(user.id.as_str())
        && claims.len() == 3
        && claims.contains_key("expire")
        && made * 1000 >= user.sessions_since
        && made >= number(user.extra.get(CHANGED))
}

/// Field of a user record: when the second factor was changed last, Unix seconds.
pub const CHANGED: &str = "otpchanged";

/// The codes of apps that were used last: whoever overhears one elsewhere cannot use it again. The same
/// network may, within the code's minute and a half, because scripts log in for every command.
#[derive(Default)]
pub struct UsedCodes {
    last: Mutex<HashMap<UserId, (u64, Network)>>,
}

impl UsedCodes {
    /// Notes the use of a step's code; `false` when it was used from elsewhere, or a later one was.
    pub fn take(&self, user: &UserId, step: u64, from: IpAddr) -> bool {
        let from = Network::from(from);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, by)) = last.get(user)
            && *by != from
            && step <= *used
        {
            return false;
        }
        if last.len() >= REMEMBERED
            && !last.contains_key(user)
            && let Some(oldest) = last.iter().min_by_key(|(_, (step, _))| *step).map(|(user, _)| user.clone())
        {
            last.remove(&oldest);
        }
        let newest = last.get(user).map_or(step, |(used, _)| step.max(*used));
        last.insert(user.clone(), (newest, from));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238's key, base32.
    const RFC_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn user(fields: Value) -> User {
        let mut record = json!({ "_id": "user//bob", "name": "Bob" });
        record.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        serde_json::from_value(record).expect("a user")
    }

    #[test]
    fn the_codes_of_the_rfc() {
        // RFC 6238, appendix B, SHA-1, the last six digits.
        let factor = SecondFactor::of(&user(json!({ "otpsecret": RFC_SECRET })));
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924")] {
            assert_eq!(factor.check(code, time), Some(Proof::App { step: time as u64 / 30 }), "{time}");
            assert!(factor.check(code, time + 60).is_some(), "a minute late");
            assert_eq!(factor.check(code, time + 120), None, "two minutes late");
            assert_eq!(factor.check(code, time - 120), None, "two minutes early");
        }
        for (time, code) in [(1_111_111_109, "81804"), (1_234_567_890, "5924")] {
            assert!(factor.check(code, time).is_some(), "{code}: its zeros are missing");
        }
        for wrong in ["287083", "28708", "2870820", "28708a", "", "**email**", "２８７０８２"] {
            assert_eq!(factor.check(wrong, 59), None, "{wrong}");
        }
    }

    #[test]
    fn a_backup_code_works_once() {
        let keys = json!({ "keys": [{ "p": 1234567, "u": true }, { "p": 43013952, "u": false }] });
        let account = user(json!({ "otpsecret": RFC_SECRET, "otpkeys": keys }));
        let factor = SecondFactor::of(&account);
        let Some(Proof::Backup(code)) = factor.check("01234567", 0) else { panic!("a backup code") };
        assert_eq!(factor.check("43013952", 0), None, "used before");
        assert_eq!(factor.check("1234567", 0), None, "seven digits");
        let after = user(json!({ "otpsecret": RFC_SECRET, "otpkeys": factor.without(code) }));
        assert_eq!(SecondFactor::of(&after).check("01234567", 0), None);
        // Codes alone do not make a second factor.
        assert!(!SecondFactor::of(&user(json!({ "otpkeys": keys }))).is_set_up());
    }

    #[test]
    fn a_key_of_another_server_still_locks() {
        let account = user(json!({ "otphkeys": [{ "name": "key", "type": 3 }] }));
        assert!(SecondFactor::of(&account).is_set_up());
        assert!(!SecondFactor::of(&user(json!({ "otpsecret": "AAAA", "otphkeys": [] }))).is_set_up());
    }

    #[test]
    fn new_secrets_and_codes_are_good() {
        let secret = new_secret();
        assert_eq!(secret.len(), 32);
        assert_eq!(decode(&secret).expect("base32").len(), SECRET_BYTES);
        assert_ne!(secret, new_secret());
        let codes = new_backup_codes();
        assert_eq!(codes.len(), 10);
        assert!(codes.iter().all(|code| code.unused && code.number >= 10_000_000));
        let url = app_url(&secret, "outpost.local", "Ada Lovelace");
        assert!(url.starts_with("otpauth://totp/outpost.local:Ada%20Lovelace?secret="), "{url}");
    }

    #[test]
    fn a_remembered_browser_is_forgotten_with_a_change() {
        let key = CookieKey::generate();
        let bob = user(json!({}));
        let text = remember(&key, &bob, 30, 1000).expect("a cookie");
        assert!(is_remembered(&key, &bob, 30, &text, 2000));
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        assert!(is_remembered(&key, &bob, 30, &encoded, 2000));
        assert!(!is_remembered(&key, &bob, 30, &text, 1000 + 31 * 86_400));
        assert!(!is_remembered(&key, &bob, 0, &text, 2000), "switched off since");
        assert!(!is_remembered(&key, &user(json!({ "sessionsSince": 1_000_001 })), 30, &text, 2000));
        assert!(!is_remembered(&key, &user(json!({ "otpchanged": 1001 })), 30, &text, 2000));
        let login = cookie::seal(&key, &json!({ "userid": bob.id, "domainid": "" }), 1000);
        assert!(!is_remembered(&key, &bob, 30, &login, 1001), "a login cookie is no second factor");
        assert_eq!(remember(&key, &bob, 0, 1000), None);
    }

    #[test]
    fn a_code_is_not_used_again_from_elsewhere() {
        let used = UsedCodes::default();
        let bob = UserId::from_name("", "bob").expect("an id");
        let (here, there) = ([10, 0, 0, 1].into(), [203, 0, 113, 5].into());
        assert!(used.take(&bob, 100, here));
        assert!(used.take(&bob, 100, here), "the next command of a script");
        assert!(!used.take(&bob, 100, there));
        assert!(used.take(&bob, 101, there));
        assert!(!used.take(&bob, 100, here), "an earlier code");
    }
}
