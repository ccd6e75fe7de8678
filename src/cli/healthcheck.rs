//! `orderwright healthcheck`: asks the admin listener of a daemon on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{complain, print};
use crate::app::exit;
use crate::config::Loaded;

/// How long the daemon may take to answer. Below the usual limit of those who run health checks.
const ANSWER_MAX: Duration = Duration::from_secs(4);

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
    let address = loaded.settings.admin.listen.parse().ok().and_then(asked);
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

/// Where to ask a daemon that listens there. `None` if only the daemon knows.
fn asked(listen: SocketAddr) -> Option<SocketAddr> {
    let here = match listen.ip() {
        any if !any.is_unspecified() => any,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    (listen.port() != 0).then_some(SocketAddr::new(here, listen.port()))
}

async fn ask(url: &str) -> Result<(bool, String), reqwest::Error> {
    // A proxy knows nothing of this machine's ports.
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status().is_success(), answer.text().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_is_asked_on_this_machine_and_an_unknown_port_not_at_all() {
        let asked = |listen: &str| asked(listen.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(asked("0.0.0.0:9464").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(asked("[::]:9464").as_deref(), Some("[::1]:9464"));
        assert_eq!(asked("10.1.2.3:80").as_deref(), Some("10.1.2.3:80"));
        assert_eq!(asked("127.0.0.1:0"), None);
    }
}
