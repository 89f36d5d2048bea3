//! What every upload of files by a form has in common: who sends it, its small fields, and how it is refused.

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use outpost_wire::id::UserId;

use super::authentication::{Proven, by_session};
use super::request::{Connection, same_origin};
use crate::files::FileError;
use crate::site::Site;

/// Longest value of a field that is no file, in bytes.
const LONGEST_FIELD: usize = 8 << 10;
/// Most fields of a form.
pub(super) const MOST_FIELDS: usize = 256;

/// Why an upload is refused.
pub(super) enum Refused {
    Unauthorised,
    NoPlace,
    /// There is no room for more of this user's.
    Quota(UserId),
    Bad(String),
    Failed(String),
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Refused {
        match error {
            FileError::NoOwner | FileError::Missing | FileError::TooDeep => Refused::NoPlace,
            FileError::Io(error) => Refused::Failed(error.to_string()),
            other => Refused::Bad(other.to_string()),
        }
    }
}

impl Refused {
    /// A form has too many fields.
    pub(super) fn too_many_fields() -> Refused {
        Refused::Bad(format!("a form has at most {MOST_FIELDS} fields"))
    }

    /// The answer; `full` is what is said when there is no room.
    pub(super) fn answer(self, full: &'static str) -> Response<Body> {
        match self {
            Refused::Unauthorised => StatusCode::UNAUTHORIZED.into_response(),
            Refused::NoPlace => StatusCode::NOT_FOUND.into_response(),
            Refused::Bad(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
            Refused::Quota(_) => (StatusCode::PAYLOAD_TOO_LARGE, format!("{full}\n")).into_response(),
            Refused::Failed(reason) => {
                log::error!("an upload failed: {reason}");
                (StatusCode::INSUFFICIENT_STORAGE, "The server could not store this.\n").into_response()
            }
        }
    }
}

/// Who sends a form by the session of a page of ours; a field `auth` may say another.
pub(super) fn sender(site: &Site, connection: &Connection, headers: &HeaderMap) -> Option<Proven> {
    let ours = same_origin(headers, &site.config.domain("").allowed_origins, false);
    by_session(site, headers, connection.remote.ip().to_canonical()).filter(|_| ours)
}

/// The value of a field that is no file.
pub(super) async fn text(mut field: Field<'_>) -> Result<String, Refused> {
    let mut value = Vec::new();
    while let Some(part) = field.chunk().await.map_err(|error| Refused::Bad(error.to_string()))? {
        if value.len() + part.len() > LONGEST_FIELD {
            return Err(Refused::Bad(format!("a field has at most {LONGEST_FIELD} bytes")));
        }
        value.extend_from_slice(&part);
    }
    String::from_utf8(value).map_err(|_| Refused::Bad("a field is no text".into()))
}
