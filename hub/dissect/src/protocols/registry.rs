//! The one list of protocols.

use super::datagram::{Arrival, DatagramProtocol, Likeness};
use super::{
    Heads, Info, Protocol, Verdict, dns, http1, http2, icmp, postgresql, quic, redis, tls, websocket,
};
use crate::call::Marks;
use crate::datagrams::{Exchanges, Exchanging};
use crate::driver::{Dissector, Driver};
use crate::flow::End;

/// A protocol as the rest of the crate sees it.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// Name and habits.
    pub info: Info,
    /// See [`Protocol::probe`].
    pub probe: fn(Heads<'_>) -> Verdict,
    /// Begins the dissection of a connection, given its client; with marks if its begin was not seen.
    pub begin: fn(End, Marks) -> Box<dyn Dissector>,
}

/// Every protocol, in the order in which they are asked.
pub static PROTOCOLS: &[Registration] = &[
    register::<http1::Http1>(),
    register::<http2::Http2>(),
    register::<postgresql::Postgresql>(),
    register::<redis::Redis>(),
    register::<dns::DnsStream>(),
    register::<tls::Tls>(),
    register::<websocket::WebSocket>(),
];

/// A protocol of datagrams as the rest of the crate sees it.
#[derive(Clone, Copy, Debug)]
pub struct DatagramRegistration {
    /// Name and habits.
    pub info: Info,
    /// See [`DatagramProtocol::probe`].
    pub probe: fn(&Arrival<'_>) -> Likeness,
    /// Begins the dissection of a flow.
    pub begin: fn() -> Box<dyn Exchanging>,
}

/// Every protocol of datagrams, in the order in which they are asked.
pub static DATAGRAM_PROTOCOLS: &[DatagramRegistration] = &[
    register_datagrams::<icmp::Icmp>(),
    register_datagrams::<quic::Quic>(),
    register_datagrams::<dns::DnsDatagrams>(),
];

/// The protocol of a name or alias, in any case.
pub fn find(name: &str) -> Option<&'static Registration> {
    PROTOCOLS.iter().find(|protocol| {
        let names = [protocol.info.name]
            .into_iter()
            .chain(protocol.info.aliases.iter().copied());
        names.into_iter().any(|known| known.eq_ignore_ascii_case(name))
    })
}

const fn register<P: Protocol>() -> Registration {
    Registration {
        info: P::INFO,
        probe: P::probe,
        begin: |client, marks| Box::new(Driver::<P>::new(client, marks)),
    }
}

const fn register_datagrams<P: DatagramProtocol>() -> DatagramRegistration {
    DatagramRegistration {
        info: P::INFO,
        probe: P::probe,
        begin: || Box::new(Exchanges::<P>::default()),
    }
}
