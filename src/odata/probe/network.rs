//! What lies below HTTP: the name, the port, the encryption.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::encryption::Obstacle;
use super::{Probe, State};
use crate::odata::client::causes;

/// Variables that send requests over a proxy, so that the service's own name need not be known here.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

impl Probe<'_> {
    /// Whether the service can be reached at all, without HTTP.
    pub(super) async fn network(&mut self) -> Option<()> {
        if PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty())) {
            let detail = "a proxy is set in the environment".to_owned();
            self.note("dns", State::Skipped, detail, "", Duration::ZERO);
            return Some(());
        }
        let target = &self.settings.target;
        let (host, port) = (target.url.host_str()?, target.url.port_or_known_default()?);
        let bare = host.trim_matches(['[', ']']);
        let begun = Instant::now();
        let found = timeout(target.connect_timeout, lookup_host((bare, port))).await;
        let found = found.map_err(|_elapsed| "no answer in target.connect_timeout".to_owned());
        let found = found.and_then(|found| found.map_err(|error| error.to_string()));
        let took = begun.elapsed();
        let addresses: Vec<_> = match found {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                let (detail, hint) = (format!("{host}: {error}"), "check target.url and the DNS");
                self.note("dns", State::Unavailable, detail, hint, took);
                return None;
            }
        };
        let shown: Vec<_> = addresses.iter().take(4).map(|it| it.ip().to_string()).collect();
        self.note("dns", State::Fine, format!("{host} is {}", shown.join(", ")), "", took);
        let begun = Instant::now();
        let connected = timeout(target.connect_timeout, TcpStream::connect(&*addresses)).await;
        let connected = connected.map_err(|_elapsed| "no answer in target.connect_timeout".into());
        let error: Option<String> = match connected {
            Ok(Ok(_stream)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(late) => Some(late),
        };
        let (state, hint) = match &error {
            None => (State::Fine, ""),
            Some(_) => (State::Unavailable, "check the port, firewalls and network policies"),
        };
        let detail = error.unwrap_or_else(|| format!("port {port} answers"));
        self.note("tcp", state, detail, hint, begun.elapsed());
        (state == State::Fine).then_some(())
    }

    /// Whether a TLS connection can be made; any answer will do, and nothing is told of us yet.
    pub(super) async fn encryption(&mut self) -> Option<()> {
        let target = &self.settings.target;
        if target.url.scheme() != "https" {
            let detail = "target.url is http: tokens are sent in clear text".to_owned();
            self.note("tls", State::Skipped, detail, "", Duration::ZERO);
            return Some(());
        }
        let begun = Instant::now();
        let head = self.client.http.head(target.url.clone()).timeout(target.get_timeout);
        let failed = head.send().await.err().filter(reqwest::Error::is_connect);
        let took = begun.elapsed();
        let Some(said) = failed.map(causes) else {
            self.note("tls", State::Fine, "encrypted".to_owned(), "", took);
            let detail = "trusted, and for this name".to_owned();
            self.note("certificate", State::Fine, detail, "", Duration::ZERO);
            return Some(());
        };
        let Obstacle { step, state, what, hint } = Obstacle::read(&said);
        if *step != "tls" {
            self.note("tls", State::Fine, "the port speaks TLS".to_owned(), "", took);
        }
        self.note(step, *state, format!("{what}: {said}"), hint, took);
        None
    }
}
