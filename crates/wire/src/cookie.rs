//! Encrypted cookies: small JSON objects that only the server can make and read (data-formats §5).
//!
//! They travel in URLs: logins, relay tickets, invitations. The text is base64x of
//! `iv[12] ‖ tag[16] ‖ AES-256-GCM(JSON)`; a second form, for clients without GCM, is
//! `iv[16] ‖ AES-256-CBC(HMAC-SHA384(JSON) ‖ JSON)`. The MAC of the second form is enforced.

use std::fmt;

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    id::{IdError, base64x_decode, base64x_encode, hex_decode, hex_upper},
    random,
};

/// Bytes in a [`CookieKey`]: 48 for the MAC and 32 for CBC; GCM uses the first 32.
pub const KEY_LEN: usize = 80;
/// Longest cookie text that is looked at, in bytes. Real ones stay below 1 KiB.
pub const MAX_COOKIE: usize = 8192;
/// How far ahead of our clock a cookie may have been made, in seconds.
pub const CLOCK_SKEW: i64 = 30;

const GCM_IV: usize = 12;
const GCM_TAG: usize = 16;
const CBC_IV: usize = 16;
const MAC_LEN: usize = 48;

/// The secret behind a kind of cookie: 80 bytes, stored as 160 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieKey([u8; KEY_LEN]);

impl CookieKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(random::bytes())
    }

    /// Reads 160 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, IdError> {
        let mut key = [0; KEY_LEN];
        hex_decode(text, &mut key)?;
        Ok(Self(key))
    }

    /// 160 hexadecimal digits, lower case, as MeshCentral stores it.
    pub fn to_hex(&self) -> String {
        hex_upper(&self.0).to_ascii_lowercase()
    }

    fn gcm(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0[..32]).expect("the key has 32 bytes"))
    }

    fn mac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA384, &self.0[..MAC_LEN])
    }
}

/// Never the key itself.
impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

/// Why a cookie was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Longer than [`MAX_COOKIE`].
    #[error("the cookie is longer than {MAX_COOKIE} bytes")]
    TooLong,
    /// Not base64x, or too short to hold anything.
    #[error("the cookie is not encoded as one")]
    BadEncoding,
    /// Not made with this key, or changed since.
    #[error("the cookie was not made with this key")]
    NotAuthentic,
    /// The content is not a JSON object.
    #[error("the cookie holds no object")]
    NotAnObject,
    /// A time field is missing or not a number.
    #[error("the cookie's field {0:?} is missing or not a number")]
    BadTime(&'static str),
    /// Its lifetime is over.
    #[error("the cookie is {age} seconds old, its lifetime was {limit}")]
    Expired {
        /// Seconds since it was made.
        age: i64,
        /// Seconds it was good for.
        limit: i64,
    },
    /// Made more than [`CLOCK_SKEW`] seconds ahead of our clock.
    #[error("the cookie was made {ahead} seconds in the future")]
    FromFuture {
        /// Seconds between our clock and its time.
        ahead: i64,
    },
}

/// Makes a cookie of `payload`, adding the field `time`.
///
/// # Panics
/// If `payload` does not serialise to a JSON object.
pub fn seal<T: Serialize>(key: &CookieKey, payload: &T, now_unix_seconds: i64) -> String {
    let mut json = with_time(payload, now_unix_seconds);
    let iv: [u8; GCM_IV] = random::bytes();
    let tag = key
        .gcm()
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut json)
        .expect("a cookie is far below the limit of GCM");
    base64x_encode(&[&iv, tag.as_ref(), &json].concat())
}

/// Makes a cookie in the second form, for readers without GCM.
///
/// # Panics
/// As [`seal`].
pub fn seal_without_gcm<T: Serialize>(key: &CookieKey, payload: &T, now_unix_seconds: i64) -> String {
    let json = with_time(payload, now_unix_seconds);
    let mac = hmac::sign(&key.mac(), &json);
    seal_cbc(key, mac.as_ref(), &json)
}

fn seal_cbc(key: &CookieKey, mac: &[u8], json: &[u8]) -> String {
    let iv: [u8; CBC_IV] = random::bytes();
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(&key.0[MAC_LEN..], &iv).expect("32 and 16 bytes");
    let sealed = cipher.encrypt_padded_vec::<Pkcs7>(&[mac, json].concat());
    base64x_encode(&[&iv[..], &sealed].concat())
}

fn with_time<T: Serialize>(payload: &T, now: i64) -> Vec<u8> {
    let Ok(Value::Object(mut map)) = serde_json::to_value(payload) else {
        panic!("a cookie's payload is an object");
    };
    map.insert("time".into(), now.into());
    serde_json::to_vec(&map).expect("an object of plain values")
}

