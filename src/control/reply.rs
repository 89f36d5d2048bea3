//! What a request is answered with.

use serde_json::{Map, Value};

use crate::model::Denied;
use crate::store::StoreError;

/// A good outcome.
pub enum Answer {
    /// `result:"ok"`, sent when the client asked to be told.
    Ok,
    /// `result` with another text, sent when the client asked to be told.
    Result(String),
    /// `result:"ok"` with further fields, sent always.
    OkWith(Map<String, Value>),
    /// A message with these fields, sent always.
    Body(Map<String, Value>),
    /// A whole message as JSON text, sent always: for clients that go by the order of its fields, which a map
    /// does not keep.
    Typed(String),
    /// Several answers, in order.
    Several(Vec<Result<Answer, Refusal>>),
    /// Nothing: the answer comes from elsewhere, or none is expected.
    Nothing,
}

impl Answer {
    /// A message of a type of its own, which has an `action` among its fields.
    pub fn typed(message: &impl serde::Serialize) -> Answer {
        Answer::Typed(serde_json::to_string(message).expect("messages are plain data"))
    }
}

/// A request that was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Text for `result`. Those that MeshCentral's clients know are spelt as there.
    pub text: String,
    /// Number of the text, where clients know one (control-protocol §6.5).
    pub msgid: Option<u32>,
    /// Further fields of the answer.
    pub fields: Map<String, Value>,
}

impl Refusal {
    /// A refusal with a text.
    pub fn new(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), msgid: None, fields: Map::new() }
    }

    /// A refusal with a numbered text.
    pub fn numbered(text: impl Into<String>, msgid: u32) -> Refusal {
        Refusal { msgid: Some(msgid), ..Refusal::new(text) }
    }

    /// Adds a field to the answer.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Refusal {
        self.fields.insert(field.into(), value.into());
        self
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        // Whoever may not see a thing must not learn that it exists.
        match denied {
            Denied::NotFound => Refusal::new("Not found"),
            Denied::Forbidden => Refusal::new("Access denied"),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        log::error!("a request failed: {error}");
        match error {
            StoreError::Write(_) => {
                Refusal::new("The server could not write this to its storage; nothing was changed")
            }
            _ => Refusal::new("The server could not read its storage"),
        }
    }
}

/// A map of fields: `fields! { "a" => 1, "b" => x }`; `null` values are kept.
macro_rules! fields {
    ($($name:literal => $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty map is never changed")]
        let mut map = serde_json::Map::new();
        $( map.insert($name.to_owned(), serde_json::json!($value)); )*
        map
    }};
}
pub(crate) use fields;
