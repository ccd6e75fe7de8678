//! Tokens against cross-site request forgery, as SAP's gateway wants them: a GET fetches one, and
//! each write sends it back with the cookie of the session that it belongs to.

/// The header that carries them.
pub(super) const HEADER: &str = "x-csrf-token";
const COOKIE: &str = "SAP_SESSIONID";

/// The sessions. Nothing is stored: a token follows from its session.
#[derive(Debug)]
pub(super) struct Csrf {
    seed: u64,
}

impl Csrf {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Every token is invalid from now on.
    pub(super) fn expire(&mut self) {
        self.seed = self.seed.wrapping_add(1);
    }

    /// What the answer to a GET says, if the client asked for a token.
    pub(super) fn fetched(
        &self,
        asked: Option<&str>,
        cookies: Option<&str>,
        rng: &mut fastrand::Rng,
    ) -> Vec<(&'static str, String)> {
        if !asked.is_some_and(|asked| asked.eq_ignore_ascii_case("fetch")) {
            return Vec::new();
        }
        let known = session(cookies).map(str::to_owned);
        let session = known.unwrap_or_else(|| format!("{:032x}", rng.u128(..)));
        let cookie = format!("{COOKIE}={session}; path=/; HttpOnly");
        vec![(HEADER, self.token(&session)), ("set-cookie", cookie)]
    }

    /// Whether a write may pass.
    pub(super) fn is_valid(&self, token: Option<&str>, cookies: Option<&str>) -> bool {
        session(cookies).is_some_and(|session| token == Some(&*self.token(session)))
    }

    fn token(&self, session: &str) -> String {
        let seed = session.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:032x}", fastrand::Rng::with_seed(seed).u128(..))
    }
}

fn session(cookies: Option<&str>) -> Option<&str> {
    let mut each = cookies?.split(';').filter_map(|cookie| cookie.trim().split_once('='));
    each.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_valid_with_the_cookie_of_its_session_until_it_expires() {
        let mut csrf = Csrf::new(1);
        let mut rng = fastrand::Rng::with_seed(1);
        assert!(csrf.fetched(None, None, &mut rng).is_empty());
        let fetched = csrf.fetched(Some("Fetch"), None, &mut rng);
        let (token, cookie) = (&*fetched[0].1, fetched[1].1.split(';').next());
        assert!(csrf.is_valid(Some(token), cookie));
        assert!(csrf.is_valid(Some(token), Some(&format!("a=b; {}", cookie.unwrap()))));
        assert!(!csrf.is_valid(Some(token), None));
        assert!(!csrf.is_valid(Some(token), Some("SAP_SESSIONID=other")));
        assert!(!csrf.is_valid(None, cookie));
        let again = csrf.fetched(Some("fetch"), cookie, &mut rng);
        assert_eq!(again[0].1, token);
        csrf.expire();
        assert!(!csrf.is_valid(Some(token), cookie));
    }
}