/// Reads a cookie of either form.
///
/// The lifetime is the payload's own `expire` in minutes, or `default_minutes`; 0 means that it never ends.
/// A field `once` (single use) is left for the caller to remember.
pub fn open(
    key: &CookieKey,
    text: &str,
    now_unix_seconds: i64,
    default_minutes: u32,
) -> Result<Map<String, Value>, CookieError> {
    if text.len() > MAX_COOKIE {
        return Err(CookieError::TooLong);
    }
    let sealed = decode(text)?;
    let json = open_gcm(key, &sealed).or_else(|| open_cbc(key, &sealed)).ok_or(CookieError::NotAuthentic)?;
    let map: Map<String, Value> = serde_json::from_slice(&json).map_err(|_| CookieError::NotAnObject)?;
    check_age(&map, now_unix_seconds, default_minutes)?;
    Ok(map)
}

/// Base64x, or hexadecimal where a server was configured with `cookieEncoding: "hex"`. A base64 text of
/// nothing but hexadecimal digits does not happen at these lengths.
fn decode(text: &str) -> Result<Vec<u8>, CookieError> {
    let bytes = if text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut bytes = vec![0; text.len() / 2];
        hex_decode(text, &mut bytes).map(|()| bytes)
    } else {
        base64x_decode(text)
    }
    .map_err(|_| CookieError::BadEncoding)?;
    // The shortest object is `{}`.
    if bytes.len() < GCM_IV + GCM_TAG + 2 { Err(CookieError::BadEncoding) } else { Ok(bytes) }
}

fn open_gcm(key: &CookieKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (iv, rest) = sealed.split_first_chunk::<GCM_IV>()?;
    let (tag, body) = rest.split_first_chunk::<GCM_TAG>()?;
    // ring wants the tag at the end.
    let mut buffer = [body, tag].concat();
    let plain = key.gcm().open_in_place(Nonce::assume_unique_for_key(*iv), Aad::empty(), &mut buffer).ok()?;
    let len = plain.len();
    buffer.truncate(len);
    Some(buffer)
}

fn open_cbc(key: &CookieKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (iv, body) = sealed.split_first_chunk::<CBC_IV>()?;
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&key.0[MAC_LEN..], iv).ok()?;
    let plain = cipher.decrypt_padded_vec::<Pkcs7>(body).ok()?;
    let (mac, json) = plain.split_first_chunk::<MAC_LEN>()?;
    hmac::verify(&key.mac(), json, mac).ok()?;
    Some(json.to_vec())
}

