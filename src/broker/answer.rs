//! How long an answer of the broker is waited for.

use std::time::Duration;

use tokio::time::timeout;

use super::Error;

/// The library waits without end for an answer that the loss of the connection overtook. A broker that
/// elects a leader answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What the broker says to one question.
///
/// # Errors
/// [`Error::Unanswered`] after 30 s, and what was asked for.
pub async fn answered<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    let seconds = ANSWER_MAX.as_secs();
    let answer = timeout(ANSWER_MAX, asked).await;
    Ok(answer.map_err(|_elapsed| Error::Unanswered { seconds })??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answer_that_never_comes_is_not_waited_for_without_end() {
        let never = std::future::pending::<Result<(), Error>>();
        let error = answered(never).await.unwrap_err();
        assert!(matches!(error, Error::Unanswered { seconds: 30 }), "{error}");
        assert!(error.may_heal());
    }
}
