//! Text that a peer sent: limited in length and free of control characters before anybody sees it.
//!
//! A *line* loses every control character; *prose* keeps line feeds, carriage returns and tabs. Both lose
//! the characters that reorder text on a screen. Neither escapes anything: whoever shows it does.

use std::fmt;

use serde::{Deserializer, de};

/// A text was longer than its field allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes where at most {max} are allowed")]
pub struct TooLong {
    /// Bytes that came.
    pub len: usize,
    /// Bytes that are allowed.
    pub max: usize,
}

/// Explicit reordering marks: harmless alone, but they let a host name pretend to be another one.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
}

fn line_drops(c: char) -> bool {
    c.is_control() || reorders(c)
}

fn prose_drops(c: char) -> bool {
    line_drops(c) && !matches!(c, '\n' | '\r' | '\t')
}

fn limited(text: &str, max: usize, drops: fn(char) -> bool) -> Result<String, TooLong> {
    if text.len() > max {
        return Err(TooLong { len: text.len(), max });
    }
    Ok(text.chars().filter(|&c| !drops(c)).collect())
}

/// One line of at most `max` bytes.
pub fn line(text: &str, max: usize) -> Result<String, TooLong> {
    limited(text, max, line_drops)
}

/// Several lines of at most `max` bytes together.
pub fn prose(text: &str, max: usize) -> Result<String, TooLong> {
    limited(text, max, prose_drops)
}

/// The longest beginning of `text` that has at most `max` bytes, for whoever has to fit a field.
pub fn shortened(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Whether `text` is what [`line()`] would leave of it.
pub fn is_line(text: &str) -> bool {
    !text.chars().any(line_drops)
}

/// Whether `text` is what [`prose`] would leave of it.
pub fn is_prose(text: &str) -> bool {
    !text.chars().any(prose_drops)
}

/// Takes a string, or for the optional forms nothing or null.
struct TextVisitor<const MAX: usize, const PROSE: bool>;

impl<'de, const MAX: usize, const PROSE: bool> de::Visitor<'de> for TextVisitor<MAX, PROSE> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {MAX} bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<String>, E> {
        limited(text, MAX, if PROSE { prose_drops } else { line_drops }).map(Some).map_err(E::custom)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// `deserialize_with` for a required line.
pub(crate) fn de_line<'de, const MAX: usize, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    d.deserialize_str(TextVisitor::<MAX, false>)?.ok_or_else(|| de::Error::custom("a text was expected"))
}

/// `deserialize_with` for an optional line; null counts as absent.
pub(crate) fn de_opt_line<'de, const MAX: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<String>, D::Error> {
    d.deserialize_option(TextVisitor::<MAX, false>)
}

/// `deserialize_with` for a required text of several lines.
pub(crate) fn de_prose<'de, const MAX: usize, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    d.deserialize_str(TextVisitor::<MAX, true>)?.ok_or_else(|| de::Error::custom("a text was expected"))
}

/// `deserialize_with` for an optional text of several lines; null counts as absent.
pub(crate) fn de_opt_prose<'de, const MAX: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<String>, D::Error> {
    d.deserialize_option(TextVisitor::<MAX, true>)
}

/// `deserialize_with` for a list of at most `COUNT` lines; null counts as empty.
pub(crate) fn de_lines<'de, const MAX: usize, const COUNT: usize, D: Deserializer<'de>>(
    d: D,
) -> Result<Vec<String>, D::Error> {
    struct Lines<const MAX: usize, const COUNT: usize>;

    impl<'de, const MAX: usize, const COUNT: usize> de::Visitor<'de> for Lines<MAX, COUNT> {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {COUNT} texts of at most {MAX} bytes")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }

        fn visit_none<E: de::Error>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }

        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Vec<String>, D::Error> {
            d.deserialize_seq(self)
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut out = Vec::new();
            while let Some(Line(text)) = seq.next_element::<Line<MAX>>()? {
                if out.len() == COUNT {
                    return Err(de::Error::invalid_length(COUNT + 1, &self));
                }
                out.extend(text);
            }
            Ok(out)
        }
    }

    d.deserialize_option(Lines::<MAX, COUNT>)
}

/// An element of a list; null elements vanish.
struct Line<const MAX: usize>(Option<String>);

impl<'de, const MAX: usize> de::Deserialize<'de> for Line<MAX> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        de_opt_line::<MAX, D>(d).map(Line)
    }
}

/// `deserialize_with` for a number that JavaScript may have written as an integer, a fraction or a text;
/// null counts as absent.
pub(crate) fn de_opt_number<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    struct Number;

    impl<'de> de::Visitor<'de> for Number {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Option<i64>, E> {
            Ok(Some(n))
        }

        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Option<i64>, E> {
            i64::try_from(n).map(Some).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
        }

        fn visit_f64<E: de::Error>(self, n: f64) -> Result<Option<i64>, E> {
            // 2^53: beyond it a fraction no longer names one integer.
            if n.abs() <= 9_007_199_254_740_992.0 {
                Ok(Some(n.trunc() as i64))
            } else {
                Err(E::invalid_value(de::Unexpected::Float(n), &self))
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<i64>, E> {
            text.trim().parse().map(Some).map_err(|_| E::custom("a number was expected, not this text"))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_none<E: de::Error>(self) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Option<i64>, D::Error> {
            d.deserialize_any(self)
        }
    }

    d.deserialize_option(Number)?
        .map(|n| T::try_from(n).map_err(|_| de::Error::custom(format_args!("{n} is out of range"))))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_control_and_reordering_characters() {
        assert_eq!(line("a\u{0}b\u{1b}[31m\r\nc\u{202e}d\u{85}", 99).unwrap(), "ab[31mcd");
        assert_eq!(prose("a\r\n\tb\u{7}", 99).unwrap(), "a\r\n\tb");
        assert_eq!(line("ééé", 5), Err(TooLong { len: 6, max: 5 }));
        assert_eq!(shortened("ééé", 5), "éé");
        assert_eq!(line("<script>", 8).unwrap(), "<script>", "markup is for whoever shows it to escape");
    }
}
