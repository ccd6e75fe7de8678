//! Where a new token comes from: the token endpoint, which is asked with a proof of who we are, or a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use super::client::{body, causes, retry_after};
use super::grant::{Grant, Refusal, read};
use super::{Error, client, file};
use crate::config::{Auth, AuthKind, Target};
use crate::protocol::SignIn;

/// Largest answer of the token endpoint that is read. A token has a few thousand bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a token in a file counts; asked for anew from half of it on, and after a 401.
const FILE_FOR: Duration = Duration::from_mins(10);

/// Where a new token comes from.
#[derive(Debug)]
pub(super) enum Source {
    Endpoint(Endpoint),
    /// Somebody else signs in, and puts the token there.
    File(PathBuf),
}

/// A token endpoint, and what it is asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    http: reqwest::Client,
    url: String,
    client_id: String,
    scope: (&'static str, String),
    proof: Proof,
}

/// How we prove to the token endpoint who we are.
#[derive(Debug)]
enum Proof {
    Secret(SecretString),
    /// The file with the secret: whoever replaces it need not restart anything.
    SecretFile(PathBuf),
    /// The file with the cluster's token.
    Federated(PathBuf),
}

impl Source {
    /// `None` where there is none: a fixed token is sent, or nothing.
    pub(super) fn new(target: &Target, instance: &str) -> Result<Option<Self>, Error> {
        let auth = &target.auth;
        let proof = match (auth.kind, &auth.client_secret_file) {
            (AuthKind::Bearer, _) => return Ok(target.bearer_token_file.clone().map(Self::File)),
            (AuthKind::ClientSecret, None) => {
                Proof::Secret(auth.client_secret.clone().unwrap_or_default())
            }
            (AuthKind::ClientSecret, Some(path)) => Proof::SecretFile(path.clone()),
            (AuthKind::WorkloadIdentity, _) => {
                Proof::Federated(auth.federated_token_file.clone().into())
            }
        };
        Ok(Some(Self::Endpoint(Endpoint::new(target, auth, proof, instance)?)))
    }

    /// Logs that there is a token, and for how long.
    pub(super) fn tell(&self, lives_for: Duration) {
        match self {
            Self::Endpoint(_) => tracing::info!(?lives_for, "signed in"),
            Self::File(_) => tracing::debug!("read target.bearer_token_file"),
        }
    }

    /// Asks for a token once.
    pub(super) async fn ask(&self) -> Result<Grant, Refusal> {
        match self {
            Self::Endpoint(endpoint) => endpoint.ask().await,
            Self::File(path) => {
                let token = secret("target.bearer_token_file", path).await?;
                Ok(Grant { token: token.into(), life: FILE_FOR })
            }
        }
    }
}

impl Endpoint {
    fn new(target: &Target, auth: &Auth, proof: Proof, instance: &str) -> Result<Self, Error> {
        let http = client::builder(target, instance).build().map_err(Error::Setup)?;
        let (url, client_id) = (auth.token_url(), auth.client_id.clone());
        Ok(Self { http, url, client_id, scope: auth.scope(&target.url), proof })
    }

    /// One request for a token.
    async fn ask(&self) -> Result<Grant, Refusal> {
        let trouble = |error: &str| Refusal::new(SignIn::Unavailable, error);
        let request = self
            .http
            .post(&self.url)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .body(self.form().await?);
        let response = request.send().await.map_err(|error| trouble(&causes(error)))?;
        let (status, told) = (response.status().as_u16(), retry_after(&response));
        let answer = body(response, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|_fault| trouble("the answer broke off, or is too large"))?;
        read(status, told, &answer)
    }

    async fn form(&self) -> Result<String, Refusal> {
        let proof = match &self.proof {
            Proof::Secret(secret) => vec![("client_secret", secret.expose_secret().to_owned())],
            Proof::SecretFile(path) => {
                vec![("client_secret", secret("target.auth.client_secret_file", path).await?)]
            }
            Proof::Federated(path) => {
                let assertion = secret("target.auth.federated_token_file", path).await?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned();
                vec![("client_assertion_type", kind), ("client_assertion", assertion)]
            }
        };
        let (scope, what) = &self.scope;
        Ok(form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair(scope, what)
            .extend_pairs(proof)
            .finish())
    }
}

/// The secret in the file of this key, as it is now.
async fn secret(key: &str, path: &Path) -> Result<String, Refusal> {
    let read = file::read(path).await;
    read.map_err(|reason| Refusal::new(SignIn::Config, &format!("{key} {reason}")))
}
