//! Reads small text files, and refuses large ones before they are in memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The file's text. The error is the rest of a sentence about the file, with the system's reason.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > bytes_max) {
        return Err(format!("is larger than {bytes_max} bytes"));
    }
    // The error of `from_utf8` holds the bytes, and those may be a secret.
    String::from_utf8(bytes).map_err(|_not_text| "is not UTF-8 text".to_owned())
}
