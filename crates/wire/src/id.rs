//! Identifiers: 48-byte hashes, and the ids of users, device groups, devices and user groups.
//!
//! An id is the text `<kind>/<domain>/<key>`; the default domain is the empty string, so the administrator
//! is `user//admin`. Keys of groups and devices are 48 bytes in *base64x*: standard base64 with `+` written
//! `@` and `/` written `$`, which gives exactly 64 characters and no padding.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes in a [`Hash384`].
pub const HASH_LEN: usize = 48;
/// Longest domain name in an id, in bytes.
pub const MAX_DOMAIN: usize = 64;
/// Longest user name accepted for a new account, in characters (data-formats §1).
pub const MAX_USER_NAME: usize = 64;
/// Longest user key accepted in an existing id, in bytes. Single sign-on puts its own subject there.
pub const MAX_USER_KEY: usize = 256;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The kind before the first slash is another one.
    #[error("an id of the form {expected}<domain>/<key> was expected")]
    WrongKind {
        /// The prefix that was expected, such as `node/`.
        expected: &'static str,
    },
    /// The id belongs to another domain than the one it was looked up in.
    #[error("the id belongs to another domain")]
    WrongDomain,
    /// The domain part is too long or has characters outside `A-Z a-z 0-9 . _ -`.
    #[error("the domain part of the id is malformed")]
    BadDomain,
    /// The key part is empty, too long, too short or has forbidden characters.
    #[error("the key part of the id is malformed: {0}")]
    BadKey(&'static str),
    /// Text that should be base64 (or base64x) is not.
    #[error("malformed base64")]
    BadBase64,
    /// Text that should be hexadecimal is not.
    #[error("malformed hexadecimal")]
    BadHex,
    /// The value does not have 48 bytes.
    #[error("{0} bytes where 48 were expected")]
    BadLength(usize),
}

/// Any alphabet is mapped to the standard one first; padding may be there or not, and leftover bits in the
/// last character are ignored, as MeshCentral's decoder does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Base64 with `@` for `+` and `$` for `/`, padding kept.
pub fn base64x_encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes).replace('+', "@").replace('/', "$")
}

/// Decodes base64x leniently: plain `+ /` and the `- _` alphabet are accepted too, padding may be missing.
pub fn base64x_decode(text: &str) -> Result<Vec<u8>, IdError> {
    let plain: Vec<u8> = text
        .bytes()
        .map(|byte| match byte {
            b'@' | b'-' => b'+',
            b'$' | b'_' => b'/',
            other => other,
        })
        .collect();
    LENIENT.decode(plain).map_err(|_| IdError::BadBase64)
}

/// 48 bytes: a SHA-384 digest, or as many random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash384(pub [u8; HASH_LEN]);

impl Hash384 {
    /// All zero: "none" in several commands.
    pub const ZERO: Self = Self([0; HASH_LEN]);

    /// The SHA-384 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA384, bytes);
        Self(digest.as_ref().try_into().expect("SHA-384 has 48 bytes"))
    }

    /// 48 random bytes.
    pub fn random() -> Self {
        Self(crate::random::bytes())
    }

    /// Whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// 64 characters of base64x.
    pub fn to_base64x(&self) -> String {
        base64x_encode(&self.0)
    }

    /// Reads 64 characters of base64x; any spelling that [`base64x_decode`] takes.
    pub fn from_base64x(text: &str) -> Result<Self, IdError> {
        if text.len() > 64 {
            return Err(IdError::BadLength(text.len() / 4 * 3));
        }
        Self::try_from(base64x_decode(text)?.as_slice())
    }

    /// 96 upper-case hexadecimal digits, the spelling of `ServerID` (LAN discovery compares it literally).
    pub fn to_hex(&self) -> String {
        hex_upper(&self.0)
    }

    /// Reads 96 hexadecimal digits of either case.
    pub fn from_hex(text: &str) -> Result<Self, IdError> {
        let mut out = [0; HASH_LEN];
        hex_decode(text, &mut out)?;
        Ok(Self(out))
    }
}

impl TryFrom<&[u8]> for Hash384 {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::BadLength(bytes.len()))
    }
}

impl AsRef<[u8]> for Hash384 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hash384 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash384({}…)", hex_upper(&self.0[..4]))
    }
}

/// Upper-case hexadecimal digits of `bytes`.
pub fn hex_upper(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| DIGITS[usize::from(n)] as char).collect()
}

