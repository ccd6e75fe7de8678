//! An event as one line of JSON.
//!
//! The library's own does the same over a serializer that is handed each character's neighbours one by
//! one; a line for each update made that a tenth of all that the daemon does. Here text is written to text.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes `{"timestamp":…,"level":…,` the fields, `"target":…}`.
#[derive(Debug)]
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let level = event.metadata().level().as_str();
        write!(writer, "\",\"level\":\"{level}\"")?;
        let mut fields = Fields { writer: &mut writer, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        writer.write_str(",\"target\":\"")?;
        Escaped(&mut writer).write_str(event.metadata().target())?;
        writer.write_str("\"}\n")
    }
}

/// Writes one member after the other.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    outcome: fmt::Result,
}

impl Fields<'_, '_> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_ok() {
            let name = field.name();
            // What the compiler does not let be a field's name.
            let name = name.strip_prefix("r#").unwrap_or(name);
            self.outcome = [",\"", name, "\":"]
                .into_iter()
                .try_for_each(|text| self.writer.write_str(text))
                .and_then(|()| value(self.writer));
        }
    }

    fn text(&mut self, field: &Field, value: impl FnOnce(&mut Escaped<'_, '_>) -> fmt::Result) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            value(&mut Escaped(writer))?;
            writer.write_char('"')
        });
    }
}

impl Visit for Fields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers.
        self.member(field, |writer| {
            if value.is_finite() { write!(writer, "{value:?}") } else { writer.write_str("null") }
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.write_str(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, |text| write!(text, "{value:?}"));
    }
}

/// Text inside a string of JSON (RFC 8259, section 7).
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Looked at as a whole, which a processor does many bytes at a time: most has nothing to escape.
        let is_escaped = |it: u8| it < b' ' || it == b'"' || it == b'\\';
        if !text.bytes().fold(false, |any, it| any | is_escaped(it)) {
            return self.0.write_str(text);
        }
        let mut rest = text;
        // What must be escaped is ASCII, and no byte of a longer character is.
        while let Some(at) = rest.bytes().position(is_escaped) {
            let (plain, from) = rest.split_at(at);
            let (escaped, behind) = from.split_at(1);
            self.0.write_str(plain)?;
            match escaped {
                "\n" => self.0.write_str("\\n"),
                "\r" => self.0.write_str("\\r"),
                "\t" => self.0.write_str("\\t"),
                "\"" => self.0.write_str("\\\""),
                "\\" => self.0.write_str("\\\\"),
                control => {
                    let code = control.bytes().next().unwrap_or_default();
                    write!(self.0, "\\u{code:04x}")
                }
            }?;
            rest = behind;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of what is said, by ours and by the library's own.
    fn lines(say: impl Fn()) -> [Vec<Value>; 2] {
        let kept = [Kept::default(), Kept::default()];
        let [ours, theirs] = kept.clone();
        let ours =
            tracing_subscriber::fmt::layer().with_writer(move || ours.clone()).event_format(Line);
        let theirs = tracing_subscriber::fmt::layer().with_writer(move || theirs.clone());
        let theirs = theirs.json().flatten_event(true);
        let subscriber = tracing_subscriber::registry().with(ours).with(theirs);
        tracing::subscriber::with_default(subscriber, say);
        kept.map(|kept| {
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let line = |line: &str| {
                let mut line: Value = serde_json::from_str(line).expect(line);
                let time = line["timestamp"].take();
                assert!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
                line
            };
            text.lines().map(line).collect()
        })
    }

    #[test]
    fn line_says_what_the_librarys_own_says() {
        let [ours, theirs] = lines(|| {
            let absent: Option<&str> = None;
            let text = "a \"quoted\"\\ text\nover \t lines\r, \u{1}, \u{7f}, Größe 訂單 😀";
            tracing::info!(order = "USMF/SO-1", number = 7_u64, less = -7_i64, absent, "attempt");
            tracing::warn!(share = 0.1, whole = 2.0, none = f64::NAN, is = true, text, "{text}");
            tracing::error!(shown = %text, looked_at = ?Some(text), r#type = "x");
            tracing::debug!(target: "orderwright::\"odd\"", "said");
        });
        assert_eq!((ours.len(), &ours), (4, &theirs));
        assert_eq!(ours[0]["order"], json!("USMF/SO-1"));
    }
}
