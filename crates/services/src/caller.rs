//! How a client asks a service: JSON over HTTP, bounded answers, problems (RFC 9457) as errors, and no redirect: what is
//! asked of one service goes to no other.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::problem::Problem;

/// A service's address on the web.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    http: reqwest::Client,
    base: Url,
    /// Longest answer that is read, bytes.
    answer_bytes: usize,
}

/// Why a service did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is none that a path can be put on.
    #[error("{0} is not the address of a service: http:// or https:// is needed")]
    BadAddress(Url),
    /// No answer.
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The service refuses, and says why.
    #[error("refuses ({}): {}", .0.rule, .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not the service's, or not understood.
    #[error("answers {status} and not what was expected: {problem}")]
    Rubbish {
        /// HTTP status.
        status: u16,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The answer is longer than any that there is.
    #[error("answers more than {limit} bytes")]
    AnswerTooLong {
        /// The limit.
        limit: usize,
    },
}

impl CallError {
    /// Whether the same request can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable(error) => !error.is_builder(),
            Self::Refused(problem) => problem.retry,
            Self::Rubbish { status, .. } => *status >= 500,
            Self::BadAddress(_) | Self::AnswerTooLong { .. } => false,
        }
    }
}

impl Caller {
    /// Of the service at `base`, which may be a path of a server.
    pub(crate) fn new(base: Url, answer_bytes: usize) -> Result<Self, CallError> {
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(CallError::BadAddress(base));
        }
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            base,
            answer_bytes,
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.read(self.http.get(self.place(path)).send().await?).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Rubbish {
            status: 0,
            problem: error.to_string(),
        })?;
        let sent = self
            .http
            .post(self.place(path))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        self.read(sent.send().await?).await
    }

    fn place(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let prefix = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{prefix}{path}"));
        url
    }

    async fn read<T: DeserializeOwned>(&self, mut response: Response) -> Result<T, CallError> {
        let (status, limit) = (response.status(), self.answer_bytes);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(CallError::AnswerTooLong { limit });
            }
            body.extend_from_slice(&chunk);
        }
        let rubbish = |error: serde_json::Error| CallError::Rubbish {
            status: status.as_u16(),
            problem: error.to_string(),
        };
        if matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return serde_json::from_slice(&body).map_err(rubbish);
        }
        let problem = serde_json::from_slice(&body).map_err(rubbish)?;
        Err(CallError::Refused(Box::new(problem)))
    }
}
