//! Providers that are not built in: inventory, payments, shipping and notifications of one's own, called over gRPC or REST.
//!
//! `api/providers/v1` is the contract, and [`contract`] what is made of it. A [`Remote`] is any of the four ports over any of the
//! transports: [`grpc`] and [`rest`] carry the same messages. [`discovery`] says where instances
//! are. What comes back is [checked](checks) like a client's input.

pub mod breaker;
mod checks;
mod chosen;
pub mod contract;
mod discovery;
mod grpc;
mod one_of;
mod port;
mod remote;
mod rest;
mod token;

pub use chosen::{AnyProvider, Bookkeepers, Choice, Chosen, ChosenBookkeepers, of_new_orders};
pub use discovery::{Instances, Registry};
pub use port::Port;
pub use remote::{Remote, Witness};
