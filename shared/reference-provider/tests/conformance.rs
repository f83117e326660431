//! Over either transport, the reference provider obeys the laws of the ports: so do the client and the contract between.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{sync::Arc, time::Duration};

use providers::{Port, Remote, breaker};
use reference_provider::{Reference, serve};
use settings::Address;
use tokio::net::TcpListener;

/// A provider of its own, and the way to it. The laws ask providers to fail, so that no breaker is to come between.
async fn remote(scheme: &str) -> Remote {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest) = (bind().await, bind().await);
    let at = if scheme == "grpc" { grpc.local_addr() } else { rest.local_addr() }.unwrap();
    tokio::spawn(serve(Arc::new(Reference::default()), grpc, rest, std::future::pending()));
    let breaker = breaker::Settings { failures: u32::MAX.try_into().unwrap(), ..breaker::Settings::default() };
    let address = Address::parse(&format!("{scheme}://{at}")).unwrap();
    Remote::new(Port::Payments, vec![address], Duration::from_secs(30), breaker)
}

mod grpc {
    mod inventory {
        application::inventory_conformance!(crate::remote("grpc"));
    }
    mod payments {
        application::payments_conformance!(crate::remote("grpc"));
    }
    mod shipping {
        application::shipping_conformance!(crate::remote("grpc"));
    }
    mod notifications {
        application::notifications_conformance!(crate::remote("grpc"));
    }
}

mod rest {
    mod inventory {
        application::inventory_conformance!(crate::remote("http"));
    }
    mod payments {
        application::payments_conformance!(crate::remote("http"));
    }
    mod shipping {
        application::shipping_conformance!(crate::remote("http"));
    }
    mod notifications {
        application::notifications_conformance!(crate::remote("http"));
    }
}
