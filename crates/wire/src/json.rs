//! JSON of a peer, measured before it is built.
//!
//! `[0,0,0,…]` takes two bytes a value on the wire and thirty-two in memory, so the number of values is
//! counted in the text first; then a megabyte of brackets costs one pass and no allocation.

use serde::{Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::text;

/// Most values (commas, colons and brackets outside of texts) in one message. The largest real ones, the network
/// interfaces of a container host and a full inventory, have a few thousand.
pub(crate) const MAX_VALUES: usize = 32_768;
/// Deepest nesting of a peer's JSON; real messages stay below ten.
const MAX_DEPTH: usize = 32;
/// Longest key of an object in a peer's JSON, in bytes. Longer than any id.
const MAX_KEY: usize = 512;

/// Why JSON of a peer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error(transparent)]
    TooLong(#[from] text::TooLong),
    #[error("more than {MAX_VALUES} values, or nested deeper than {MAX_DEPTH}")]
    TooComplex,
    #[error("not a JSON object (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
}

/// Why a free-form value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclean {
    #[error(transparent)]
    TooLong(#[from] text::TooLong),
    #[error("a key has control characters")]
    BadKey,
}

/// Parses one object of at most `max` bytes.
pub(crate) fn object(text: &str, max: usize) -> Result<Map<String, Value>, JsonError> {
    if text.len() > max {
        return Err(text::TooLong { len: text.len(), max }.into());
    }
    measure(text.as_bytes())?;
    serde_json::from_str(text).map_err(|e| JsonError::Syntax { line: e.line(), column: e.column() })
}

fn measure(bytes: &[u8]) -> Result<(), JsonError> {
    let (mut values, mut depth, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for &byte in bytes {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
        if values > MAX_VALUES || depth > MAX_DEPTH {
            return Err(JsonError::TooComplex);
        }
    }
    Ok(())
}

/// Turns an object into a typed record; the error is the path of the wrong field and the reason.
pub(crate) fn typed<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(Value::Object(map)).map_err(|e| {
        // Both may carry text of the peer and end up in a log.
        let short = |s: String| text::line(text::shortened(&s, 256), 256).unwrap_or_default();
        (short(e.path().to_string()), short(e.inner().to_string()))
    })
}

/// Strips control characters from every text of `value`, and refuses texts longer than `max_text`. Keys with
/// control characters are refused, not stripped: one that turned into another field's name would smuggle a
/// value past whoever checks that field.
pub(crate) fn clean(value: Value, max_text: usize) -> Result<Value, Unclean> {
    Ok(match value {
        Value::String(s) => Value::String(text::prose(&s, max_text)?),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|v| clean(v, max_text)).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => Value::Object(clean_map(map, max_text)?),
        other => other,
    })
}

/// [`clean`] for an object.
pub(crate) fn clean_map(map: Map<String, Value>, max_text: usize) -> Result<Map<String, Value>, Unclean> {
    map.into_iter()
        .map(|(key, value)| match text::line(&key, MAX_KEY)? == key {
            true => Ok((key, clean(value, max_text)?)),
            false => Err(Unclean::BadKey),
        })
        .collect()
}

/// `deserialize_with` for a free-form value whose texts have at most `MAX` bytes.
pub(crate) fn de_value<'de, const MAX: usize, D: Deserializer<'de>>(d: D) -> Result<Value, D::Error> {
    clean(serde::Deserialize::deserialize(d)?, MAX).map_err(serde::de::Error::custom)
}

/// `deserialize_with` for an optional free-form value; null counts as absent.
pub(crate) fn de_opt_value<'de, const MAX: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Value>, D::Error> {
    Ok(Some(de_value::<MAX, D>(d)?).filter(|v| !v.is_null()))
}

/// `deserialize_with` for a free-form object; null counts as empty.
pub(crate) fn de_map<'de, const MAX: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Map<String, Value>, D::Error> {
    let map: Option<Map<String, Value>> = serde::Deserialize::deserialize(d)?;
    clean_map(map.unwrap_or_default(), MAX).map_err(serde::de::Error::custom)
}

/// `deserialize_with` for an optional free-form object; null counts as absent.
pub(crate) fn de_opt_map<'de, const MAX: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Map<String, Value>>, D::Error> {
    let map: Option<Map<String, Value>> = serde::Deserialize::deserialize(d)?;
    map.map(|m| clean_map(m, MAX)).transpose().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complexity_is_refused_before_it_costs_memory() {
        let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(MAX_VALUES));
        assert_eq!(object(&wide, usize::MAX), Err(JsonError::TooComplex));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
        assert_eq!(object(&deep, usize::MAX), Err(JsonError::TooComplex));
        let quoted = format!("{{\"a\":\"\\\"{}\"}}", "[{,".repeat(MAX_VALUES));
        assert_eq!(object(&quoted, usize::MAX).unwrap().len(), 1);
        assert!(matches!(object("{}", 1), Err(JsonError::TooLong(_))));
        assert!(matches!(object("[1]", 99), Err(JsonError::Syntax { .. })));
    }
}