fn check_age(map: &Map<String, Value>, now: i64, default_minutes: u32) -> Result<(), CookieError> {
    let number = |name: &'static str| match map.get(name) {
        None => Ok(None),
        // The cast saturates, which is what a lifetime of 10^300 minutes means.
        Some(value) => value.as_f64().map(|n| Some(n.floor() as i64)).ok_or(CookieError::BadTime(name)),
    };
    let made = number("time")?.ok_or(CookieError::BadTime("time"))?;
    let age = now.saturating_sub(made);
    if age < -CLOCK_SKEW {
        return Err(CookieError::FromFuture { ahead: age.saturating_neg() });
    }
    let limit = number("expire")?.unwrap_or(i64::from(default_minutes)).saturating_mul(60);
    if limit != 0 && age > limit { Err(CookieError::Expired { age, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_795_454_208;

    #[test]
    fn both_forms_make_the_round_trip() {
        let key = CookieKey::generate();
        let payload = json!({"u": "user//admin", "a": 3});
        for text in [seal(&key, &payload, NOW), seal_without_gcm(&key, &payload, NOW)] {
            let map = open(&key, &text, NOW + 119, 2).unwrap();
            assert_eq!(Value::Object(map), json!({"u": "user//admin", "a": 3, "time": NOW}));
            assert!(!text.contains(['+', '/', ' ']));
            // Percent-decoding and other alphabets on the way do no harm.
            let other: String = text.trim_end_matches('=').replace('@', "-").replace('$', "_");
            assert!(open(&key, &other, NOW, 2).is_ok());
            let hex = hex_upper(&base64x_decode(&text).unwrap()).to_lowercase();
            assert!(open(&key, &hex, NOW, 2).is_ok());
        }
    }

    #[test]
    fn key_of_the_database_is_read_and_written() {
        let key = CookieKey::from_hex(&"0aF1".repeat(40)).unwrap();
        assert_eq!(key.to_hex(), "0af1".repeat(40));
        assert!(CookieKey::from_hex("0af1").is_err());
        assert_eq!(format!("{key:?}"), "CookieKey(…)");
    }

    /// Made by another AES implementation with the key 00 01 … 4f.
    #[test]
    fn a_cookie_made_elsewhere_opens() {
        let key = CookieKey(std::array::from_fn(|i| i as u8));
        for text in [ELSEWHERE_GCM, ELSEWHERE_CBC] {
            let map = open(&key, text, 1_700_000_000, 2).unwrap();
            assert_eq!(map["u"], "user//admin");
            assert_eq!(map["a"], 3);
        }
        assert_eq!(open(&key, ELSEWHERE_GARBAGE_MAC, 1_700_000_000, 2), Err(CookieError::NotAuthentic));
    }
    const ELSEWHERE_GCM: &str =
        "ZGVmZ2hpamtsbW5vEueHLZJTuvw47MREDAR9pTM5q0RDyyPtWxBwx7sBB5Qs4Coo6k7JQYvz2CGWxodypd5w8HwiqzTNwwU=";
    const ELSEWHERE_CBC: &str = "yMnKy8zNzs$Q0dLT1NXW1yA5NbLrj06KFHUGBt2LroyOezIj1AyLS7AP4NFLftaaemXC4KLAQDhzJquTni59K00X2nDCObIg@80cSp1A0Y8xh6iTjOQX75lqbudIimNOSRy5rZyrsOyX8Bhk6JQFSQ==";
    const ELSEWHERE_GARBAGE_MAC: &str = "yMnKy8zNzs$Q0dLT1NXW16ImypxbksoMMNKyKCWvC9wjysWKBl7IPyLqe8L0LE9Lxkre3bp$dhnV9qTUVQCdrg5QAvSnCIa1opOMCVypXF8IV7oCYJbxZBYc9yKgUYkzZppfZFlP8rddu7kZL55RlQ==";

    #[test]
    fn any_changed_or_missing_byte_is_refused() {
        let key = CookieKey::generate();
        for text in [seal(&key, &json!({"u": 1}), NOW), seal_without_gcm(&key, &json!({"u": 1}), NOW)] {
            let bytes = base64x_decode(&text).unwrap();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 0x40;
                assert_eq!(open(&key, &base64x_encode(&changed), NOW, 2), Err(CookieError::NotAuthentic));
                assert!(open(&key, &base64x_encode(&bytes[..at]), NOW, 2).is_err());
            }
            assert_eq!(open(&CookieKey::generate(), &text, NOW, 2), Err(CookieError::NotAuthentic));
        }
        for text in ["", "x", "%%%%", "AAAA", &"A".repeat(100)] {
            assert!(open(&key, text, NOW, 2).is_err());
        }
        assert_eq!(open(&key, &"A".repeat(MAX_COOKIE + 1), NOW, 2), Err(CookieError::TooLong));
    }

    #[test]
    fn a_wrong_mac_is_refused_though_it_decrypts() {
        let key = CookieKey::generate();
        let json = format!("{{\"u\":\"user//admin\",\"a\":3,\"time\":{NOW}}}");
        let text = seal_cbc(&key, &[0x55; MAC_LEN], json.as_bytes());
        assert_eq!(open(&key, &text, NOW, 2), Err(CookieError::NotAuthentic));
    }

    #[test]
    fn lifetimes() {
        let key = CookieKey::generate();
        let plain = seal(&key, &json!({}), NOW);
        assert!(open(&key, &plain, NOW + 120, 2).is_ok());
        assert_eq!(open(&key, &plain, NOW + 121, 2), Err(CookieError::Expired { age: 121, limit: 120 }));
        assert!(open(&key, &plain, NOW + 1_000_000, 0).is_ok());
        assert!(open(&key, &plain, NOW - 30, 2).is_ok());
        assert_eq!(open(&key, &plain, NOW - 31, 2), Err(CookieError::FromFuture { ahead: 31 }));
        let own = seal(&key, &json!({"expire": 10}), NOW);
        assert!(open(&key, &own, NOW + 600, 2).is_ok());
        assert!(open(&key, &own, NOW + 601, 60).is_err());
        assert!(open(&key, &seal(&key, &json!({"expire": 0}), NOW), i64::MAX, 2).is_ok());
        assert!(open(&key, &seal(&key, &json!({"expire": -1}), NOW), NOW, 2).is_err());
        assert!(open(&key, &seal(&key, &json!({"expire": 1e300}), NOW), i64::MAX, 2).is_ok());
        let odd = seal(&key, &json!({"expire": "1"}), NOW);
        assert_eq!(open(&key, &odd, NOW, 2), Err(CookieError::BadTime("expire")));
    }
}
