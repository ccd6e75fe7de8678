//! Reads `Retry-After`: seconds, or a date. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

/// The time that is left (RFC 9110, section 10.2.3). `date` is the answer's own `Date`: the service's
/// clock may be another than ours, `now`. `None` for what is neither seconds nor a date.
pub(super) fn retry_after(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = instant(value)?;
    let left = until.duration_since(date.and_then(instant).unwrap_or(now));
    // One in the past: at once.
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

/// An HTTP date in any of its three forms: the present one, and the two that recipients must still take
/// (RFC 9110, section 5.6.7).
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(zoned) = rfc2822::parse(text) {
        return Some(zoned.timestamp());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].into_iter().find_map(|format| {
        let parsed = civil::DateTime::strptime(format, text).ok()?;
        parsed.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else_is() {
        let now: Timestamp = "2025-02-08T10:00:00Z".parse().unwrap();
        let left = |value| retry_after(value, None, now).map(|left| left.as_secs());
        assert_eq!([left("0"), left(" 60 "), left("86400")], [Some(0), Some(60), Some(86_400)]);
        assert_eq!(left("Sat, 08 Feb 2025 10:01:30 GMT"), Some(90));
        assert_eq!(left("Sat, 08 Feb 2025 09:00:00 GMT"), Some(0), "it is over");
        assert_eq!(left("Saturday, 08-Feb-25 10:01:30 GMT"), Some(90));
        assert_eq!(left("Sat Feb  8 10:01:30 2025"), Some(90));
        for absurd in ["-1", "soon", "", "1.5", "99999999999999999999", "Sat, 08 Feb"] {
            assert_eq!(left(absurd), None, "{absurd}");
        }
    }

    #[test]
    fn date_is_read_by_the_clock_of_the_service() {
        let now: Timestamp = "2025-02-08T12:34:56Z".parse().unwrap();
        let left = |date| retry_after("Sat, 08 Feb 2025 10:00:30 GMT", date, now);
        let date = Some("Sat, 08 Feb 2025 10:00:00 GMT");
        assert_eq!(left(date), Some(Duration::from_secs(30)));
        assert_eq!(left(None), Some(Duration::ZERO));
        assert_eq!(left(Some("nonsense")), Some(Duration::ZERO));
    }
}
