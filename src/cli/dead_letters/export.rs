//! `orderwright dead-letters export`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::super::fail;
use super::desk::{Desk, Looked, Next, failed};
use super::filters::Filters;
use crate::app::exit;
use crate::broker;
use crate::config::Loaded;
use crate::dead_letter::{Message, to_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright dlq export --file letters.ndjson
  orderwright dlq export --reason rejected | jq -r .routing_key

One letter a line, with every property, the type of every header and its body: as text, or in base64 \
where it is no UTF-8. The letters stay where they are. A file is there once all of it is written, and not \
before.

Exit codes: 0 done, 65 the file is there already or cannot be written, 69 unreachable, 75 another operator is \
at work or it was interrupted, 78 there is no such queue, or the settings are wrong")]
pub(super) struct Export {
    #[command(flatten)]
    filters: Filters,
    /// Where to; standard output otherwise. A file that exists is not overwritten.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Of the letters that were discarded.
    #[arg(long)]
    archived: bool,
}

/// Why it stopped.
pub(super) enum Stop {
    Broker(broker::Error),
    File(io::Error),
}

impl From<broker::Error> for Stop {
    fn from(error: broker::Error) -> Self {
        Self::Broker(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

pub(super) async fn export(arguments: &Export, loaded: Loaded) -> u8 {
    match attempt(arguments, loaded).await {
        Ok(looked) if looked.interrupted => exit::GRACE,
        Ok(_) => exit::OK,
        Err(Stop::Broker(error)) => failed(&error),
        Err(Stop::File(error)) => fail(exit::DATA, &error),
    }
}

async fn attempt(arguments: &Export, loaded: Loaded) -> Result<Looked, Stop> {
    let Some(path) = &arguments.file else {
        let mut out = io::BufWriter::new(io::stdout());
        let looked = write_all(arguments, loaded, &mut out).await?;
        out.flush()?;
        return Ok(looked);
    };
    let mut draft = Draft::of(path)?;
    let looked = write_all(arguments, loaded, &mut draft.out).await?;
    if !looked.interrupted {
        draft.finish()?;
    }
    Ok(looked)
}

async fn write_all(
    arguments: &Export,
    loaded: Loaded,
    out: &mut (dyn Write + Send),
) -> Result<Looked, Stop> {
    let desk = Desk::open(loaded, "export").await?;
    let queue = desk.queue(arguments.archived);
    let mut written = Ok(());
    let looked = desk
        .look(&queue, &arguments.filters.selection(), |_letter, held| {
            let message = Message {
                exchange: held.exchange.to_string(),
                routing_key: held.routing_key.to_string(),
                properties: held.properties,
                body: held.body,
            };
            let line = to_line(&message).map_err(io::Error::other);
            written = line.and_then(|line| writeln!(out, "{line}"));
            if written.is_ok() { Next::More } else { Next::Enough }
        })
        .await;
    desk.leave().await;
    written?;
    Ok(looked?)
}

/// A file under another name, until all of it is written. Gone when it is dropped before.
struct Draft {
    out: io::BufWriter<std::fs::File>,
    part: PathBuf,
    path: PathBuf,
}

impl Draft {
    fn of(path: &Path) -> io::Result<Self> {
        if path.try_exists()? {
            let text = format!("{} is there already", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{:08x}.part", fastrand::u32(..)));
        let part = PathBuf::from(part);
        let out = io::BufWriter::new(std::fs::File::create_new(&part)?);
        Ok(Self { out, part, path: path.to_owned() })
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        // By a second name, which fails where the file has come about meanwhile; not every file system has those.
        match std::fs::hard_link(&self.part, &self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                std::fs::rename(&self.part, &self.path)
            }
            linked => linked,
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_there_once_all_of_it_is_written_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, files) =
            (folder.path().join("a"), || std::fs::read_dir(folder.path()).unwrap().count());
        let mut draft = Draft::of(&path).unwrap();
        draft.out.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(draft);
        assert_eq!(files(), 0, "what is given up leaves nothing");
        let (mut one, mut other) = (Draft::of(&path).unwrap(), Draft::of(&path).unwrap());
        one.out.write_all(b"one").unwrap();
        other.out.write_all(b"other").unwrap();
        one.finish().unwrap();
        assert_eq!(other.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(Draft::of(&path).is_err());
        assert_eq!((std::fs::read(&path).unwrap(), files()), (b"one".to_vec(), 1));
    }
}
