//! Messages of a files session (tunnel-protocols §5): names, requests, blocks and dates.

mod name;
mod request;

pub use name::{Name, to_bytes, to_text};
pub use request::{DownloadStep, Exists, FileRequest, FileRequestError, HashKind, UploadMode};

/// Longest request, in bytes: a path and a list of names.
pub const MAX_REQUEST: usize = 256 * 1024;
/// Longest path, in bytes (Linux's own limit).
pub const MAX_PATH: usize = 4096;
/// Most names in one request.
pub const MAX_NAMES: usize = 10_000;
/// Bytes of file in one block of a download: with its head of 4 a frame of 16 KiB.
pub const DOWNLOAD_BLOCK: usize = 16_380;

/// Whether a message of a files session is JSON: it begins with `{`; what does not is file data.
pub fn is_request(message: &[u8]) -> bool {
    message.first() == Some(&b'{')
}

/// The file data in a block of an upload: one leading zero byte, put before blocks that would look like JSON or
/// begin with one, is taken off.
pub fn upload_block(message: &[u8]) -> &[u8] {
    message.strip_prefix(&[0]).unwrap_or(message)
}

/// The head of a block of a download.
pub fn download_head(last: bool) -> [u8; 4] {
    [1, 0, 0, u8::from(last)]
}

/// A moment as clients read it, `2026-11-23T17:14:06Z`.
pub fn utc(unix_seconds: i64) -> String {
    let (days, seconds) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (H. Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        year + era * 400,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_as_captured() {
        assert_eq!(upload_block(&[0, 0x7B, 1, 2]), [0x7B, 1, 2]);
        assert_eq!(upload_block(&[0, 0, 5]), [0, 5]);
        assert_eq!(upload_block(&[5, 6, 7]), [5, 6, 7]);
        assert!(upload_block(&[]).is_empty());
        assert_eq!(download_head(false), [1, 0, 0, 0]);
        assert_eq!(download_head(true), [1, 0, 0, 1]);
        assert!(is_request(b"{}") && !is_request(b"\x01{") && !is_request(b""));
    }

    #[test]
    fn dates_as_clients_read_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_795_454_143), "2026-11-23T17:15:43Z");
        assert_eq!(utc(1_709_164_800), "2024-02-29T00:00:00Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59Z");
        assert_eq!(utc(951_827_696), "2000-02-29T12:34:56Z");
    }
}
