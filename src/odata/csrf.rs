//! What a service with protection against cross-site request forgery wants of a write: the token that
//! a GET fetched, and the cookies of the session that it belongs to. Values only.

use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// Most bytes of cookies that are sent back. Servers refuse larger headers.
const COOKIES_BYTES_MAX: usize = 8 * 1024;

/// A token and its cookies. `Debug` hides both: they are marked as sensitive.
#[derive(Debug)]
pub(super) struct Session {
    token: HeaderValue,
    cookies: Option<HeaderValue>,
}

impl Session {
    /// Asks for a token.
    pub(super) fn ask(headers: &mut HeaderMap) {
        headers.insert(TOKEN, HeaderValue::from_static("Fetch"));
    }

    /// What an answer to that brought. `None` if no token, or more cookies than any service has.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut token = headers.get(TOKEN).filter(|_| !is_refused(headers))?.clone();
        token.set_sensitive(true);
        let mut cookies = String::new();
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().ok()?.split(';').next().unwrap_or_default().trim();
            let separator = if cookies.is_empty() { "" } else { "; " };
            cookies = cookies + separator + cookie;
            if cookies.len() > COOKIES_BYTES_MAX {
                return None;
            }
        }
        let cookies = if cookies.is_empty() {
            None
        } else {
            let mut cookies = HeaderValue::try_from(cookies).ok()?;
            cookies.set_sensitive(true);
            Some(cookies)
        };
        Some(Self { token, cookies })
    }

    /// Puts both on a write.
    pub(super) fn send(&self, headers: &mut HeaderMap) {
        headers.insert(TOKEN, self.token.clone());
        if let Some(cookies) = &self.cookies {
            headers.insert(COOKIE, cookies.clone());
        }
    }
}

/// Whether an answer says that the token is missing or no longer good.
pub(super) fn is_refused(headers: &HeaderMap) -> bool {
    headers.get(TOKEN).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"required"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn token_is_sent_back_with_every_cookie_that_came_with_it() {
        let answer = headers(&[
            (TOKEN, "t0ken"),
            (SET_COOKIE, "SAP_SESSIONID=abc==; path=/; HttpOnly"),
            (SET_COOKIE, "sap-usercontext=sap-client=100"),
        ]);
        let session = Session::read(&answer).unwrap();
        assert!(!format!("{session:?}").contains("t0ken"), "{session:?}");
        let mut write = HeaderMap::new();
        session.send(&mut write);
        let wanted = "SAP_SESSIONID=abc==; sap-usercontext=sap-client=100";
        assert_eq!(write[TOKEN], "t0ken");
        assert_eq!(write[COOKIE], wanted);
    }

    #[test]
    fn answer_without_a_token_or_with_a_flood_of_cookies_is_no_session() {
        assert!(Session::read(&headers(&[(SET_COOKIE, "a=b")])).is_none());
        let refused = headers(&[(TOKEN, "Required")]);
        assert!(is_refused(&refused) && Session::read(&refused).is_none());
        assert!(!is_refused(&headers(&[])));
        let flood = format!("a={}", "x".repeat(COOKIES_BYTES_MAX));
        assert!(Session::read(&headers(&[(TOKEN, "t"), (SET_COOKIE, &flood)])).is_none());
    }
}
