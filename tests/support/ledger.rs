//! What really happened, as the simulator wrote it down.

use std::time::Duration;

use serde_json::Value;

use crate::Result;

/// The simulator answers a long poll after this time at the latest.
const POLL: Duration = Duration::from_millis(250);

/// The simulator's account. It does not believe the daemon: it sees requests and rows.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub(crate) struct Ledger {
    /// Requests, of which a batch is one.
    pub(crate) requests: u64,
    /// GETs answered.
    pub(crate) gets: u64,
    /// PATCHes received.
    pub(crate) patches: u64,
    /// Updates written, each counted once however often it came.
    pub(crate) applied_distinct: u64,
    /// PATCHes refused because of a stale ETag.
    pub(crate) conflicts: u64,
    /// Requests refused because they were too many.
    pub(crate) throttled: u64,
    /// Trouble made on purpose.
    pub(crate) faults: Faults,
    /// Orders changed by somebody else.
    pub(crate) actor_changes: u64,
    /// Two requests for one order at the same time.
    pub(crate) overlaps: u64,
    /// Updates written after a newer one of the same order.
    pub(crate) out_of_order: u64,
    /// Updates written more than once.
    pub(crate) applied_twice: u64,
    /// Most requests at the same time, over all orders.
    pub(crate) in_flight_max: u64,
}

/// Faults by what the caller saw of them.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub(crate) struct Faults {
    /// Errors answered instead of doing the work.
    pub(crate) unavailable: u64,
    /// Connections cut before the work.
    pub(crate) cut: u64,
    /// Connections cut after the work: it was done, and the caller cannot know.
    pub(crate) lost_reply: u64,
    /// All others.
    pub(crate) other: u64,
}

impl Faults {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.unavailable + self.cut + self.lost_reply + self.other
    }
}

/// Asks the simulator.
#[derive(Debug)]
pub(crate) struct Reader {
    client: reqwest::Client,
    url: String,
}

impl Reader {
    /// For the simulator at this address.
    pub(crate) fn new(simulator: &str) -> Result<Self> {
        // A proxy could not reach this machine's loopback.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, url: format!("{simulator}/sim/ledger") })
    }

    /// The ledger: at once when so many updates are written, else after a moment.
    pub(crate) async fn read(&self, applied_distinct_min: u64) -> Result<Ledger> {
        let wait = POLL.as_millis();
        let url =
            format!("{}?applied_distinct_min={applied_distinct_min}&wait_ms={wait}", self.url);
        let answer = async { self.client.get(&url).send().await?.error_for_status()?.text().await };
        let text = answer.await.map_err(|error| format!("the simulator's ledger: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("the simulator's ledger: {error}"))
    }

    /// Changes what goes wrong.
    pub(crate) async fn faults(&self, faults: &Value) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/faults");
        let put = self.client.put(url).body(faults.to_string());
        self.ask(put).await.map(drop)
    }

    /// How often each fault has struck, by its name.
    pub(crate) async fn struck(&self) -> Result<Value> {
        let url = self.url.replace("/sim/ledger", "/sim/faults");
        let view = self.ask(self.client.get(url)).await?;
        Ok(view.get("struck").cloned().unwrap_or_default())
    }

    /// Lets every token die that was given out.
    pub(crate) async fn revoke_tokens(&self) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/tokens");
        self.ask(self.client.delete(url)).await.map(drop)
    }

    /// Makes every CSRF token invalid.
    pub(crate) async fn end_sessions(&self) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/sessions");
        self.ask(self.client.delete(url)).await.map(drop)
    }

    /// Gives a property another name, as an upgrade of the service may.
    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/properties");
        let names = serde_json::json!({ from: to });
        self.ask(self.client.put(url).body(names.to_string())).await.map(drop)
    }

    /// Changes who gets tokens.
    pub(crate) async fn tokens(&self, who: &Value) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/tokens");
        self.ask(self.client.put(url).body(who.to_string())).await.map(drop)
    }

    /// Creates an order.
    pub(crate) async fn create(&self, company: &str, number: &str) -> Result<()> {
        let url = self.url.replace("/sim/ledger", "/sim/orders");
        let key = serde_json::json!({"dataAreaId": company, "SalesOrderNumber": number});
        self.ask(self.client.post(url).body(key.to_string())).await.map(drop)
    }

    /// Everything about one order. The number must need no escape in a URL.
    pub(crate) async fn order(&self, company: &str, number: &str) -> Result<Value> {
        self.ask(self.client.get(format!("{}/orders/{company}/{number}", self.url))).await
    }

    /// The updates written after number `after`, oldest first: a page of them.
    pub(crate) async fn changes(&self, after: u64) -> Result<Value> {
        let url = format!("{}/changes?after={after}&limit=10000", self.url);
        self.ask(self.client.get(url)).await
    }

    /// The orders that something is wrong with, in one text.
    pub(crate) async fn bad_orders(&self) -> Result<Value> {
        self.ask(self.client.get(format!("{}/orders?bad=true", self.url))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = async { request.send().await?.error_for_status()?.text().await };
        let text = answer.await.map_err(|error| format!("the simulator: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("the simulator: {error}"))
    }
}
