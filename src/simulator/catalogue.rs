//! The faults by name: which there are, what each strikes, and what it makes of a request.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::switch::Switch;

/// Where a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Reading an order.
    Get,
    /// Changing an order.
    Patch,
    /// A `$batch` as a whole.
    Batch,
    /// A request for a token.
    Token,
}

/// Every request under `/data/`.
const ALL: &[At] = &[At::Get, At::Patch, At::Batch];
/// What may change an order.
const WRITES: &[At] = &[At::Patch, At::Batch];
const GET: &[At] = &[At::Get];
const PATCH: &[At] = &[At::Patch];
const SINGLE: &[At] = &[At::Get, At::Patch];
const BATCH: &[At] = &[At::Batch];
const TOKEN: &[At] = &[At::Token];
/// Not a request: the port itself.
const PORT: &[At] = &[];

/// One line for each fault, so that none can lack a name, a place or a meaning.
macro_rules! catalogue {
    ($($variant:ident $name:literal $at:ident $meaning:literal;)*) => {
        /// A fault by name: its number and a word.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum Name {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)*
        }

        /// Every fault with the name and the meaning that the documents give.
        pub const CATALOGUE: &[(Name, &str, &str)] = &[$((Name::$variant, $name, $meaning),)*];

        impl Name {
            /// Where it can strike. None of them: the port itself.
            pub const fn places(self) -> &'static [At] {
                match self { $(Self::$variant => $at,)* }
            }
        }
    };
}

catalogue! {
    F1LostReply "f1_lost_reply" WRITES "applied, then the connection is reset";
    F2Cut "f2_cut" ALL "the connection is reset, and nothing applied";
    F3CutBody "f3_cut_body" ALL "carried out, then reset in the middle of the answer's body";
    F4StallThenApply "f4_stall_then_apply" ALL "waits `for` (2 min), and is carried out even if the client has left";
    F5GatewayPage "f5_gateway_page" ALL "502, 503 or 504 with a page; carried out or not, by the dice or `applied`";
    F6RetryAfterDate "f6_retry_after_date" ALL "503 whose Retry-After is a date, `for` (30 s) from now";
    F7NoRetryAfter "f7_no_retry_after" ALL "429 without Retry-After";
    F7AbsurdRetryAfter "f7_absurd_retry_after" ALL "429 whose Retry-After is 0, -1, 86400 or a word, by the dice or `retry_after`";
    F8TokenRevoked "f8_token_revoked" ALL "401, and every token given out so far is dead";
    F8Unauthorized "f8_unauthorized" ALL "401, whatever the token";
    F8Forbidden "f8_forbidden" ALL "403, whatever the token";
    F9Redirect "f9_redirect" ALL "302 to a login page";
    F10LoginPage "f10_login_page" ALL "200 with a login page, and nothing applied";
    F11ConflictStorm "f11_conflict_storm" PATCH "somebody else changes the order just before the write";
    F12ConflictAs409 "f12_conflict_as_409" PATCH "409, and nothing applied";
    F12UpdateConflict "f12_update_conflict" PATCH "400 (or `status`) with the text of an update conflict, and nothing applied";
    F12Deadlock "f12_deadlock" PATCH "500 (or `status`) with the text of a deadlock, and nothing applied";
    F13BusinessError "f13_business_error" SINGLE "500 (or `status`) with the text of a business rule, or `message`";
    F14IgnoredWrite "f14_ignored_write" PATCH "answered like a write, but nothing changes";
    F15NoEtagHeader "f15_no_etag_header" GET "the tag stands in the body alone";
    F15NoEtagInBody "f15_no_etag_in_body" GET "the tag stands in the header alone";
    F15NoEtag "f15_no_etag" GET "no tag at all";
    F16TruncatedJson "f16_truncated_json" ALL "200 with the beginning of a JSON document, and nothing applied";
    F16InvalidJson "f16_invalid_json" ALL "200 with what is no JSON, and nothing applied";
    F16HugeJson "f16_huge_json" ALL "200 with 50 MB of JSON, and nothing applied";
    F17Gzip "f17_gzip" ALL "the body is compressed though nobody asked for it";
    F18Maintenance "f18_maintenance" ALL "503 with a page for everything";
    F18RefuseConnections "f18_refuse_connections" PORT "the port is closed and connections are cut; `lasts` opens it again";
    F19CloseIdle "f19_close_idle" ALL "the connection is closed `for` (at once) after the answer, unannounced";
    F20SlowDrip "f20_slow_drip" ALL "the body comes in 20 drops, the last one `for` (1 min) later";
    F21MissingParts "f21_missing_parts" BATCH "the answer lacks its last part; all are carried out";
    F21WrongContentId "f21_wrong_content_id" BATCH "every part of the answer has the Content-ID 1";
    F21OkInFailedGroup "f21_ok_in_failed_group" BATCH "members of a change set that was rolled back are answered as if written";
    F21Refused "f21_refused" BATCH "501 (or `status`), and nothing applied";
    F22TokenBadRequest "f22_token_bad_request" TOKEN "400 unauthorized_client";
    F22TokenUnauthorized "f22_token_unauthorized" TOKEN "401 invalid_client";
    F22TokenThrottled "f22_token_throttled" TOKEN "429 with Retry-After 1 (or `retry_after`)";
    F22TokenError "f22_token_error" TOKEN "500 (or `status`) with a page";
    F22TokenSlow "f22_token_slow" TOKEN "the token comes `for` (2 min) later";
    F22ExpiresInText "f22_expires_in_text" TOKEN "expires_in is a string";
    F22ExpiresInShort "f22_expires_in_short" TOKEN "expires_in is 60, and the token lives no longer";
    F22ExpiresInMissing "f22_expires_in_missing" TOKEN "there is no expires_in";
    F22ClockSkew "f22_clock_skew" TOKEN "the token dies `for` (5 min) before its time";
    F23BodyForNoContent "f23_body_for_no_content" PATCH "200 with the order where 204 was expected";
    F24DeletedBetween "f24_deleted_between" PATCH "somebody else deletes the order just before the write";
}

