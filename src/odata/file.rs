//! Secrets that stand in files and are replaced now and then: read when they are needed.

use std::path::Path;

use tokio::io::AsyncReadExt;

/// Largest file. Tokens have a few thousand bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// What the file holds now, without blanks and newlines around it. The error is the rest of a sentence
/// about the file, and quotes nothing of it.
pub(super) async fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let reading = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).await
    };
    let read = reading.await.map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(read).is_ok_and(|read| read > BYTES_MAX) {
        return Err(format!("is larger than {BYTES_MAX} bytes"));
    }
    // The error of `from_utf8` holds the bytes, and those are a secret.
    let text = String::from_utf8(bytes).map_err(|_not_text| "is not UTF-8 text".to_owned())?;
    let text = text.trim();
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}
