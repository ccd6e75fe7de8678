//! The HTTP edge to the broker's management API: asks, and changes nothing.
//!
//! A handful of requests, whatever the number of shards: lists are taken by the page, with the few
//! columns that are judged. What cannot be had is told part by part, because a user may be allowed to
//! see one and not the other.

use std::collections::BTreeMap;

use bytes::BytesMut;
use lapin::uri::AMQPUri;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::doctor::{Exchange, Observed, Overview, Part, Queue, Unseen, returns_max};
use super::{Error, Topology};
use crate::config;

/// Largest answer that is read. A binding takes about 200 bytes: room for 80,000.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most that the API gives at once.
const PAGE: usize = 500;

/// The most pages of a list: 1,024 shards, several generations of them, and a neighbour's.
const PAGES_MAX: usize = 20;

/// The management API of one broker, as one user sees one virtual host.
#[derive(Debug)]
pub struct Management {
    http: reqwest::Client,
    /// Without user and password.
    root: String,
    user: String,
    password: SecretString,
    vhost: String,
    /// The user of the AMQP connection, whose permissions are looked at.
    amqp_user: String,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    page_count: usize,
}

trait Named {
    fn name(&self) -> &str;
}

impl Named for Queue {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Exchange {
    fn name(&self) -> &str {
        &self.name
    }
}

/// One who has subscribed to a queue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subscriber {
    /// Its consumer tag: of a pod of ours the name of the instance, a dash and a number.
    pub consumer_tag: String,
    /// It is the one that is served.
    #[serde(default)]
    pub active: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subscribers {
    consumer_details: Vec<Subscriber>,
}

impl Management {
    /// Reads the settings; `None` where they name no management API. Connects with the first request.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Management`].
    pub fn new(settings: &config::Broker) -> Result<Option<Self>, Error> {
        let Some(url) = &settings.management_url else { return Ok(None) };
        let amqp: AMQPUri = settings.url.expose().parse().map_err(Error::Url)?;
        let mut root = url.parts().clone();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let amqp_user = amqp.authority.userinfo.username;
        let (user, password) = if root.username().is_empty() {
            (amqp_user.clone(), amqp.authority.userinfo.password)
        } else {
            (decoded(root.username()), decoded(root.password().unwrap_or_default()))
        };
        // Basic authentication goes into a header: an address may show in an error.
        let _cannot_have_any = (root.set_username(""), root.set_password(None));
        let http = reqwest::Client::builder()
            .user_agent(concat!("orderwright/", env!("CARGO_PKG_VERSION")))
            // Where AMQP goes without a proxy, so does this.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.connect_timeout)
            .build()
            .map_err(Error::Management)?;
        let root = root.as_str().trim_end_matches('/').to_owned();
        let (password, vhost) = (password.into(), amqp.vhost);
        Ok(Some(Self { http, root, user, password, vhost, amqp_user }))
    }

    /// The user of the AMQP connection.
    pub fn amqp_user(&self) -> &str {
        &self.amqp_user
    }

    /// Looks at everything. Each request takes `broker.connect_timeout` at most.
    ///
    /// # Errors
    /// Why the API cannot be asked at all. What it does not tell is told within.
    pub async fn observe(&self, topology: &Topology) -> Part<Observed> {
        let overview = self.get("overview?columns=rabbitmq_version").await;
        if let Err(why @ Unseen::Silent(_)) = overview {
            return Err(why);
        }
        let vhost = encoded(&self.vhost);
        let user = encoded(&self.amqp_user);
        let consumers = "columns=queue.name,consumer_timeout,channel_details.user,\
                         channel_details.connection_name";
        Ok(Observed {
            overview,
            queues: self.queues(topology).await,
            exchanges: self.page("exchanges", "name,type,arguments", topology).await,
            bindings: self
                .get(&format!(
                    "bindings/{vhost}?columns=source,destination,destination_type,routing_key"
                ))
                .await,
            consumers: self.get(&format!("consumers/{vhost}?{consumers}")).await,
            connections: self
                .get(&format!("vhosts/{vhost}/connections?columns=name,user_provided_name"))
                .await,
            permissions: self.get(&format!("users/{user}/permissions")).await,
            vhost: self.vhost.clone(),
            features: self.get("feature-flags?columns=name,state").await,
        })
    }

