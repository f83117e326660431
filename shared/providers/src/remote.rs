//! Any of the ports, by calls of the contract over any transport.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{error::Error, net::IpAddr, time::Duration};

use application::{event_store::Unavailable, ports::ProviderError};
use reqwest::{Url, header::HeaderName};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    breaker::{Breaker, Settings},
    context,
    contract::Call,
    grpc::Grpc,
    rest::Rest,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where a provider is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    transport: Kind,
    url: String,
    secure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    Rest,
}

/// Why nobody can be called there.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    #[error("it must be a URL that begins with grpc, grpcs, http or https")]
    Scheme,
    #[error("only a loopback address may be called without TLS: use grpcs or https")]
    Insecure,
    #[error("it must have a host, and neither user, query nor fragment")]
    Shape,
}

impl Address {
    /// `grpcs://host:port` or `https://host/path`; on this machine also `grpc` and `http`, without TLS.
    pub fn parse(url: &str) -> Result<Self, BadAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(BadAddress::Scheme)?;
        let (transport, secure) = match scheme {
            "grpc" => (Kind::Grpc, false),
            "grpcs" => (Kind::Grpc, true),
            "http" => (Kind::Rest, false),
            "https" => (Kind::Rest, true),
            _ => return Err(BadAddress::Scheme),
        };
        let url = format!("{}://{rest}", if secure { "https" } else { "http" });
        let parsed = Url::parse(&url).map_err(|_| BadAddress::Shape)?;
        let host = parsed.host_str().ok_or(BadAddress::Shape)?;
        if !parsed.username().is_empty()
            || parsed.password().is_some()
            || parsed.query().or(parsed.fragment()).is_some()
        {
            return Err(BadAddress::Shape);
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if !secure && host != "localhost" && !address.is_ok_and(|address| address.is_loopback()) {
            return Err(BadAddress::Insecure);
        }
        Ok(Self { transport, url, secure })
    }
}

/// How a provider is called.
#[derive(Debug, Clone, Copy)]
pub struct RemoteSettings {
    /// For the whole of a call. It has to be shorter than the step's own time, with room for what comes after the call.
    pub deadline: Duration,
    pub breaker: Settings,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), breaker: Settings::default() }
    }
}

enum Transport {
    Grpc(Grpc),
    Rest(Rest),
}

/// A provider of one's own.
pub struct Remote {
    /// In words, for errors.
    what: &'static str,
    transport: Transport,
    deadline: Duration,
    breaker: Breaker,
}

impl Remote {
    pub fn new(
        what: &'static str,
        address: &Address,
        settings: RemoteSettings,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let Address { transport, url, secure } = address;
        let transport = match transport {
            Kind::Grpc => Transport::Grpc(Grpc::new(url, *secure, settings.deadline)?),
            Kind::Rest => Transport::Rest(Rest::new(url, *secure, settings.deadline)?),
        };
        let breaker = Breaker::new(settings.breaker).on_change(move |change| {
            warn!(provider = what, from = ?change.from, to = ?change.to, "circuit breaker changed");
        });
        Ok(Self { what, transport, deadline: settings.deadline, breaker })
    }

    /// One call, and what is `read` of its answer. A business answer is a success to the breaker; an answer that cannot be read
    /// is a failure like none at all.
    async fn call<C: Call, T>(
        &self,
        request: C,
        read: impl FnOnce(C::Answer) -> Result<T, ProviderError>,
    ) -> Result<T, Unavailable> {
        let unavailable = |error: ProviderError| Unavailable { what: self.what, source: error.into() };
        let permit = match self.breaker.permit() {
            Ok(permit) => permit,
            Err(open) => return Err(unavailable(ProviderError::ShutOff { for_another: open.for_another })),
        };
        let headers = headers(&request);
        let call = async {
            match &self.transport {
                Transport::Grpc(grpc) => grpc.call(request, headers, self.deadline).await,
                Transport::Rest(rest) => rest.call(request, headers, self.deadline).await,
            }
        };
        let answer = match timeout(self.deadline, call).await {
            Ok(answer) => answer.and_then(read),
            Err(_) => Err(ProviderError::TimedOut(self.deadline)),
        };
        if answer.is_ok() {
            permit.succeeded();
        } else {
            permit.failed();
        }
        answer.map_err(unavailable)
    }
}

fn headers(request: &impl Call) -> Vec<(HeaderName, String)> {
    let context = context::current();
    let values = [
        (IDEMPOTENCY_KEY, request.idempotency_key().map(str::to_owned)),
        (CORRELATION_ID, context.correlation_id),
        (TRACEPARENT, context.traceparent),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_called_in_the_clear_on_this_machine_only() {
        for good in [
            "grpc://127.0.0.1:50051",
            "http://localhost:8080/api",
            "http://[::1]:1",
            "grpcs://a.example:443",
            "https://a.example",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in ["grpc://10.0.0.1:50051", "http://localhost.example", "http://127.0.0.1.example", "http://0.0.0.0:1"]
        {
            assert!(matches!(Address::parse(bad), Err(BadAddress::Insecure)), "{bad}");
        }
        for bad in ["", "ftp://localhost", "localhost:1", "https://", "https://user@a.example", "https://a.example?x=1"]
        {
            assert!(matches!(Address::parse(bad), Err(BadAddress::Scheme | BadAddress::Shape)), "{bad}");
        }
    }
}
