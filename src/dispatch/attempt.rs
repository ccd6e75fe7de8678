//! What one attempt did, for the log and for the dead letter.

use jiff::Timestamp;
use serde::Serialize;

use crate::order::ETag;

/// One attempt. The JSON form stands in dead letters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// When its GET was sent.
    pub at: Timestamp,
    /// What its GET and its PATCH took together, in milliseconds.
    pub milliseconds: u64,
    /// HTTP status of the GET; absent if none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_status: Option<u16>,
    /// HTTP status of the PATCH; absent if none was sent or none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_status: Option<u16>,
    /// The ETag that the GET brought.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub etag_seen: Option<ETag>,
    /// The ETag that the PATCH carried.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub etag_sent: Option<ETag>,
    /// How it ended: `applied`, `already_applied`, or the code of the trouble.
    pub outcome: &'static str,
    /// What the service said about it, or what of the order stood in its way, if anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Our identifier of the attempt, sent as `x-ms-client-request-id`.
    pub request_id: uuid::Uuid,
    /// The service's own (`ms-dyn-aid`), of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_request_id: Option<String>,
    /// The service's own code or type of the error, of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn as_text<S: serde::Serializer>(etag: &Option<ETag>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(etag.as_ref().map_or("", ETag::as_str))
}
