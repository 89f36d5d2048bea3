//! Cookies that are good once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest;

/// How long a used cookie is remembered, in seconds: longer than any of them is good.
const REMEMBERED: i64 = 86_400;
/// Used cookies remembered. When there are more, further ones are refused rather than taken twice.
const MOST: usize = 16_384;

/// The cookies that were used.
#[derive(Default)]
pub struct UsedCookies {
    used: Mutex<HashMap<[u8; 32], i64>>,
}

impl UsedCookies {
    /// Notes the use of a cookie; `false` when it was used before. `now` is Unix seconds.
    pub fn take(&self, cookie: &str, now: i64) -> bool {
        let mut hash = [0u8; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, cookie.as_bytes()).as_ref());
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MOST {
            used.retain(|_, at| now - *at < REMEMBERED);
        }
        if used.len() >= MOST || used.contains_key(&hash) {
            return false;
        }
        used.insert(hash, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cookie_is_taken_once() {
        let used = UsedCookies::default();
        assert!(used.take("a", 0) && used.take("b", 0));
        assert!(!used.take("a", 10));
    }
}
