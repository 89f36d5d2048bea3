//! Files as downloads: streamed, in parts when a client asks for some, with something behind them when asked.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::Path;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use outpost_wire::msh::Embedding;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::request::header;
use crate::clock;

/// Bytes read at a time.
const CHUNK: u64 = 64 << 10;

/// A file to be sent.
pub(super) struct Download<'a> {
    /// What it is called where it is saved.
    pub(super) name: &'a str,
    /// When it was made, Unix seconds.
    pub(super) modified: Option<i64>,
    /// What tells this content from another; none when each answer is another.
    pub(super) tag: Option<&'a str>,
}

/// The headers of a download: its name in ASCII, and as it is when that is not enough.
pub(super) fn attachment_headers(name: &str, content_type: &'static str) -> HeaderMap {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ascii: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"");
    if !name.is_ascii() {
        let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        value += &format!("; filename*=UTF-8''{}", encoded.replace('+', "%20").replace('*', "%2A"));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::try_from(value).expect("ASCII without controls"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}

/// A download that is in memory.
pub(super) fn attachment(name: &str, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    (attachment_headers(name, content_type), body.into()).into_response()
}

/// The part of `total` bytes that `Range` asks for; none for all of them.
///
/// # Errors
/// When the part is outside. Several parts, and units other than bytes, are answered with everything.
fn part(range: &str, total: u64) -> Result<Option<Range<u64>>, ()> {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>();
    let part = match (from.trim(), to.trim()) {
        ("", last) => match number(last) {
            Ok(last) => total.saturating_sub(last)..total,
            Err(_) => return Ok(None),
        },
        (from, "") => match number(from) {
            Ok(from) => from..total,
            Err(_) => return Ok(None),
        },
        (from, to) => match (number(from), number(to)) {
            (Ok(from), Ok(to)) if from <= to => from..to.saturating_add(1).min(total),
            _ => return Ok(None),
        },
    };
    if part.start < part.end { Ok(Some(part)) } else { Err(()) }
}

/// Sends a file as it is.
///
/// # Errors
/// When it cannot be opened.
pub(super) async fn send_file(
    headers: &HeaderMap,
    path: &Path,
    download: Download<'_>,
) -> io::Result<Response<Body>> {
    let file = File::open(path).await?;
    let keep = file.metadata().await?.len();
    send(headers, file, Embedding { keep, patches: Vec::new(), tail: Vec::new() }, download).await
}

/// Sends an open file with something behind it.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn send(
    asked: &HeaderMap,
    mut file: File,
    embedding: Embedding,
    download: Download<'_>,
) -> io::Result<Response<Body>> {
    let total = embedding.size();
    let mut headers = attachment_headers(download.name, "application/octet-stream");
    if let Some(modified) = download.modified {
        let date = clock::http_date(modified);
        headers.insert(LAST_MODIFIED, HeaderValue::try_from(date).expect("ASCII"));
    }
    let tag = download.tag.map(|tag| format!("\"{tag}\""));
    if let Some(tag) = &tag {
        headers.insert(ETAG, HeaderValue::try_from(tag.as_str()).expect("hexadecimal"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if header(asked, IF_NONE_MATCH) == tag {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
    }
    let mut status = StatusCode::OK;
    let mut wanted = 0..total;
    // What has no tag may be another thing the next time, so parts of it do not fit together.
    if let Some(tag) = &tag {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let condition = header(asked, IF_RANGE);
        if condition.is_empty() || condition == tag {
            match part(header(asked, RANGE), total) {
                Ok(None) => {}
                Ok(Some(part)) => {
                    let value = format!("bytes {}-{}/{total}", part.start, part.end - 1);
                    headers.insert(CONTENT_RANGE, HeaderValue::try_from(value).expect("ASCII"));
                    status = StatusCode::PARTIAL_CONTENT;
                    wanted = part;
                }
                Err(()) => {
                    let value = HeaderValue::try_from(format!("bytes */{total}")).expect("ASCII");
                    let headers = [(CONTENT_RANGE, value)];
                    return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
                }
            }
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(wanted.end - wanted.start));
    file.seek(SeekFrom::Start(wanted.start.min(embedding.keep))).await?;
    let reading = Reading { file, embedding, wanted };
    let body = Body::from_stream(stream::try_unfold(reading, Reading::next));
    Ok((status, headers, body).into_response())
}

/// A file being sent.
struct Reading {
    file: File,
    embedding: Embedding,
    /// What is still to be sent.
    wanted: Range<u64>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Reading)>> {
        let Range { start, end } = self.wanted;
        if start >= end {
            return Ok(None);
        }
        let keep = self.embedding.keep;
        let bytes = if start < keep {
            let length = usize::try_from(CHUNK.min(keep.min(end) - start)).expect("a chunk is small");
            let mut chunk = vec![0; length];
            self.file.read_exact(&mut chunk).await?;
            self.embedding.patch(start, &mut chunk);
            Bytes::from(chunk)
        } else {
            let place = |at: u64| usize::try_from(at - keep).expect("the tail is in memory");
            Bytes::copy_from_slice(&self.embedding.tail[place(start)..place(end)])
        };
        self.wanted.start += bytes.len() as u64;
        Ok(Some((bytes, self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_http_means_them() {
        for (range, expected) in [
            ("", Ok(None)),
            ("bytes=0-0", Ok(Some(0..1))),
            ("bytes=10-", Ok(Some(10..100))),
            ("bytes=-10", Ok(Some(90..100))),
            ("bytes=-1000", Ok(Some(0..100))),
            ("bytes=90-1000", Ok(Some(90..100))),
            ("bytes=99-18446744073709551615", Ok(Some(99..100))),
            ("bytes=100-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=5-1", Ok(None)),
            ("bytes=1-2,5-6", Ok(None)),
            ("lines=1-2", Ok(None)),
            ("bytes=x-y", Ok(None)),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
    }

    #[test]
    fn names_stay_what_they_are() {
        let name = |name| {
            let headers = attachment_headers(name, "text/plain");
            headers[CONTENT_DISPOSITION].to_str().expect("ASCII").to_owned()
        };
        assert_eq!(name("a-b.exe"), "attachment; filename=\"a-b.exe\"");
        assert_eq!(name("a\"\r\n.exe"), "attachment; filename=\"a___.exe\"");
        assert_eq!(name("büro.exe"), "attachment; filename=\"b_ro.exe\"; filename*=UTF-8''b%C3%BCro.exe");
    }
}