/// What an overloaded server says about when to come back.
const ABSURD: [&str; 4] = ["0", "-1", "86400", "soon"];
const GATEWAY: [u16; 3] = [502, 503, 504];
const DATE_AHEAD: Duration = Duration::from_secs(30);
const DRIP: Duration = Duration::from_mins(1);
const CONFLICT_TEXT: &str = "The record was changed by another request.";
const DEADLOCK_TEXT: &str = "Write failed for table row of type 'SalesOrderHeaderV2Entity'. \
    Infolog: Error: Cannot edit a record in Sales orders (SalesTable). Deadlock, where one or more \
    users have simultaneously locked the whole table or part of it.";
const BUSINESS_TEXT: &str = "Write failed for table row of type 'SalesOrderHeaderV2Entity'. \
    Infolog: Warning: Customer is blocked.; Warning: validateWrite failed on data source \
    'SalesTable (SalesTable)'.";

impl Name {
    /// Its name in scripts.
    pub fn as_str(self) -> &'static str {
        let found = CATALOGUE.iter().find(|(name, ..)| *name == self);
        found.map_or("", |(_, text, _)| text)
    }

    /// The name in a script.
    pub fn parse(text: &str) -> Option<Self> {
        CATALOGUE.iter().find(|(_, known, _)| *known == text).map(|(name, ..)| *name)
    }

    /// Whether it can strike a part of a `$batch`: what a connection or a gateway does cannot.
    pub fn strikes_parts(self) -> bool {
        let places = self.places();
        !places.contains(&At::Batch) && !places.contains(&At::Token) && !places.is_empty()
    }

    /// What it makes of a request under `/data/`. `None` for what happens elsewhere: to the port,
    /// or at the token endpoint.
    pub(super) fn fault(
        self,
        switch: &Switch,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<Fault> {
        let status = |usual: u16| Fault::Status {
            status: switch.status.unwrap_or(usual),
            retry_after: switch.retry_after.clone(),
            message: switch.message.clone(),
            applied: switch.applied.unwrap_or(false),
        };
        let told = |usual: u16, text: &str| Fault::Status {
            status: switch.status.unwrap_or(usual),
            retry_after: switch.retry_after.clone(),
            message: Some(switch.message.clone().unwrap_or_else(|| text.to_owned())),
            applied: switch.applied.unwrap_or(false),
        };
        let duration = |usual: Duration| switch.how_long.unwrap_or(usual);
        Some(match self {
            Self::F1LostReply => Fault::LostReply {},
            Self::F2Cut => Fault::Cut {},
            Self::F3CutBody => Fault::CutBody {},
            Self::F4StallThenApply => Fault::Stall { duration: duration(Duration::from_mins(2)) },
            Self::F5GatewayPage => {
                let drawn = rng.choice(GATEWAY).unwrap_or(503);
                let applied = switch.applied.unwrap_or_else(|| rng.bool());
                let status = switch.status.unwrap_or(drawn);
                Fault::Status { status, retry_after: None, message: None, applied }
            }
            Self::F6RetryAfterDate => Fault::Status {
                status: 503,
                retry_after: Some(http_date(now, duration(DATE_AHEAD))),
                message: None,
                applied: switch.applied.unwrap_or(false),
            },
            Self::F7NoRetryAfter => status(429),
            Self::F7AbsurdRetryAfter => {
                let drawn = rng.choice(ABSURD).unwrap_or_default();
                let said = switch.retry_after.clone().unwrap_or_else(|| drawn.to_owned());
                let (message, applied) = (None, false);
                Fault::Status { status: 429, retry_after: Some(said), message, applied }
            }
            Self::F8TokenRevoked => Fault::RevokeTokens {},
            Self::F8Unauthorized => status(401),
            Self::F8Forbidden => told(403, "Access denied."),
            Self::F9Redirect => status(302),
            Self::F10LoginPage => Fault::Html {},
            Self::F11ConflictStorm => Fault::Conflict {},
            Self::F12ConflictAs409 => told(409, CONFLICT_TEXT),
            Self::F12UpdateConflict => told(400, super::reply::UPDATE_CONFLICT_TEXT),
            Self::F12Deadlock => told(500, DEADLOCK_TEXT),
            Self::F13BusinessError => told(500, BUSINESS_TEXT),
            Self::F14IgnoredWrite => Fault::Ignore {},
            Self::F15NoEtagHeader => Fault::NoEtagHeader {},
            Self::F15NoEtagInBody => Fault::NoEtagInBody {},
            Self::F15NoEtag => Fault::NoEtag {},
            Self::F16TruncatedJson => Fault::BadJson {},
            Self::F16InvalidJson => Fault::InvalidJson {},
            Self::F16HugeJson => Fault::HugeJson {},
            Self::F17Gzip => Fault::Gzip {},
            Self::F18Maintenance => status(503),
            Self::F19CloseIdle => Fault::CloseIdle { duration: duration(Duration::ZERO) },
            Self::F20SlowDrip => Fault::SlowDrip { duration: duration(DRIP) },
            Self::F21MissingParts => Fault::MissingParts {},
            Self::F21WrongContentId => Fault::WrongContentId {},
            Self::F21OkInFailedGroup => Fault::OkInFailedGroup {},
            Self::F21Refused => status(501),
            Self::F23BodyForNoContent => Fault::BodyForNoContent {},
            Self::F24DeletedBetween => Fault::Delete {},
            Self::F18RefuseConnections
            | Self::F22TokenBadRequest
            | Self::F22TokenUnauthorized
            | Self::F22TokenThrottled
            | Self::F22TokenError
            | Self::F22TokenSlow
            | Self::F22ExpiresInText
            | Self::F22ExpiresInShort
            | Self::F22ExpiresInMissing
            | Self::F22ClockSkew => return None,
        })
    }
}

