//! What was seen, kept and lost, counted where it happens.

/// Declares a set of counters once: the struct, their names, and their sum.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// Adds another set to this one.
            pub fn merge(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// Every counter with its name, in the order of a packet.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What the [`Router`](crate::Router) did with packets.
    RouterCounters {
        /// Packets taken.
        packets,
        /// Bytes of them, as captured.
        bytes,
        /// TCP segments handed to shards.
        segments,
        /// UDP datagrams and ICMP messages handed to shards.
        messages,
        /// Skipped: neither IPv4 nor IPv6 (ARP, LLDP, ...).
        not_ip,
        /// Packets of other transports than TCP, UDP and ICMP: handed to shards for their flows, and not dissected.
        other_transport,
        /// Packets inside of which others were found (VXLAN, Geneve, GRE, IP in IP): these count as what they carry.
        tunnelled,
        /// Packets in so many tunnels that they were looked into no further.
        tunnels_too_deep,
        /// Skipped: the capture cut it within its headers.
        truncated,
        /// Skipped: headers that contradict themselves.
        malformed,
        /// Fragments of IP datagrams.
        fragments,
        /// Datagrams that were put together from fragments.
        datagrams,
        /// Segments of connections that are known under two addresses of their server (a service's, and a pod's), or of their
        /// client (its own, and its node's).
        translated,
        /// Such connections that were forgotten, because there were too many: each of their sides is told by itself.
        translations_dropped,
        /// Flows of datagrams that were taken to the shard of another one, which begins with the same question.
        questions_brought_together,
        /// The same that were forgotten, because there were too many, and first questions that were not looked at for that reason.
        questions_dropped,
        /// Packets of local addresses beyond the number that is remembered, or with others beyond as many that were not met
        /// before; calls of theirs may come out before the other end's view of them.
        addresses_unknown,
        /// Datagrams given up, because fragments were missing for too long, contradicted each other, or a limit of
        /// the pool was reached.
        datagrams_lost,
    }
}

counters! {
    /// What a [`Shard`](crate::Shard) did with segments.
    Counters {
        /// Segments taken.
        segments,
        /// Bytes of payload, as captured.
        bytes,
        /// Segments without data (a late ACK or FIN) by which an observer would meet a connection that others have met.
        stray,
        /// Connections met.
        connections,
        /// Of those, already open when first met.
        connections_joined,
        /// Of those, begun on the addresses and ports of an earlier one.
        ports_reused,
        /// Connections given up as silent for too long.
        connections_idle,
        /// Connections given up early, because the shard held too many.
        connections_evicted,
        /// Connections given up early, because the shard held too many bytes.
        connections_evicted_for_bytes,
        /// Connections that failed as such: a call of `tcp` each.
        connections_failed,
        /// Segments whose round trip was not measured, because too many waited for their acknowledgements.
        round_trips_missed,
        /// Segments of observers beyond the limit of one connection.
        vantages_refused,
        /// Segments whose data had been seen before (retransmissions, keep-alives, duplicates of the capture).
        repeated,
        /// Segments that came before an earlier one.
        early,
        /// Bytes that were never seen.
        gap_bytes,
        /// Places at which they are missing.
        gaps,
        /// Of those places, the ones that were given up because too much waited behind them.
        gaps_forced,
        /// Resets that did not fit the connection and were ignored.
        resets_ignored,
        /// Observations of connections whose protocol was recognised.
        recognised,
        /// Observations of connections in whose bytes no protocol was recognised.
        unrecognised,
        /// Observations of connections handed over to a protocol that has no dissector (an upgrade, a tunnel).
        passed_over,
        /// Times that what was told went from one protocol to the next so often that it was given up.
        hand_overs_dropped,
        /// Bytes of recognised connections that belong to no message that could be read.
        skipped_bytes,
        /// Times that a dissector lost its place: after a gap, or at bytes that are not its protocol.
        resyncs,
        /// Times that too many bytes waited without telling whether a message begins with them.
        places_given_up,
        /// Messages taken back, because what followed showed that none had begun where they were found.
        places_refuted,
        /// Heads longer than the limit.
        heads_too_long,
        /// Messages with more header fields than are kept.
        headers_cut,
        /// Calls with a body of JSON that was looked at only in part, so that it may be GraphQL or tell of errors.
        graphql_beyond,
        /// Calls of GraphQL with a statement, or an error, that is longer than is kept.
        graphql_texts_cut,
        /// Streams of events with an id, or a type, that is longer than is kept.
        event_texts_cut,
        /// Header fields that were told by reference to what was not recorded.
        headers_unresolved,
        /// Times that the table which such references mean was lost: by a gap, or by a block that is malformed or too long.
        hpack_voided,
        /// Entries of such tables that were not kept, because a table was larger than the limit.
        hpack_entries_dropped,
        /// Frames of streams that are over, or whose begin was not seen.
        streams_unknown,
        /// Streams given up early, because too many of a connection were open, or held too many bytes.
        streams_dropped,
        /// Times that what was said on a stream of unknown kind was forgotten before it could prove to be WebSocket: too
        /// many such streams, or too much said.
        strangers_forgotten,
        /// WebSocket messages that inflate to more than the limit, behind which their direction is not inflated any more;
        /// and connections on streams of HTTP/2 that have given up what they refer to, because all of these held too much.
        ws_inflation_stopped,
        /// WebSocket pings that were given up, because too many waited for their pongs.
        ws_pings_dropped,
        /// Commands, statements and replies whose text is longer than what is kept of it.
        texts_cut,
        /// Prepared statements and portals that were forgotten, because a connection had too many.
        statements_forgotten,
        /// Lines in which a Redis server tells what other connections ask (`MONITOR`).
        monitored,
        /// Times that values were inside each other beyond the limit.
        too_deep,
        /// Times that so many requests of a connection waited for their answers that they were given up.
        pending_dropped,
        /// Calls that came out.
        calls,
        /// Of those, put together from two observations.
        calls_joined,
        /// Of those, of datagrams whose server is known under two addresses: a service's, and a pod's.
        calls_two_sided,
        /// Times that a call had another side, or several, and it was not certain which: each is told by itself.
        sides_uncertain,
        /// Flows of datagrams of clients that speak to so many from one port that no sides of calls are looked for.
        callers_crowded,
        /// Calls that came out before the other observer's view of them, because too many waited.
        held_forced,
        /// The same, because they had waited for too long.
        held_expired,
        /// Views of calls that came after the call was out.
        twins_late,
        /// UDP datagrams and ICMP messages taken.
        datagrams,
        /// Flows of such met: addresses and ports, with pauses shorter than the idle time.
        datagram_flows,
        /// Of those, given up early, because the shard held too many, or too many bytes of them.
        datagram_flows_evicted,
        /// Observations of flows whose protocol was recognised.
        datagram_flows_recognised,
        /// Observations of flows in whose datagrams no protocol was recognised.
        datagram_flows_unrecognised,
        /// Datagrams of recognised flows that are not of their protocol, or that the capture cut too short to be read.
        datagrams_unread,
        /// ICMP messages by which neighbours, routers and groups are found: no calls.
        icmp_housekeeping,
        /// Answers that were sent again: to a request sent again, or twice to one.
        answers_repeated,
        /// DNS messages with more questions or answers than are kept.
        dns_cut,
        /// TLS handshake messages that are longer than are read.
        tls_messages_skipped,
        /// TLS hellos that list more than is kept.
        tls_cut,
        /// Pieces of QUIC's handshakes beyond what is kept.
        quic_crypto_refused,
        /// Requests that were sent again before they were answered.
        requests_repeated,
    }
}
