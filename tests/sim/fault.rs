//! What may go wrong.

use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL, and a new process after this time.
    Kill(usize, Duration),
    /// SIGTERM, and a new process this long after its end.
    Term(usize, Duration),
    /// SIGSTOP for this time.
    Stop(usize, Duration),
    /// No packet goes to the broker, or none comes from it, or both.
    CutBroker(usize, [bool; 2], Duration),
    /// The same between the pod and the target.
    CutTarget(usize, [bool; 2], Duration),
    /// The pod's connections to the broker are reset, or one of them.
    Reset(usize, bool),
    /// The broker's node goes, another one answers after this time.
    FailOver(Duration),
    /// The target takes so much longer for everything.
    Slow(Duration, Duration),
    /// Of ten replies so many are lost, half of them with a reset.
    LoseReplies(u8, Duration),
    /// Of ten requests so many arrive twice.
    Double(u8, Duration),
    /// The target answers 503.
    Outage(Duration),
    /// The target answers 429.
    Throttle(Duration),
    /// Somebody else changes orders: of ten writes so many find another ETag.
    Conflicts(u8, Duration),
    /// The service itself is at fault, for one order or for all: see [`SERVICE`].
    Service(usize, Option<usize>, Duration),
    /// The pod's wall clock jumps by so many seconds.
    Clock(usize, i64),
    /// Of ten messages that pods publish the broker refuses so many, as where a queue is full.
    Refuse(u8, Duration),
}

/// Their names, in the order of the coverage report.
pub(crate) const KINDS: [&str; 16] = [
    "kill",
    "term",
    "stop",
    "cut broker",
    "cut target",
    "reset",
    "fail over",
    "slow",
    "lost replies",
    "doubled",
    "outage",
    "throttle",
    "conflicts",
    "clock",
    "service",
    "refused messages",
];

/// Faults of the simulator (`src/simulator/catalogue.rs`), and what they strike. Those are left out with
/// which the service says what is not true, or forgets an order: nobody can keep a promise then.
pub(crate) const SERVICE: [(&str, &str); 13] = [
    ("f1_lost_reply", "patch"),
    ("f2_cut", "patch"),
    ("f3_cut_body", "get"),
    ("f5_gateway_page", "patch"),
    ("f7_absurd_retry_after", "get"),
    ("f8_unauthorized", "get"),
    ("f10_login_page", "get"),
    ("f12_conflict_as_409", "patch"),
    ("f12_update_conflict", "patch"),
    ("f12_deadlock", "patch"),
    ("f13_business_error", "patch"),
    ("f15_no_etag_header", "get"),
    ("f16_truncated_json", "get"),
];

impl Fault {
    pub(crate) fn kind(&self) -> usize {
        match self {
            Self::Kill(..) => 0,
            Self::Term(..) => 1,
            Self::Stop(..) => 2,
            Self::CutBroker(..) => 3,
            Self::CutTarget(..) => 4,
            Self::Reset(..) => 5,
            Self::FailOver(..) => 6,
            Self::Slow(..) => 7,
            Self::LoseReplies(..) => 8,
            Self::Double(..) => 9,
            Self::Outage(..) => 10,
            Self::Throttle(..) => 11,
            Self::Conflicts(..) => 12,
            Self::Clock(..) => 13,
            Self::Service(..) => 14,
            Self::Refuse(..) => 15,
        }
    }

    /// How long it takes.
    pub(crate) fn takes(&self) -> Duration {
        match self {
            Self::Kill(_, wait)
            | Self::Term(_, wait)
            | Self::Stop(_, wait)
            | Self::CutBroker(_, _, wait)
            | Self::CutTarget(_, _, wait)
            | Self::FailOver(wait)
            | Self::Slow(_, wait)
            | Self::LoseReplies(_, wait)
            | Self::Double(_, wait)
            | Self::Outage(wait)
            | Self::Throttle(wait)
            | Self::Service(_, _, wait)
            | Self::Refuse(_, wait)
            | Self::Conflicts(_, wait) => *wait,
            Self::Reset(..) | Self::Clock(..) => Duration::ZERO,
        }
    }
}
