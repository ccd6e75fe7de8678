//! Asks pods over their admin listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use serde::de::DeserializeOwned;
use url::Url;

use crate::config::Settings;

/// How long a pod may take to answer. Below the usual limit of those who run health checks.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Most pods that are asked.
const PODS_MAX: usize = 256;

/// Largest answer that is read, in bytes: 1024 shards, 200 orders and all settings are a few hundred KB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The listeners to ask.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Pods {
    /// Root of a pod's admin listener, such as http://10.1.2.3:9464; as often as there are pods. Of a name
    /// with several addresses every one is asked. Left out: the port of admin.listen, on this machine.
    #[arg(long = "admin", value_name = "URL")]
    admin: Vec<Url>,
}

/// One pod, and what it said; or why it said nothing.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) url: Url,
    pub(super) said: Result<T, String>,
}

impl Pods {
    /// Where to ask, in words what is wrong with it.
    pub(super) async fn roots(&self, settings: &Settings) -> Result<Vec<Url>, String> {
        if self.admin.is_empty() {
            let address = settings.admin.listen.parse().ok().and_then(here);
            let address = address.ok_or("admin.listen names no port to ask; give --admin URL")?;
            let root = format!("http://{address}/");
            return Ok(root.parse().into_iter().collect());
        }
        let mut roots = Vec::new();
        for url in &self.admin {
            if url.scheme() != "http" && url.scheme() != "https" {
                return Err(format!("--admin {url}: must begin with http:// or https://"));
            }
            roots.extend(addresses(url).await);
        }
        roots.dedup();
        if roots.len() > PODS_MAX {
            return Err(format!("--admin: {} pods, {PODS_MAX} is the most", roots.len()));
        }
        Ok(roots)
    }
}

/// Every address of a name, as one root each. A name that is not known stays as it is: the request says why.
async fn addresses(url: &Url) -> Vec<Url> {
    let (Some(url::Host::Domain(name)), Some(port)) = (url.host(), url.port_or_known_default())
    else {
        return vec![url.clone()];
    };
    // Behind TLS the name counts, and this machine has one daemon on a port.
    if url.scheme() == "https" || name == "localhost" {
        return vec![url.clone()];
    }
    let Ok(found) = tokio::net::lookup_host((name, port)).await else { return vec![url.clone()] };
    let at = |address: SocketAddr| {
        let mut url = url.clone();
        url.set_ip_host(address.ip()).ok()?;
        Some(url)
    };
    found.filter_map(at).collect()
}

/// Where to ask a daemon that listens there. `None` if only the daemon knows.
pub(super) fn here(listen: SocketAddr) -> Option<SocketAddr> {
    let here = match listen.ip() {
        any if !any.is_unspecified() => any,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    (listen.port() != 0).then_some(SocketAddr::new(here, listen.port()))
}

/// For requests to pods. A proxy knows nothing of their addresses.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    Client::builder().no_proxy().timeout(ANSWER_MAX).build()
}

/// Asks all of them at once for this page.
pub(super) async fn ask<T: DeserializeOwned>(
    client: &Client,
    roots: &[Url],
    page: &str,
    query: &[(&str, &str)],
) -> Vec<Answer<T>> {
    let one = async |root: &Url| {
        let mut url = root.clone();
        url.set_path(&format!("{}/{page}", root.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Answer { url: root.clone(), said: get(client, url).await }
    };
    join_all(roots.iter().map(one)).await
}

async fn get<T: DeserializeOwned>(client: &Client, url: Url) -> Result<T, String> {
    let mut response = client.get(url).send().await.map_err(why)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(why)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer is larger than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    if !status.is_success() {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = said.get("error").and_then(serde_json::Value::as_str).unwrap_or_default();
        return Err(format!("it answers {status}: {said}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer makes no sense: {error}"))
}

/// The innermost cause says most.
fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("no answer: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_is_asked_on_this_machine_and_an_unknown_port_not_at_all() {
        let asked = |listen: &str| here(listen.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(asked("0.0.0.0:9464").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(asked("[::]:9464").as_deref(), Some("[::1]:9464"));
        assert_eq!(asked("10.1.2.3:80").as_deref(), Some("10.1.2.3:80"));
        assert_eq!(asked("127.0.0.1:0"), None);
    }

    #[tokio::test]
    async fn pods_are_those_that_are_named_and_else_the_one_here() {
        let settings = Settings::default();
        let of = async |names: &[&str]| {
            let admin = names.iter().map(|name| name.parse().unwrap()).collect();
            let roots = Pods { admin }.roots(&settings).await;
            roots.map(|roots| roots.iter().map(Url::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of(&[]).await.unwrap(), "http://127.0.0.1:9464/");
        let two = ["http://10.0.0.1:9464", "http://[::1]:9464/behind/"];
        assert_eq!(of(&two).await.unwrap(), "http://10.0.0.1:9464/ http://[::1]:9464/behind/");
        assert!(of(&["amqp://rabbit"]).await.unwrap_err().contains("must begin with http"));
    }
}
