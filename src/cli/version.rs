//! What `--version` says: which release, of which commit, built with what.

use std::sync::LazyLock;

/// Set by whoever builds what is shipped. A plain build has none: it may hold changes of nobody's commit.
const COMMIT: Option<&str> = option_env!("ORDERWRIGHT_COMMIT");

/// The release, and in brackets the commit, if it is known, and the features.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let amqps = if cfg!(feature = "amqps") { "with amqps" } else { "without amqps" };
        told(env!("CARGO_PKG_VERSION"), COMMIT, amqps)
    });
    &TEXT
}

fn told(version: &str, commit: Option<&str>, features: &str) -> String {
    // A build argument that nobody gave is there, and empty.
    match commit.filter(|commit| !commit.is_empty()) {
        Some(commit) => format!("{version} ({commit}, {features})"),
        None => format!("{version} ({features})"),
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn version_tells_the_commit_where_it_is_known() {
        assert_eq!(told("1.2.3", Some("abc1234"), "with amqps"), "1.2.3 (abc1234, with amqps)");
        assert_eq!(told("1.2.3", Some(""), "without amqps"), "1.2.3 (without amqps)");
        assert_eq!(told("1.2.3", None, "with amqps"), "1.2.3 (with amqps)");
    }
}
