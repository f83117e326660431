//! Why something is not done.

use std::{error::Error, io, path::PathBuf};

use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Service(#[from] order_client::Error),
    #[error(
        "nobody is signed in to {stage}: `orderctl login --stage {stage}` does it, or ORDERCTL_API_URL and ORDERCTL_TOKEN"
    )]
    SignedOut { stage: String },
    #[error(
        "there is no local stack here or in any folder above: `make up` starts one; a deployment takes --api-url, --client-id and --region"
    )]
    NoStack,
    #[error("{} cannot be used", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("others may read {}: `chmod 600` it", .0.display())]
    OpenToOthers(PathBuf),
    // Its source is left out: that would quote the line, and with it a token.
    #[error("{} is no profile: `orderctl login` writes another", .0.display())]
    NoProfile(PathBuf),
    #[error("there is no home folder to keep a profile in: set XDG_CONFIG_HOME")]
    NoHome,
    #[error("the user pool does not answer")]
    PoolSilent { source: reqwest::Error },
    #[error("the user pool refuses: {0}")]
    PoolRefuses(String),
    #[error("the terminal cannot be asked")]
    NoTerminal { source: io::Error },
    #[error("this would change {0}, and nobody has agreed: at a terminal it is asked, elsewhere --yes says so")]
    Unconfirmed(String),
    #[error("{0}")]
    Refused(String),
    /// It was not understood.
    #[error("{0}")]
    Usage(String),
    /// What came back has been printed already.
    #[error("{status}")]
    Printed { status: String, correlation_id: String },
    #[error("the result cannot be printed")]
    Print(#[from] io::Error),
}

impl Failure {
    pub(crate) fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Service(error) => error.correlation_id(),
            Self::Printed { correlation_id, .. } => Some(correlation_id),
            _ => None,
        }
    }

    /// With all causes.
    pub(crate) fn said(&self) -> String {
        let mut said = self.to_string();
        // What is transparent has said its own words already.
        let mut cause = self.source();
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        said
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let mut failure = json!({ "error": self.said(), "correlation_id": self.correlation_id() });
        if let (Self::Service(order_client::Error::Problem(problem)), Some(failure)) = (self, failure.as_object_mut()) {
            failure.insert("type".to_owned(), json!(problem.kind));
            failure.insert("status".to_owned(), json!(problem.status));
            failure.insert("errors".to_owned(), json!(problem.errors));
        }
        failure
    }
}
