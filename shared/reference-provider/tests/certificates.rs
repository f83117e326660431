//! Over TLS a provider is believed by its certificate: one that leads to a root of the settings, and is for its own name.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{error::Error, sync::Arc, time::Duration};

use application::ports::Payments;
use domain::ids::OrderId;
use providers::{Port, Remote, breaker};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reference_provider::{Reference, serve};
use settings::Address;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use uuid::Uuid;

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
}

/// Where the reference provider is, behind TLS and with a certificate for this name.
async fn provider(scheme: &str, authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Address {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let mut tls = tls.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];

    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest, secure) = (bind().await, bind().await, bind().await);
    let behind = if scheme == "grpcs" { grpc.local_addr() } else { rest.local_addr() }.unwrap();
    let address = Address::parse(&format!("{scheme}://localhost:{}", secure.local_addr().unwrap().port())).unwrap();
    tokio::spawn(serve(Arc::new(Reference::default()), grpc, rest, std::future::pending()));
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = secure.accept().await {
            // Who does not believe the certificate hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut behind = TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut behind).await });
        }
    });
    address
}

/// What became of a call to this address, by these roots beside the system's: all that an error says.
async fn call(address: Address, ca_bundle: Option<String>) -> Result<(), String> {
    let remote = Remote::new(Port::Payments, vec![address], Duration::from_secs(5), breaker::Settings::default());
    let remote = match ca_bundle {
        Some(pem) => remote.with_ca_bundle(pem),
        None => remote,
    };
    let answer = remote.ledger(OrderId::new(Uuid::new_v4())).await;
    answer.map(drop).map_err(|error| format!("{:?}", error.source().unwrap()))
}

#[tokio::test]
async fn a_certificate_is_believed_by_a_root_of_the_settings_and_for_its_own_name_only() {
    let (own, another) = (authority("our own"), authority("another"));
    for scheme in ["grpcs", "https"] {
        let localhost = provider(scheme, &own, "localhost").await;
        assert_eq!(call(localhost.clone(), Some(own.pem())).await, Ok(()), "{scheme}");
        let both = another.pem() + &own.pem();
        assert_eq!(call(localhost.clone(), Some(both)).await, Ok(()), "{scheme}: a bundle has several roots");

        let by_another = call(localhost.clone(), Some(another.pem())).await.unwrap_err();
        let by_the_system = call(localhost, None).await.unwrap_err();
        for refused in [by_another, by_the_system] {
            assert!(refused.contains("UnknownIssuer"), "{scheme}: {refused}");
        }
        let misnamed = provider(scheme, &own, "payments.example").await;
        let refused = call(misnamed, Some(own.pem())).await.unwrap_err();
        let for_another = ["NotValidForName", "not valid for name"];
        assert!(for_another.iter().any(|reason| refused.contains(reason)), "{scheme}: {refused}");
    }
}
