//! The log subscriber, and the name of every field as a constant.

/// Names of log fields. Fixed: dashboards and alerts of operators are built on them.
pub mod field {
    /// Canonical order key.
    pub const ORDER: &str = "order";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = "attempt";
    /// How an attempt or a message ended.
    pub const OUTCOME: &str = "outcome";
    /// HTTP status of the GET.
    pub const GET_STATUS: &str = "get_status";
    /// HTTP status of the PATCH.
    pub const PATCH_STATUS: &str = "patch_status";
    /// ETag that the GET brought.
    pub const ETAG_SEEN: &str = "etag_seen";
    /// ETag that the PATCH carried.
    pub const ETAG_SENT: &str = "etag_sent";
    /// Duration in milliseconds.
    pub const MILLISECONDS: &str = "milliseconds";
    /// Our identifier of an attempt.
    pub const REQUEST_ID: &str = "request_id";
    /// The service's identifier of a request.
    pub const SERVICE_REQUEST_ID: &str = "service_request_id";
    /// AMQP message id.
    pub const MESSAGE_ID: &str = "message_id";
    /// Queue that a delivery came from.
    pub const QUEUE: &str = "queue";
    /// Reason code of a dead letter.
    pub const REASON: &str = "reason";
}
