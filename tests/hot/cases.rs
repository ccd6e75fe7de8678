//! The pure work for one update, piece by piece: what is timed, and what is counted.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use orderwright::decode::{Contract, Envelope, KeyProperty, decode};
use orderwright::measuring::Parts;
use orderwright::odata::url::Orders;
use orderwright::order::{ETag, OrderUpdate};
use orderwright::protocol::backoff::Retry;
use orderwright::protocol::merge::Merged;
use orderwright::protocol::verdict::verdict;
use orderwright::protocol::{
    self, Answer, Complaint, Guard, Reply, Request, Rules, Step, Superseded, Texts, fields,
};
use orderwright::shard::shard_of;

/// A typical message.
const MESSAGE: &str = r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"SO-2025-0145"},"changes":{"RequestedShippingDate":"2025-07-01","DeliveryModeCode":"Air","CustomerRequisitionNumber":"PO-88123","SalesOrderName":"Contoso Retail"},"sequence":17,"occurredAt":"2025-06-30T08:15:00Z"}"#;

const TAG: &str = "W/\"JzEsNTYzNzE0NDU3Njsw\"";

/// One piece of the work for an update.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) work: Box<dyn Fn()>,
}

/// What every case needs.
struct Bench {
    contract: Contract,
    orders: Orders,
    guard: Guard,
    texts: Texts,
    rules: Rules,
    update: OrderUpdate,
    etag: ETag,
    parts: Parts,
    /// What a GET of the update's own fields brings.
    narrow: Reply,
    /// The order as it is, with some 60 properties.
    whole: Reply,
    written: Reply,
    refused: Bytes,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    // They live as long as the program.
    let it: &'static Bench = Box::leak(Box::new(Bench::new()));
    vec![
        case("decode", || it.decode()),
        case("route", || shard_of(it.update.key.canonical(), 64)),
        case("mailbox", || it.parts.mailbox(it.update.key.canonical())),
        case("url", || it.orders.url(&it.update.key)),
        case("select", || fields(&it.update, None)),
        case("headers", || it.headers()),
        case("walk", || it.walk(&it.narrow)),
        case("walk-whole", || it.walk(&it.whole)),
        case("merge", || it.merge()),
        case("refusal", || Complaint::read(&it.refused)),
    ]
}

fn case<T>(name: &'static str, work: impl Fn() -> T + 'static) -> Case {
    let work = move || drop(black_box(Some(work())));
    Case { name, work: Box::new(work) }
}

impl Bench {
    fn new() -> Self {
        let property =
            |name: &str| KeyProperty { name: name.into(), folds_case: false, is_guid: false };
        let contract = Contract {
            key: vec![property("dataAreaId"), property("SalesOrderNumber")],
            sequence_property: None,
            body_bytes_max: 65_536,
            nesting_max: 16,
        };
        let retry = Retry {
            retries_max: 3,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(4),
        };
        let rules = Rules {
            conflicts: retry,
            failures: retry,
            not_found: retry,
            jitter: 0.2,
            superseded: Superseded::Settle,
        };
        let service = "https://acme.operations.dynamics.com/data".parse();
        let service = service.unwrap_or_else(|error| unreachable!("{error}"));
        let update = decode(&contract, envelope(MESSAGE));
        Self {
            contract,
            orders: Orders::new(&service, "SalesOrderHeadersV2", true),
            guard: Guard::default(),
            texts: Texts::new(&[], &[], &[], &[]),
            rules,
            update: update.unwrap_or_else(|error| unreachable!("{error}")),
            etag: ETag::new(TAG).unwrap_or_else(|| unreachable!("a constant")),
            parts: Parts::new().unwrap_or_else(|error| unreachable!("{error}")),
            narrow: Ok(answer(200, order(0))),
            whole: Ok(answer(200, order(56))),
            written: Ok(answer(204, String::new())),
            refused: Bytes::from_static(
                br#"{"error":{"code":"","message":"An error has occurred.","innererror":{"message":"Write failed for table row of type 'SalesOrderHeaderV2Entity'. Infolog: Warning: Sales order SO-2025-0145 is locked.","type":"Microsoft.Dynamics.Platform.Integration.Services.OData.ODataDataException"}}}"#,
            ),
        }
    }

    fn decode(&self) -> Option<OrderUpdate> {
        decode(&self.contract, envelope(MESSAGE)).ok()
    }

    fn headers(&self) -> Option<usize> {
        self.parts.headers(&self.update, &self.etag)
    }

    /// GET, judge, PATCH: every decision about an update that is applied at once.
    fn walk(&self, found: &Reply) -> Option<Step> {
        let Step::Get(fetching) = protocol::start() else { return None };
        let fetch = protocol::fetch(found, &self.update, &self.guard, &self.texts);
        let Step::Patch(patching) = fetching.on_fetch(fetch, &self.rules) else { return None };
        black_box(self.guard.body(&self.update));
        let verdict = verdict(Request::Patch, &self.written, &self.texts);
        Some(patching.on_verdict(verdict, &self.rules))
    }

    /// Sixteen updates of a hot order. All are of one number: only their text is looked at.
    fn merge(&self) -> Option<OrderUpdate> {
        let update = OrderUpdate { sequence: None, ..self.update.clone() };
        let mut merged = Merged::begin(&update, &self.guard, 65_536)?;
        for _ in 1..16 {
            merged.add(&update, &self.guard);
        }
        merged.update()
    }
}

fn envelope(body: &str) -> Envelope<'_> {
    Envelope {
        content_type: Some("application/json"),
        content_encoding: None,
        body: body.as_bytes(),
    }
}

/// The fields of the update, and so many others.
fn order(more: u32) -> String {
    let property = |at: u32| format!(r#","Property{at}":"a value of some length {at}""#);
    let more: String = (0..more).map(property).collect();
    format!(
        r#"{{"@odata.context":"https://acme.operations.dynamics.com/data/$metadata#SalesOrderHeadersV2/$entity","@odata.etag":"W/\"JzEsNTYzNzE0NDU3Njsw\"","dataAreaId":"usmf","SalesOrderNumber":"SO-2025-0145","RequestedShippingDate":"2025-06-28T12:00:00Z","DeliveryModeCode":"Truck","CustomerRequisitionNumber":"PO-1","SalesOrderName":"Contoso"{more}}}"#
    )
}

fn answer(status: u16, body: String) -> Answer {
    Answer {
        status,
        etag: ETag::new(TAG),
        retry_after: None,
        repeat_rejected: false,
        is_json: !body.is_empty(),
        service_request_id: None,
        body: body.into(),
    }
}
