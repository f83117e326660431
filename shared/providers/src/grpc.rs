//! The contract over gRPC.

use std::{
    error::Error as _,
    io,
    iter::successors,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use application::ports::ProviderError;
use http_body_util::BodyExt;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::Grpc as Client,
    codegen::http::{self, HeaderMap, uri::PathAndQuery},
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error},
};
use tonic_prost::ProstCodec;
use tower::ServiceExt;

use crate::{
    checks::misbehaved,
    contract::{ANSWER_BYTES_MAX, Call},
    token::Unauthenticated,
};

const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(2);

pub(crate) struct Grpc {
    channel: Channel,
}

impl Grpc {
    pub(crate) fn new(
        url: &str,
        secure: bool,
        ca_bundle: Option<&str>,
        connect_within: Duration,
    ) -> Result<Self, ProviderError> {
        let failed = |error: Error| ProviderError::Failed(error.into());
        // A connection that has died in silence, while the function was frozen, is noticed before a call's time is over.
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(failed)?;
        let endpoint = endpoint
            .connect_timeout(connect_within)
            .tcp_keepalive(Some(KEEP_ALIVE))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER);
        let endpoint = if secure {
            let tls = ClientTlsConfig::new().with_native_roots().ca_certificates(ca_bundle.map(Certificate::from_pem));
            endpoint.tls_config(tls).map_err(failed)?
        } else {
            endpoint
        };
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    pub(crate) async fn call<C: Call>(
        &self,
        request: C,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        let mut request = Request::new(request);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request.set_timeout(deadline);
        let said = Arc::new(AtomicBool::new(false));
        let hearing = Arc::clone(&said);
        let channel =
            ServiceExt::<http::Request<Body>>::map_response(self.channel.clone(), |answer| hear(answer, hearing));
        let mut client = Client::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|error| ProviderError::Failed(error.into()))?;
        let path = PathAndQuery::from_static(C::GRPC_PATH);
        let answer = client.unary(request, path, ProstCodec::<C, C::Answer>::default()).await;
        let answer = answer.map_err(|status| failed(&status, said.load(Ordering::Relaxed)))?;
        Ok(answer.into_inner())
    }
}

/// An answer on its way to the library: whether the provider has `said` a status is kept, because the library makes up others by the same
/// codes. A status' details, which nobody reads, are left out: the library panics at any that are not base64.
fn hear(mut answer: http::Response<Body>, said: Arc<AtomicBool>) -> http::Response<Body> {
    let hear = move |headers: &mut HeaderMap| {
        headers.remove("grpc-status-details-bin");
        if headers.contains_key("grpc-status") {
            said.store(true, Ordering::Relaxed);
        }
    };
    hear(answer.headers_mut());
    answer.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                hear(trailers);
            }
            frame
        }))
    })
}

/// Of what the provider says of its failure only the code is kept: nobody knows what else is in there. A connection that fails,
/// for want of a certificate that is believed for instance, is no saying of the provider's.
fn failed(status: &Status, said: bool) -> ProviderError {
    match status.code() {
        // What cannot be decoded as a message, or is larger than any may be.
        Code::Internal | Code::OutOfRange if !said && status.source().is_none() => {
            misbehaved("the answer", "is no message of the contract")
        }
        code @ (Code::InvalidArgument | Code::NotFound) => ProviderError::Rejected(format!("gRPC status {code:?}")),
        Code::Unauthenticated => ProviderError::Failed(Unauthenticated("gRPC status Unauthenticated").into()),
        code => {
            let mut causes = successors(status.source(), |&error| error.source());
            ProviderError::Failed(match causes.find_map(|error| error.downcast_ref::<io::Error>()) {
                Some(connection) => format!("gRPC status {code:?}: {connection}").into(),
                None => format!("gRPC status {code:?}").into(),
            })
        }
    }
}
