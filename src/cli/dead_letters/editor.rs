//! The operator's own editor, and files of bodies.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::app::exit;
use crate::dead_letter::Body;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody says which editor.
    #[error("neither VISUAL nor EDITOR is set: set one, or say the change by --set or --with")]
    NoEditor,
    /// It ended otherwise than well.
    #[error("the editor {editor:?} ended with {status}: nothing is changed")]
    Ended {
        /// As it was called.
        editor: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// An editor cannot show it.
    #[error("the body is no UTF-8: give a whole one by --with")]
    NoText,
    /// A file cannot be made or read.
    #[error("{path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) const fn exit(&self) -> u8 {
        match self {
            Self::NoEditor => exit::USAGE,
            Self::Ended { .. } | Self::NoText | Self::File { .. } => exit::DATA,
        }
    }
}

/// Gone when it is dropped.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It may hold what is nobody else's business.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Lets the operator edit a body. Waits for as long as the editor is open.
pub(super) async fn edit(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = named.filter(|it| !it.trim().is_empty()).ok_or(Error::NoEditor)?;
    let text = match Body::read(body) {
        Ok(body) => body.text(true) + "\n",
        Err(_no_json) => std::str::from_utf8(body).map_err(|_error| Error::NoText)?.to_owned(),
    };
    let draft = Draft(written(text.as_bytes())?);
    // By the shell, as others do: the variable may hold flags.
    let command = format!("{editor} \"$1\"");
    let running = Command::new("sh").args(["-c", &command, "sh"]).arg(&draft.0).status();
    let status = running.await.map_err(|source| Error::File { path: editor.clone(), source })?;
    if !status.success() {
        return Err(Error::Ended { editor, status });
    }
    read(&draft.0, bytes_max).await
}

/// Reads a body; of one that is too long, so much that this is seen.
pub(super) async fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let reading = async {
        let mut body = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(most).read_to_end(&mut body).await?;
        Ok(body)
    };
    reading.await.map_err(|source| Error::File { path: path.display().to_string(), source })
}

/// Keeps what was refused, so that nobody has to write it again. Where.
pub(super) fn keep(body: &[u8]) -> Option<String> {
    written(body).ok().map(|path| path.display().to_string())
}

/// A file that nobody else may read.
fn written(body: &[u8]) -> Result<PathBuf, Error> {
    let name = format!("orderwright-{:016x}.json", fastrand::u64(..));
    let path = std::env::temp_dir().join(name);
    let options = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    let made = options().open(&path).and_then(|mut file| file.write_all(body));
    match made {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::File { path: path.display().to_string(), source }),
    }
}