/// Fills `out` from exactly twice as many hexadecimal digits.
pub(crate) fn hex_decode(text: &str, out: &mut [u8]) -> Result<(), IdError> {
    let digits = text.as_bytes();
    if digits.len() != out.len() * 2 {
        return Err(IdError::BadLength(digits.len() / 2));
    }
    let value = |digit: u8| (digit as char).to_digit(16).ok_or(IdError::BadHex);
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0])? * 16 + value(pair[1])?) as u8;
    }
    Ok(())
}

/// Whether `domain` may stand in an id; the empty string is the default domain.
fn check_domain(domain: &str) -> Result<(), IdError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if domain.len() <= MAX_DOMAIN && domain.bytes().all(legal) { Ok(()) } else { Err(IdError::BadDomain) }
}

/// A user key may be any printable text without the separators that lists and ids use.
fn check_user_key(key: &str) -> Result<(), IdError> {
    if key.is_empty() {
        return Err(IdError::BadKey("empty"));
    }
    if key.len() > MAX_USER_KEY {
        return Err(IdError::BadKey("longer than 256 bytes"));
    }
    if key.chars().any(|c| c.is_control() || matches!(c, '/' | '"' | ',')) {
        return Err(IdError::BadKey("a user name has no slash, quote, comma or control character"));
    }
    Ok(())
}

/// Keys of groups and devices are 64 characters of base64x (old MeshCentral hex keys fit that too).
fn check_hash_key(key: &str) -> Result<(), IdError> {
    if key.len() != 64 {
        return Err(IdError::BadKey("not 64 characters"));
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'$')) {
        return Err(IdError::BadKey("characters outside A-Z a-z 0-9 @ $"));
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $check:ident, $hashed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Checks a full id: its kind, domain, length and characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let rest = text.strip_prefix($prefix).ok_or(IdError::WrongKind { expected: $prefix })?;
                let (domain, key) = rest.split_once('/').ok_or(IdError::WrongKind { expected: $prefix })?;
                check_domain(domain)?;
                $check(key)?;
                Ok(Self(Arc::from(text)))
            }

            /// Makes an id of its parts.
            pub fn new(domain: &str, key: &str) -> Result<Self, IdError> {
                check_domain(domain)?;
                $check(key)?;
                Ok(Self(Arc::from(format!("{}{domain}/{key}", $prefix))))
            }

            /// Makes an id of what a client sent: the key alone (which gets `domain`), or a full id, which
            /// must be of `domain`. Keys that are 48 bytes may also be 96 hexadecimal digits.
            pub fn complete(domain: &str, bare_or_full: &str) -> Result<Self, IdError> {
                if bare_or_full.contains('/') {
                    let id = Self::parse(bare_or_full)?;
                    return if id.domain() == domain { Ok(id) } else { Err(IdError::WrongDomain) };
                }
                if $hashed && bare_or_full.len() == HASH_LEN * 2 {
                    return Self::new(domain, &Hash384::from_hex(bare_or_full)?.to_base64x());
                }
                Self::new(domain, bare_or_full)
            }

            /// The part between the slashes.
            pub fn domain(&self) -> &str {
                self.parts().0
            }

            /// The part after the second slash.
            pub fn key(&self) -> &str {
                self.parts().1
            }

            /// The whole id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn parts(&self) -> (&str, &str) {
                self.0[$prefix.len()..].split_once('/').expect("an id has three parts")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "an id of the form {}<domain>/<key>", $prefix)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

macro_rules! hashed_id {
    ($name:ident) => {
        impl $name {
            /// The id whose key is this hash.
            pub fn of_hash(domain: &str, hash: &Hash384) -> Result<Self, IdError> {
                Self::new(domain, &hash.to_base64x())
            }

            /// An id with a key of 48 random bytes.
            pub fn random(domain: &str) -> Result<Self, IdError> {
                Self::of_hash(domain, &Hash384::random())
            }

            /// The 48 bytes of the key.
            pub fn hash(&self) -> Result<Hash384, IdError> {
                Hash384::from_base64x(self.key())
            }
        }
    };
}

id_type!(
    /// A user: `user/<domain>/<lower-cased name>`.
    UserId, "user/", check_user_key, false
);
id_type!(
    /// A device group: `mesh/<domain>/<48 random bytes>`.
    GroupId, "mesh/", check_hash_key, true
);
id_type!(
    /// A device: `node/<domain>/<hash of the agent's public key>`.
    DeviceId, "node/", check_hash_key, true
);
id_type!(
    /// A user group: `ugrp/<domain>/<48 bytes>`.
    UserGroupId, "ugrp/", check_hash_key, true
);
hashed_id!(GroupId);
hashed_id!(DeviceId);
hashed_id!(UserGroupId);

