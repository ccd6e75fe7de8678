//! Why an attempt ended as it did, in names that never change.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        /// Why an attempt ended as it did. The texts are part of the interface: they stand in dead
        /// letters, metrics and alerts, and are never reworded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

codes! {
    /// 412: the ETag is stale.
    EtagConflict = "etag_conflict";
    /// 409.
    Conflict = "conflict";
    /// An error text that tells of an update conflict, whatever the status.
    UpdateConflict = "update_conflict";
    /// 412 because the service has seen the request before, or too late.
    RepeatWindow = "repeat_window";
    /// More conflicts in a row than are allowed.
    ConflictExhausted = "conflict_exhausted";
    /// The order does not exist, or not for us.
    NotFound = "not_found";
    /// The GET brought no ETag, so no write can be guarded.
    NoEtag = "no_etag";
    /// 428 although an ETag was sent.
    EtagRequired = "etag_required";
    /// The message's `expect` does not hold.
    ExpectationFailed = "expectation_failed";
    /// The order holds the sequence of a newer update.
    Superseded = "superseded";
    /// The property that should hold the order's sequence holds no whole number.
    SequenceUnreadable = "sequence_unreadable";
    /// A property would change in a way that the configuration does not allow.
    TransitionRefused = "transition_refused";
    /// The service refuses the request as it is.
    Rejected = "rejected";
    /// A rule of the business logic says no.
    BusinessRule = "business_rule";
    /// Body or URL is larger than the service takes.
    TooLarge = "too_large";
    /// The service cannot do this at all.
    NotSupported = "not_supported";
    /// 401, with a token that was renewed for this request, where it can be.
    Auth = "auth";
    /// The token endpoint refuses us as we are configured.
    AuthConfig = "auth_config";
    /// The token endpoint gives no token now.
    AuthUnavailable = "auth_unavailable";
    /// The service asks for a CSRF token and takes none that it gave.
    Csrf = "csrf";
    /// 403.
    Forbidden = "forbidden";
    /// 3xx or 407: something stands between us and the service.
    Redirected = "redirected";
    /// Success, but the body is not OData: a login or maintenance page.
    NotOData = "not_odata";
    /// 424: something else failed that this request depends on.
    Dependency = "dependency";
    /// 408 or 425, or our own deadline.
    Timeout = "timeout";
    /// 429.
    Throttled = "throttled";
    /// 429, or 503 with a time to come back, again and again for this order while others are taken.
    ThrottledAlone = "throttled_alone";
    /// 503 with a time to come back.
    Unavailable = "unavailable";
    /// 502, 503 or 504.
    Gateway = "gateway";
    /// Any other 5xx.
    ServerError = "server_error";
    /// An error text that tells of a database deadlock.
    Deadlock = "deadlock";
    /// No connection could be made.
    Unreachable = "unreachable";
    /// The service's certificate is not to be trusted.
    Certificate = "certificate";
    /// 404 that tells of the address that all requests have, not of one order.
    WrongAddress = "wrong_address";
    /// The reply was lost or makes no sense: the write may have happened.
    UnknownOutcome = "unknown_outcome";
    /// Its holders were lost again and again: it may be what kills them.
    CrashLoop = "crash_loop";
    /// A bug in orderwright itself.
    Bug = "bug";
}

impl Code {
    /// Whether it says nothing of the order for which it was asked: nobody is let in, or nobody knows who
    /// answers.
    #[must_use]
    pub const fn is_alike_for_all(self) -> bool {
        matches!(self, Self::Auth) || self.is_never_of_an_order()
    }

    /// Whether it cannot come from what was asked of an order at all: it was known before that was sent.
    #[must_use]
    pub const fn is_never_of_an_order(self) -> bool {
        matches!(self, Self::AuthConfig | Self::AuthUnavailable | Self::Certificate)
    }
}
