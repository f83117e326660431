//! Where an instance of a service is.

use std::net::IpAddr;

use url::Url;

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Grpc,
    Rest,
}

impl Transport {
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Rest];

    /// What it is called wherever somebody names it: in settings, at an instance, in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }

    /// What its URLs begin with.
    pub fn scheme(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Grpc, false) => "grpc",
            (Self::Grpc, true) => "grpcs",
            (Self::Rest, false) => "http",
            (Self::Rest, true) => "https",
        }
    }
}

/// Where an instance of a service is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub transport: Transport,
    /// With the scheme `http` or `https`, for either transport.
    pub url: String,
    pub secure: bool,
}

/// Why nobody can be called there.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    #[error("a URL must begin with grpc, grpcs, http or https")]
    Scheme,
    #[error("only a loopback address may be called without TLS: use grpcs or https")]
    Insecure,
    #[error("a URL must have a host, and neither user, query nor fragment; and no path for gRPC")]
    Shape,
}

impl Address {
    /// `grpcs://host:port` or `https://host/path`; on this machine also `grpc` and `http`, without TLS.
    pub fn parse(url: &str) -> Result<Self, BadAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(BadAddress::Scheme)?;
        let mut all = Transport::ALL.into_iter().flat_map(|transport| [(transport, false), (transport, true)]);
        let meant = all.find(|(transport, secure)| transport.scheme(*secure) == scheme);
        let (transport, secure) = meant.ok_or(BadAddress::Scheme)?;
        let url = format!("{}://{rest}", if secure { "https" } else { "http" });
        let parsed = Url::parse(&url).map_err(|_| BadAddress::Shape)?;
        let host = parsed.host_str().ok_or(BadAddress::Shape)?;
        let more = !parsed.username().is_empty() || parsed.password().is_some();
        if more || parsed.query().or(parsed.fragment()).is_some() {
            return Err(BadAddress::Shape);
        }
        if transport == Transport::Grpc && parsed.path() != "/" {
            return Err(BadAddress::Shape);
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if !secure && host != "localhost" && !address.is_ok_and(|address| address.is_loopback()) {
            return Err(BadAddress::Insecure);
        }
        Ok(Self { transport, url, secure })
    }
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
        for bad in [
            "",
            "ftp://localhost",
            "localhost:1",
            "https://",
            "https://user@a.example",
            "https://a.example?x=1",
            "grpcs://a.example/x",
        ] {
            assert!(matches!(Address::parse(bad), Err(BadAddress::Scheme | BadAddress::Shape)), "{bad}");
        }
    }
}
