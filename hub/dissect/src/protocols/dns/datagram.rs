//! DNS over UDP, multicast DNS (RFC 6762) and LLMNR (RFC 4795).

use super::call;
use super::message::{self, HEADER, Message, Reading};
use crate::protocols::{Arrival, DatagramMessage, DatagramProtocol, Info, Likeness, Transaction};
use crate::{Counters, Transport};

/// The protocol; see the module.
pub(crate) struct DnsDatagrams;

impl DatagramProtocol for DnsDatagrams {
    const INFO: Info = Info {
        name: "dns",
        aliases: &["mdns", "llmnr"],
        ports: &[53, 5353, 5355],
        buffer: 0,
    };
    type State = ();
    type Request = Message;
    type Response = Message;

    fn probe(arrival: &Arrival<'_>) -> Likeness {
        let bytes = arrival.bytes;
        if arrival.transport != Transport::Udp || bytes.len() < HEADER || !message::is_plausible(bytes) {
            return Likeness::No;
        }
        match Message::look(bytes) {
            None => Likeness::No,
            // A header alone, as of FORMERR, or without a question, is little to go by.
            Some((_, false)) => Likeness::AtHome,
            Some((Reading::Whole, true)) => Likeness::Yes,
            Some((Reading::Partly, true)) if arrival.missing > 0 => Likeness::Yes,
            Some((Reading::Partly, true)) => Likeness::AtHome,
        }
    }

    fn parse(
        (): &mut (),
        arrival: &Arrival<'_>,
        counters: &mut Counters,
    ) -> DatagramMessage<Message, Message> {
        let Some((mut message, _)) = Message::read(arrival.bytes, counters) else {
            return DatagramMessage::Unread;
        };
        message.len += arrival.missing;
        message.malformed &= arrival.missing == 0;
        let key = message.key();
        if message.response {
            DatagramMessage::Response {
                key,
                content: message,
            }
        } else {
            DatagramMessage::Request {
                key,
                content: message,
            }
        }
    }

    fn call(request: Option<Message>, retries: u32, response: Option<Message>) -> Transaction {
        call::transaction("udp", request, retries, response)
    }

    fn cost(request: &Message) -> usize {
        request.memory()
    }

    fn memory((): &()) -> usize {
        0
    }
}