impl UserId {
    /// The id of the account with this login name, which is lower-cased. At most 64 characters, none of
    /// them a space, quote, comma, slash or control character.
    pub fn from_name(domain: &str, name: &str) -> Result<Self, IdError> {
        if name.chars().count() > MAX_USER_NAME {
            return Err(IdError::BadKey("longer than 64 characters"));
        }
        if name.chars().any(char::is_whitespace) {
            return Err(IdError::BadKey("a user name has no spaces"));
        }
        Self::new(domain, &name.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A captured group id in both spellings (agent-protocol §3.2).
    const GROUP_TEXT: &str = "KqSpg1nXR8ruhI57GXYzg9CEOmMEE84PvwJ0CWF0U9bEUFR@gcJK0z4tsDr2W7Yr";
    const GROUP_HEX: &str =
        "2AA4A98359D747CAEE848E7B19763383D0843A630413CE0FBF027409617453D6C450547E81C24AD33E2DB03AF65BB62B";

    #[test]
    fn captured_group_id_has_both_spellings() {
        let hash = Hash384::from_hex(GROUP_HEX).unwrap();
        assert_eq!(hash.to_base64x(), GROUP_TEXT);
        assert_eq!(Hash384::from_base64x(GROUP_TEXT).unwrap(), hash);
        assert_eq!(hash.to_hex(), GROUP_HEX);
        assert_eq!(Hash384::from_hex(&GROUP_HEX.to_lowercase()).unwrap(), hash);
        let id = GroupId::complete("", GROUP_TEXT).unwrap();
        assert_eq!(id.as_str(), format!("mesh//{GROUP_TEXT}"));
        assert_eq!(id.hash().unwrap(), hash);
        assert_eq!(GroupId::complete("", GROUP_HEX).unwrap(), id);
        assert_eq!(GroupId::complete("", id.as_str()).unwrap(), id);
    }

    #[test]
    fn hash_is_sha384() {
        assert!(Hash384::of(b"abc").to_hex().starts_with("CB00753F45A35E8BB5A03D699AC65007272C32AB0EDED163"));
        assert!(!Hash384::random().is_zero());
        assert!(Hash384::ZERO.is_zero());
        assert!(Hash384::from_hex("zz").is_err());
        assert_eq!(Hash384::from_hex(&"é".repeat(48)), Err(IdError::BadHex));
    }

    #[test]
    fn base64x_is_lenient_when_reading() {
        let bytes = [0xfb, 0xff, 0xfe, 0x00];
        assert_eq!(base64x_encode(&bytes), "@$$@AA==");
        for text in ["@$$@AA==", "@$$@AA", "+//+AA==", "-__-AA", "+//+AA="] {
            assert_eq!(base64x_decode(text).unwrap(), bytes, "{text}");
        }
        for text in ["@$$@A*", "A", "=", "AA=A", "AAAA AAAA"] {
            assert!(base64x_decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_and_refusals() {
        let user = UserId::from_name("", "Admin").unwrap();
        assert_eq!((user.as_str(), user.domain(), user.key()), ("user//admin", "", "admin"));
        let other = UserId::parse("user/sales/~google:123").unwrap();
        assert_eq!((other.domain(), other.key()), ("sales", "~google:123"));
        for text in [
            "",
            "user",
            "user/",
            "user//",
            "node//admin",
            "user//a/b",
            "user//a,b",
            "user//a\"b",
            "user//a\n",
        ] {
            assert!(UserId::parse(text).is_err(), "{text:?}");
        }
        assert!(UserId::from_name("", "a b").is_err());
        assert!(UserId::from_name("", &"x".repeat(65)).is_err());
        assert!(UserId::parse("user/do main/x").is_err());
        let short = &GROUP_TEXT[1..];
        assert_eq!(DeviceId::complete("", short), Err(IdError::BadKey("not 64 characters")));
        assert!(DeviceId::parse(&format!("node//{}", GROUP_TEXT.replace('@', "+"))).is_err());
        assert_eq!(DeviceId::complete("", &format!("node/other/{GROUP_TEXT}")), Err(IdError::WrongDomain));
    }

    #[test]
    fn serde_checks_what_it_reads() {
        let id: GroupId = serde_json::from_str(&format!("\"mesh//{GROUP_TEXT}\"")).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"mesh//{GROUP_TEXT}\""));
        assert!(serde_json::from_str::<GroupId>("\"mesh//short\"").is_err());
        assert!(serde_json::from_str::<GroupId>("5").is_err());
    }
}