/// A moment in the form of HTTP headers.
fn http_date(now: Timestamp, ahead: Duration) -> String {
    let at = now.checked_add(ahead).unwrap_or(Timestamp::MAX);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_from_1_to_24_has_a_fault_and_names_are_read_back() {
        let number = |text: &str| {
            let digits = text.strip_prefix('f')?.split('_').next()?;
            digits.parse::<u32>().ok()
        };
        let numbers: std::collections::BTreeSet<_> =
            CATALOGUE.iter().map(|(_, text, _)| number(text).expect(text)).collect();
        assert_eq!(numbers, (1..=24).collect());
        for (name, text, _) in CATALOGUE {
            assert_eq!((name.as_str(), Name::parse(text)), (*text, Some(*name)));
            assert_eq!(serde_json::to_value(name).unwrap(), *text);
        }
        assert_eq!(Name::parse("f1"), None);
    }

    #[test]
    fn everything_that_strikes_the_data_is_a_fault_there() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (name, text, _) in CATALOGUE {
            let places = name.places();
            let elsewhere = places.is_empty() || places.contains(&At::Token);
            let fault = name.fault(&Switch::default(), Timestamp::UNIX_EPOCH, &mut rng);
            assert_eq!(fault.is_none(), elsewhere, "{text}");
        }
    }

    #[test]
    fn retry_after_can_be_a_date() {
        let text = http_date(Timestamp::UNIX_EPOCH, Duration::from_secs(30));
        assert_eq!(text, "Thu, 01 Jan 1970 00:00:30 GMT");
    }
}
