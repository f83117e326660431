//! Why something is not done.

use std::{error::Error, io, path::PathBuf};

use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Service(#[from] order_client::Error),
    /// A command that may have been done: the same again, with these words, is done once.
    #[error("{source}")]
    Unknown { source: order_client::Error, again: String },
    #[error(
        "nobody is signed in to {stage}: `orderctl login --stage {stage}` does it, or ORDERCTL_API_URL and ORDERCTL_TOKEN"
    )]
    SignedOut { stage: String },
    #[error(
        "ORDERCTL_API_URL is not where {stage}'s profile leads, and its token is for nobody else: ORDERCTL_TOKEN takes one"
    )]
    TokenOfElsewhere { stage: String },
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
    Printed { status: String, correlation_id: String, again: Option<String> },
    #[error("the result cannot be printed")]
    Print(#[from] io::Error),
}

impl Failure {
    pub(crate) fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Service(error) | Self::Unknown { source: error, .. } => error.correlation_id(),
            Self::Printed { correlation_id, .. } => Some(correlation_id),
            _ => None,
        }
    }

    /// What the same again has to say, where it may have been done.
    pub(crate) fn again(&self) -> Option<&str> {
        match self {
            Self::Unknown { again, .. } => Some(again),
            Self::Printed { again, .. } => again.as_deref(),
            _ => None,
        }
    }

    /// With all causes.
    pub(crate) fn said(&self) -> String {
        let mut said = self.to_string();
        // What says the words of its source has said them already.
        let mut cause = match self {
            Self::Unknown { source, .. } => source.source(),
            _ => self.source(),
        };
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        said
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let mut failure =
            json!({ "error": self.said(), "correlation_id": self.correlation_id(), "repeat_with": self.again() });
        if let (Self::Service(error) | Self::Unknown { source: error, .. }, Some(failure)) =
            (self, failure.as_object_mut())
            && let order_client::Error::Problem(problem) = error
        {
            failure.insert("type".to_owned(), json!(problem.kind));
            failure.insert("status".to_owned(), json!(problem.status));
            failure.insert("errors".to_owned(), json!(problem.errors));
        }
        failure
    }
}
