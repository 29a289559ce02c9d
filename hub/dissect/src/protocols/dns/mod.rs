//! DNS (RFC 1034, 1035 and those that update them), over UDP and TCP.

mod datagram;

mod stream;

mod message;

mod wire;

mod answers;

mod records;

mod numbers;

mod call;

mod resolution;

pub(crate) use datagram::DnsDatagrams;
pub use resolution::Resolution;
pub(crate) use stream::DnsStream;
