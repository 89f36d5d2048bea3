//! Password hashes in MeshCentral's format, and the domain's password policy.

use outpost_wire::random;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2;
use serde::Serialize;

use crate::config::PasswordPolicy;

/// Rounds of PBKDF2-HMAC-SHA384 (data-formats §4).
const ROUNDS: NonZeroU32 = NonZeroU32::new(12_000).expect("not zero");
/// Bytes of the hash and of the salt (data-formats §4).
const BYTES: usize = 128;
/// Longest password taken, in bytes: hashing more would only help an attacker to keep the server busy.
pub const LONGEST: usize = 1024;

/// A salt and hash as they stand in a user record, both base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    /// The base64 *text* is what goes into PBKDF2, not the bytes it stands for.
    pub salt: String,
    /// The derived bytes.
    pub hash: String,
}

impl PasswordHash {
    /// Hashes a password with a fresh salt. Takes tens of milliseconds: call it where blocking is allowed.
    pub fn of(password: &str) -> PasswordHash {
        let salt = STANDARD.encode(random::bytes::<BYTES>());
        let hash = STANDARD.encode(derive(password, &salt));
        PasswordHash { salt, hash }
    }

    /// Whether this is the password. The comparison takes the same time for every wrong one.
    pub fn matches(&self, password: &str) -> bool {
        let Ok(expected) = STANDARD.decode(&self.hash) else { return false };
        !expected.is_empty()
            && pbkdf2::verify(
                pbkdf2::PBKDF2_HMAC_SHA384,
                ROUNDS,
                self.salt.as_bytes(),
                password.as_bytes(),
                &expected,
            )
            .is_ok()
    }
}

fn derive(password: &str, salt: &str) -> [u8; BYTES] {
    let mut out = [0u8; BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA384, ROUNDS, salt.as_bytes(), password.as_bytes(), &mut out);
    out
}

/// What the policy misses in a password, in words; empty when it is acceptable.
pub fn unmet(policy: &PasswordPolicy, password: &str) -> Vec<String> {
    let mut unmet = Vec::new();
    let length = password.chars().count();
    if password.len() > LONGEST {
        unmet.push(format!("At most {LONGEST} bytes; you have {}", password.len()));
    }
    if password.is_empty() {
        unmet.push("A password".into());
    } else if length < policy.min {
        unmet.push(format!("At least {} characters; you have {length}", policy.min));
    }
    if let Some(max) = policy.max.filter(|max| length > *max) {
        unmet.push(format!("At most {max} characters; you have {length}"));
    }
    let mut demand = |needed: usize, what: &str, counts: fn(char) -> bool| {
        let have = password.chars().filter(|c| counts(*c)).count();
        if have < needed {
            unmet.push(format!("At least {needed} {what}; you have {have}"));
        }
    };
    // The classes are MeshCentral's (config §1.6): ASCII letters and digits, and everything that is not a
    // word character; an underscore counts as none.
    demand(policy.upper, "capital letters", |c| c.is_ascii_uppercase());
    demand(policy.lower, "small letters", |c| c.is_ascii_lowercase());
    demand(policy.numeric, "digits", |c| c.is_ascii_digit());
    demand(policy.nonalpha, "symbols", |c| !c.is_ascii_alphanumeric() && c != '_');
    unmet
}

/// An honest estimate of how long a password stands, for the person choosing it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Strength {
    /// 0 (guessed at once) to 4 (very strong).
    pub score: u8,
    /// Time to guess it against this server's stored hash, in words.
    pub crack_time: String,
    /// What is weak about it.
    pub warning: Option<String>,
    /// What would make it stronger.
    pub suggestions: Vec<String>,
    /// What the policy misses.
    pub unmet: Vec<String>,
    /// The server will take it.
    pub acceptable: bool,
}

/// Judges a password; `context` are words its owner is known by (name, address, server).
pub fn strength(policy: &PasswordPolicy, password: &str, context: &[String]) -> Strength {
    let unmet = unmet(policy, password);
    // zxcvbn's work grows with the square of the length; what comes after 100 characters changes nothing.
    let head: String = password.chars().take(100).collect();
    let words: Vec<&str> = context.iter().map(String::as_str).take(8).collect();
    let estimate = zxcvbn::zxcvbn(&head, &words);
    let feedback = estimate.feedback();
    Strength {
        score: u8::from(estimate.score()),
        crack_time: estimate.crack_times().offline_slow_hashing_1e4_per_second().to_string(),
        warning: feedback.and_then(|feedback| feedback.warning()).map(|warning| warning.to_string()),
        suggestions: feedback
            .map(|feedback| feedback.suggestions().iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        acceptable: unmet.is_empty(),
        unmet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_password_only() {
        let hash = PasswordHash::of("correct horse");
        assert_eq!(hash.salt.len(), 172);
        assert!(hash.matches("correct horse"));
        assert!(!hash.matches("correct horsf"));
        assert!(!hash.matches(""));
        assert_ne!(hash, PasswordHash::of("correct horse"));
        assert!(!PasswordHash { salt: "x".into(), hash: String::new() }.matches(""));
    }

    #[test]
    fn the_policy_says_what_is_missing_with_numbers() {
        let policy = PasswordPolicy { min: 8, upper: 1, nonalpha: 1, ..PasswordPolicy::default() };
        assert_eq!(
            unmet(&policy, "abc_1"),
            [
                "At least 8 characters; you have 5",
                "At least 1 capital letters; you have 0",
                "At least 1 symbols; you have 0"
            ]
        );
        assert!(unmet(&policy, "Abcdefg!").is_empty());
    }

    #[test]
    fn strength_is_honest() {
        let policy = PasswordPolicy::default();
        assert_eq!(strength(&policy, "password", &[]).score, 0);
        assert!(strength(&policy, "kobi ratu menosi palevo", &[]).score >= 4);
        assert!(strength(&policy, "johndoe1985", &["johndoe1985".into()]).score <= 1);
        assert!(!strength(&policy, "", &[]).acceptable);
    }
}
