//! `orderwright healthcheck`: asks the admin listener of a daemon on this machine.

use super::{complain, pods, print};
use crate::app::exit;
use crate::config::Loaded;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright healthcheck                 is it ready?
  orderwright healthcheck --probe livez   does it work at all?
  HEALTHCHECK CMD [\"orderwright\", \"healthcheck\"]

It asks the port of admin.listen, on this machine. Prints what the daemon says, in JSON.

Exit codes: 0 yes, 69 no, or no answer, 78 there is no listener to ask")]
pub(super) struct Arguments {
    /// What to ask.
    #[arg(long, value_enum, default_value_t)]
    probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Probe {
    /// The process works at all.
    Livez,
    /// It does its work, or would if there were any.
    #[default]
    Readyz,
    /// Its start is over.
    Startupz,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Readyz => "readyz",
            Self::Startupz => "startupz",
        }
    }
}

pub(super) async fn run(arguments: Arguments, loaded: Loaded) -> u8 {
    let address = loaded.settings.admin.listen.parse().ok().and_then(pods::here);
    let Some(address) = address else {
        complain("admin.listen names no port to ask");
        return exit::CONFIG;
    };
    match ask(&format!("http://{address}/{}", arguments.probe.path())).await {
        Ok((is_fine, text)) => {
            print(&format!("{}\n", text.trim_end()));
            if is_fine { exit::OK } else { exit::UNAVAILABLE }
        }
        Err(error) => {
            complain(&format!("{address} does not answer: {error}"));
            exit::UNAVAILABLE
        }
    }
}

async fn ask(url: &str) -> Result<(bool, String), reqwest::Error> {
    let answer = pods::client()?.get(url).send().await?;
    Ok((answer.status().is_success(), answer.text().await?))
}
