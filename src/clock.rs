//! The wall clock, and times as clients write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix milliseconds. A clock before 1970 reads 0.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now, in Unix seconds.
pub fn now_seconds() -> i64 {
    now_ms() / 1000
}

/// `2026-11-23T17:15:43.007Z` from Unix milliseconds.
pub fn iso8601(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let seconds = of_day / 1000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        of_day % 1000
    )
}

/// Year, month and day of a day number since 1970-01-01: the Gregorian calendar counted in eras of 400
/// years that start in March, so the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Unix seconds of `2026-11-23T17:15:43Z` (fractions are passed over); none if it is not such a time.
pub fn seconds_of_iso8601(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    // The inverse of `civil`: a year that begins in March has 365 days and the leap days before it.
    let (from_march, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = from_march * 365 + from_march / 4 - from_march / 100
        + from_march / 400
        + (153 * shifted + 2) / 5
        + day
        - 1
        - 719_468;
    fits.then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// `Mon, 23 Nov 2026 17:15:43 GMT`, as HTTP writes times, from Unix seconds.
pub fn http_date(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        weekdays[usize::try_from(days.rem_euclid(7)).unwrap_or(0)],
        months[usize::try_from(month - 1).unwrap_or(0)],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_clients_expect() {
        assert_eq!(iso8601(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(1_795_454_143_007), "2026-11-23T17:15:43.007Z");
        assert_eq!(iso8601(1_709_164_800_000), "2024-02-29T00:00:00.000Z");
        assert_eq!(iso8601(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(http_date(1_795_454_143), "Mon, 23 Nov 2026 17:15:43 GMT");
    }

    #[test]
    fn times_are_read_back() {
        for seconds in [0, 951_782_400, 1_709_164_800, 1_795_454_143, 4_102_444_799] {
            assert_eq!(seconds_of_iso8601(&iso8601(seconds * 1000)), Some(seconds));
        }
        assert_eq!(seconds_of_iso8601("2025-03-07T22:43:04Z"), Some(1_741_387_384));
        for bad in ["", "2025-03-07", "2025-13-07T22:43:04Z", "2025-03-07T22:43:04", "x-03-07T22:43:04Z"] {
            assert_eq!(seconds_of_iso8601(bad), None, "{bad}");
        }
    }
}
