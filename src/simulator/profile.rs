//! What the products do differently, in one table.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::throttle::Limits;

/// Which product is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Dynamics 365 Finance & Operations: weak tags, 204 without tag after a PATCH.
    #[default]
    Fo,
    /// A strict gateway like SAP's: 428 without tag, tags in every answer, CSRF tokens.
    Strict,
    /// Dataverse: a PATCH without tag creates what is missing; limits for each user.
    Dataverse,
    /// Business Central: `Request_EntityChanged`, and the order in the answer to a PATCH.
    Bc,
}

/// Every profile with its name.
pub const PROFILES: [(&str, Profile); 4] = [
    ("fo", Profile::Fo),
    ("strict", Profile::Strict),
    ("dataverse", Profile::Dataverse),
    ("bc", Profile::Bc),
];

/// What becomes of a PATCH without If-Match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutTag {
    /// It is written: the last one wins.
    Written,
    /// It is written, and an order that is missing is created.
    Upserted,
    /// It is refused with this status.
    Refused(u16),
}

/// How a product behaves.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "a table of what is so and what is not")]
pub struct Manners {
    /// A PATCH without If-Match.
    pub without_tag: WithoutTag,
    /// Status of a stale tag.
    pub stale: u16,
    /// Whether the body is judged before the tag: 400 before 412.
    pub body_first: bool,
    /// Whether the answer to a PATCH has the order, if the client does not prefer otherwise.
    pub shows_written: bool,
    /// Whether the client's preference is heard.
    pub hears_preference: bool,
    /// Whether the answer to a PATCH has the new tag.
    pub tags_written: bool,
    /// Whether orders of other companies are hidden without `cross-company=true`.
    pub has_companies: bool,
    /// Whether writes need a CSRF token and its cookie.
    pub wants_csrf: bool,
    /// How errors look.
    pub dialect: Dialect,
    /// What is too much unless it is set otherwise.
    pub limits: Limits,
    /// Most requests in a `$batch`.
    pub batch_parts_max: usize,
    /// Status of a longer `$batch`.
    pub batch_too_long: u16,
}

const FO: Manners = Manners {
    without_tag: WithoutTag::Written,
    stale: 412,
    body_first: false,
    shows_written: false,
    hears_preference: true,
    tags_written: false,
    has_companies: true,
    wants_csrf: false,
    dialect: Dialect::FinOps,
    limits: Limits::NONE,
    batch_parts_max: 5_000,
    batch_too_long: 400,
};

const STRICT: Manners = Manners {
    without_tag: WithoutTag::Refused(428),
    body_first: true,
    tags_written: true,
    has_companies: false,
    wants_csrf: true,
    dialect: Dialect::Gateway,
    batch_parts_max: 100,
    batch_too_long: 429,
    ..FO
};

const DATAVERSE: Manners = Manners {
    without_tag: WithoutTag::Upserted,
    has_companies: false,
    dialect: Dialect::Dataverse,
    limits: Limits {
        requests: Some(6_000),
        execution: Some(Duration::from_mins(20)),
        window: Some(Duration::from_mins(5)),
        concurrent: Some(52),
        ..Limits::NONE
    },
    batch_parts_max: 1_000,
    ..FO
};

const BC: Manners = Manners {
    without_tag: WithoutTag::Refused(400),
    stale: 409,
    shows_written: true,
    hears_preference: false,
    tags_written: true,
    has_companies: false,
    dialect: Dialect::BusinessCentral,
    batch_parts_max: 100,
    ..FO
};

impl Profile {
    /// How the product behaves.
    pub const fn manners(self) -> &'static Manners {
        match self {
            Self::Fo => &FO,
            Self::Strict => &STRICT,
            Self::Dataverse => &DATAVERSE,
            Self::Bc => &BC,
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let found = PROFILES.iter().find(|(name, _)| *name == text);
        found.map(|(_, profile)| *profile).ok_or(UnknownProfile)
    }
}

/// Not the name of a profile.
#[derive(Debug, thiserror::Error)]
#[error("the profiles are fo, strict, dataverse and bc")]
pub struct UnknownProfile;