    /// Who has subscribed to a queue: consumer tags, each with whether it is the one that is served. Some
    /// seconds old.
    ///
    /// # Errors
    /// Why the API does not tell.
    pub async fn subscribers(&self, queue: &str) -> Part<Vec<Subscriber>> {
        let (vhost, queue) = (encoded(&self.vhost), encoded(queue));
        let path = format!("queues/{vhost}/{queue}?columns=consumer_details");
        Ok(self.get::<Subscribers>(&path).await?.consumer_details)
    }

    /// How often a message of this queue may be returned before the broker gives it up; `None` without end.
    ///
    /// # Errors
    /// Why the API does not tell.
    pub async fn returns_max(&self, queue: &str) -> Part<Option<u64>> {
        let (vhost, queue) = (encoded(&self.vhost), encoded(queue));
        let columns = "name,type,arguments,policy,operator_policy,effective_policy_definition";
        let queue: Queue = self.get(&format!("queues/{vhost}/{queue}?columns={columns}")).await?;
        let overview: Overview = self.get("overview?columns=rabbitmq_version").await?;
        Ok(returns_max(&queue, Some(&overview.rabbitmq_version)))
    }

    async fn queues(&self, topology: &Topology) -> Part<BTreeMap<String, Queue>> {
        let columns = "name,type,arguments,policy,operator_policy,effective_policy_definition";
        let mut queues: BTreeMap<String, Queue> = self.page("queues", columns, topology).await?;
        let vhost = encoded(&self.vhost);
        // At most 64: the names of somebody else's queues have nothing in common.
        for (name, _) in topology.intake() {
            let path = format!("queues/{vhost}/{}?columns={columns}", encoded(name));
            match self.get::<Queue>(&path).await {
                Ok(queue) => drop(queues.insert(name.to_owned(), queue)),
                Err(Unseen::Status(404)) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(queues)
    }

    /// A list of what has our prefix in its name, by name.
    async fn page<T: Named + DeserializeOwned>(
        &self,
        kind: &str,
        columns: &str,
        topology: &Topology,
    ) -> Part<BTreeMap<String, T>> {
        let (vhost, prefix) = (encoded(&self.vhost), encoded(topology.prefix()));
        let mut all = BTreeMap::new();
        for page in 1..=PAGES_MAX {
            let path = format!(
                "{kind}/{vhost}?page={page}&page_size={PAGE}&name={prefix}&use_regex=false\
                 &columns={columns}"
            );
            let Page { items, page_count } = self.get::<Page<T>>(&path).await?;
            all.extend(items.into_iter().map(|item| (item.name().to_owned(), item)));
            if page >= page_count {
                return Ok(all);
            }
        }
        Err(Unseen::TooMany(PAGE * PAGES_MAX))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Part<T> {
        let silent = |error: reqwest::Error| Unseen::Silent(said(error));
        let request = self.http.get(format!("{}/api/{path}", self.root));
        let request = request.basic_auth(&self.user, Some(self.password.expose_secret()));
        let mut response = request.send().await.map_err(silent)?;
        if !response.status().is_success() {
            return Err(Unseen::Status(response.status().as_u16()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Unseen::TooLarge(BODY_BYTES_MAX));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| Unseen::Unclear(error.to_string()))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The innermost cause says most: "connection refused" and not "error sending request".
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn management(url: &str) -> Management {
        let settings = config::Broker {
            url: "amqp://ann:one%40@rabbit/v%2f1".parse().unwrap(),
            management_url: Some(url.parse().unwrap()),
            ..config::Broker::default()
        };
        Management::new(&settings).unwrap().unwrap()
    }

    #[test]
    fn user_of_the_address_is_taken_out_of_it_and_else_that_of_the_broker() {
        let own = management("https://bob:t%2Fwo%40@rabbit:15671/behind/");
        assert_eq!((own.user.as_str(), own.password.expose_secret()), ("bob", "t/wo@"));
        assert_eq!(own.root, "https://rabbit:15671/behind");
        let brokers = management("http://rabbit:15672");
        assert_eq!((brokers.user.as_str(), brokers.password.expose_secret()), ("ann", "one@"));
        assert_eq!((brokers.vhost.as_str(), brokers.root.as_str()), ("v/1", "http://rabbit:15672"));
        let shown = format!("{own:?}{brokers:?}");
        assert!(!shown.contains("t/wo") && !shown.contains("one@"), "{shown}");
    }
}
