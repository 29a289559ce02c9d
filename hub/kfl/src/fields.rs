//! Every field that a filter can name. This is the one list: the parser, the suggestions in errors and the table in
//! `docs/kfl.md` are made from it.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text; `""` when nothing is known.
    Text,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false; false when nothing is known.
    Bool,
    /// A point in time.
    Time,
    /// Texts, in no particular order.
    List,
    /// Texts by name.
    Map,
}

impl Kind {
    /// As in the user's documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "whole number",
            Self::Float => "number",
            Self::Bool => "true or false",
            Self::Time => "time",
            Self::List => "list of texts",
            Self::Map => "map of texts",
        }
    }
}

/// What is known of a field.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// The field.
    pub field: Field,
    /// Its name in KFL2, which filters are printed with.
    pub name: &'static str,
    /// Other names that mean exactly the same.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub kind: Kind,
    /// Flags of the protocols that own it, any of which an entry has to have; empty when every entry has the field.
    pub protocols: &'static [Field],
    /// What it is about: the heading it stands under in the documentation.
    pub group: &'static str,
    /// One sentence about it.
    pub doc: &'static str,
}

impl Field {
    /// What is known of it.
    pub fn info(self) -> &'static FieldInfo {
        // `FIELDS` has one entry for each variant, in their order: both are made by one macro.
        &FIELDS[self as usize]
    }

    /// Its name in KFL2.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// What it holds.
    pub fn kind(self) -> Kind {
        self.info().kind
    }

    /// Whether its texts are kept in lower case, so that `protocol == "HTTP"` finds `http`. A compiled filter holds
    /// texts that are compared with it in lower case.
    pub fn is_lower_case(self) -> bool {
        self == Self::Protocol
    }

    /// Whether the keys of this map match in any case, as names of header fields do (RFC 9110, 5.1). A compiled filter
    /// holds its keys in lower case.
    pub fn keys_in_any_case(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::ResponseHeaders)
    }
}

/// Makes [`Field`] and [`FIELDS`] from the table below, so that a field is one line in one place.
macro_rules! fields {
    ($($group:literal, $protocols:expr => {
        $($field:ident, $kind:ident, $name:literal, [$($alias:literal),*], $doc:literal;)*
    })*) => {
        /// A field of a call or of another entry. [`Field::info`] tells about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $($(#[doc = $doc] $field,)*)*
        }

        /// All fields, in the order of the documentation.
        pub static FIELDS: &[FieldInfo] = &[$($(FieldInfo {
            field: Field::$field,
            name: $name,
            aliases: &[$($alias),*],
            kind: Kind::$kind,
            protocols: &$protocols,
            group: $group,
            doc: $doc,
        },)*)*];
    };
}

fields! {
    "Who called whom", [] => {
        SrcIp, Text, "src.ip", [], "Address of the client.";
        SrcPort, Int, "src.port", [], "Port of the client.";
        SrcName, Text, "src.name", [], "Best name of the client: pod, else service, else DNS name, else process.";
        SrcNamespace, Text, "src.namespace", ["src.ns"], "Namespace of the client's pod, else of its service.";
        SrcPodName, Text, "src.pod.name", ["src.pod", "src.pod.metadata.name"], "Pod of the client.";
        SrcPodNamespace, Text, "src.pod.namespace", ["src.pod.metadata.namespace"], "Namespace of the client's pod.";
        SrcServiceName, Text, "src.service.name", ["src.svc", "src.service"], "Service of the client.";
        SrcServiceNamespace, Text, "src.service.namespace", [], "Namespace of that service.";
        SrcDns, Text, "src.dns", [], "DNS name that the client's address was resolved from.";
        SrcProcess, Text, "src.process", [], "Process of the client.";
        SrcNode, Text, "src.node", [], "Node of the client.";
        SrcOwner, Text, "src.owner", ["src.owner.name"], "What made the client's pod: the deployment's name, say; of a process, its unit.";
        SrcOwnerKind, Text, "src.owner.kind", [], "Kind of that: `Deployment`, `StatefulSet`, `Unit` ..";
        SrcContainer, Text, "src.container", [], "Container in the client's pod.";
        DstIp, Text, "dst.ip", [], "Address of the server.";
        DstPort, Int, "dst.port", [], "Port of the server.";
        DstName, Text, "dst.name", [], "Best name of the server: pod, else service, else DNS name, else process.";
        DstNamespace, Text, "dst.namespace", ["dst.ns"], "Namespace of the server's pod, else of its service.";
        DstPodName, Text, "dst.pod.name", ["dst.pod", "dst.pod.metadata.name"], "Pod of the server.";
        DstPodNamespace, Text, "dst.pod.namespace", ["dst.pod.metadata.namespace"], "Namespace of the server's pod.";
        DstServiceName, Text, "dst.service.name", ["dst.svc", "dst.service"], "Service of the server.";
        DstServiceNamespace, Text, "dst.service.namespace", [], "Namespace of that service.";
        DstDns, Text, "dst.dns", [], "DNS name that the server's address was resolved from.";
        DstProcess, Text, "dst.process", [], "Process of the server.";
        DstNode, Text, "dst.node", [], "Node of the server.";
        DstOwner, Text, "dst.owner", ["dst.owner.name"], "What made the server's pod: the deployment's name, say; of a process, its unit.";
        DstOwnerKind, Text, "dst.owner.kind", [], "Kind of that: `Deployment`, `StatefulSet`, `Unit` ..";
        DstContainer, Text, "dst.container", [], "Container in the server's pod.";
        Namespaces, List, "namespaces", [], "Namespaces of both sides.";
        Pods, List, "pods", [], "Pods of both sides.";
        Services, List, "services", [], "Services of both sides.";
        LocalProcessName, Text, "local_process_name", [], "Process on the side that recorded the call.";
        RemoteProcessName, Text, "remote_process_name", [], "Process on the other side.";
        LocalLabels, Map, "local_labels", [], "Labels of the pod that recorded the call.";
        LocalAnnotations, Map, "local_annotations", [], "Annotations of that pod.";
        RemoteLabels, Map, "remote_labels", [], "Labels of the pod on the other side.";
        RemoteAnnotations, Map, "remote_annotations", [], "Annotations of that pod.";
        LocalResolutionStatus, Text, "local_resolution_status", [], "Why the local side has no name.";
        RemoteResolutionStatus, Text, "remote_resolution_status", [], "Why the remote side has no name.";
        DnsResolutions, List, "dns_resolutions", [], "DNS names that the addresses were resolved from.";
        NodeName, Text, "node_name", ["node.name"], "Node that recorded the call.";
        NodeIp, Text, "node_ip", ["node.ip"], "Address of that node.";
        LocalNodeName, Text, "local_node_name", [], "Node of the side that recorded the call.";
        RemoteNodeName, Text, "remote_node_name", [], "Node of the other side.";
        Node, Map, "node", [], "What is known of the recording node.";
    }
    "The call itself", [] => {
        Protocol, Text, "protocol", ["proto", "protocol.name", "protocol.abbr"], "Protocol, in any case.";
        Timestamp, Time, "timestamp", ["ts"], "When the call began.";
        ElapsedTime, Int, "elapsed_time", [], "From the request's first byte to the last of the response, in µs.";
        Outcome, Text, "outcome", [], "`ok`, `client_error`, `server_error`, `timeout`, `no_response` or `unknown`.";
        Marks, List, "marks", [], "What is incomplete about the call: `no_response`, `request_gap`, `reset` ..";
        Outgoing, Bool, "outgoing", [], "Recorded on the client's side.";
        Id, Text, "id", [], "Id, as answers show it.";
        NodeId, Text, "node_id", [], "Node part of the id.";
        Stream, Text, "stream", [], "Connection part of the id, hexadecimal.";
        Index, Int, "index", [], "Ordinal of the call in its connection, from 0.";
        ConnId, Int, "conn_id", [], "Id of the connection's entry.";
        FlowId, Int, "flow_id", [], "Id of the flow's entry.";
        Worker, Text, "worker", [], "Worker that dissected the call.";
        HasPcap, Bool, "has_pcap", [], "Its packets can be had.";
        CaptureSource, Text, "capture_source", [], "`af_packet`, `ebpf`, `ebpf_tls` or `unspecified`.";
        CaptureBackend, Text, "capture_backend", [], "`af_packet` or `ebpf`.";
        CaptureSourceCode, Int, "capture_source_code", [], "The capture source as a number, 0 to 3.";
        Capture, Map, "capture", [], "`source` and `backend` of the capture.";
    }
    "What kind of entry it is", [] => {
        Http, Bool, "http", [], "HTTP of any version, and what is carried in it.";
        Dns, Bool, "dns", [], "DNS.";
        Tls, Bool, "tls", [], "Was encrypted on the wire, and recorded in the clear.";
        Tcp, Bool, "tcp", [], "TCP payload of no known protocol.";
        Udp, Bool, "udp", [], "UDP payload of no known protocol. No entry is one: the exchange is a `udp_conn`.";
        Sctp, Bool, "sctp", [], "A connection of SCTP; with `flow`, a flow.";
        Icmp, Bool, "icmp", [], "ICMP.";
        Grpc, Bool, "grpc", [], "gRPC.";
        Redis, Bool, "redis", [], "Redis.";
        Kafka, Bool, "kafka", [], "Kafka.";
        Amqp, Bool, "amqp", [], "AMQP.";
        Ldap, Bool, "ldap", [], "LDAP.";
        Ws, Bool, "ws", [], "WebSocket.";
        Gql, Bool, "gql", [], "GraphQL of any version.";
        Gqlv1, Bool, "gqlv1", [], "GraphQL over HTTP/1.";
        Gqlv2, Bool, "gqlv2", [], "GraphQL over HTTP/2.";
        Radius, Bool, "radius", [], "RADIUS.";
        Diameter, Bool, "diameter", [], "Diameter.";
        Mongodb, Bool, "mongodb", [], "MongoDB.";
        Mysql, Bool, "mysql", [], "MySQL.";
        Postgresql, Bool, "postgresql", [], "PostgreSQL.";
        Tlsx, Bool, "tlsx", [], "A TLS handshake.";
        Conn, Bool, "conn", [], "A connection, over TCP or UDP.";
        Flow, Bool, "flow", [], "A flow, over TCP or UDP.";
        TcpConn, Bool, "tcp_conn", [], "A TCP connection.";
        UdpConn, Bool, "udp_conn", [], "A UDP exchange.";
        TcpFlow, Bool, "tcp_flow", [], "A flow over TCP.";
        UdpFlow, Bool, "udp_flow", [], "A flow over UDP.";
    }
    "HTTP and DNS", [Field::Http, Field::Dns] => {
        StatusCode, Int, "status_code", ["response.status", "status"], "Status of the response; of DNS, the rcode.";
    }
    "HTTP", [Field::Http] => {
        Method, Text, "method", ["request.method"], "Verb, in upper case as sent.";
        Url, Text, "url", ["request.url"], "Path with query.";
        Path, Text, "path", ["request.path"], "Path without query.";
        Authority, Text, "authority", ["host", "request.host", "request.authority"], "Host that the request names.";
        HttpVersion, Text, "http_version", ["request.version"], "`HTTP/1.0`, `HTTP/1.1`, `HTTP/2`.";
        QueryString, Map, "query_string", ["request.query"], "Query parameters.";
        RequestHeaders, Map, "request.headers", ["req_headers"], "Header fields of the request.";
        ResponseHeaders, Map, "response.headers", ["resp_headers"], "Header fields of the response.";
        RequestBody, Text, "request.body", [], "Body of the request, decoded; `.json()` and `.xml()` look into it.";
        ResponseBody, Text, "response.body", [], "Body of the response, likewise.";
        RequestCookies, Map, "request.cookies", [], "Cookies that the request carries.";
        ResponseCookies, Map, "response.cookies", [], "Cookies that the response sets.";
        RequestHeadersSize, Int, "request_headers_size", [], "Bytes of the request's head.";
        RequestBodySize, Int, "request_body_size", ["req_size"], "Bytes of the request's body.";
        ResponseHeadersSize, Int, "response_headers_size", [], "Bytes of the response's head.";
        ResponseBodySize, Int, "response_body_size", ["resp_size"], "Bytes of the response's body.";
        UnresolvedHeaders, Int, "unresolved_headers", [], "Fields told by reference to what was not recorded (HTTP/2).";
    }
    "HTTP/2", [Field::Http, Field::Ws] => {
        Http2Stream, Int, "http2_stream", [], "Number of the stream.";
        Http2ResetBy, Text, "http2_reset_by", [], "Who gave up the stream: `client` or `server`.";
        Http2Pushed, Bool, "http2_pushed", [], "The server has promised it, unasked.";
        Http2ConnectProtocol, Text, "http2_connect_protocol", [], "What an extended `CONNECT` asks for.";
    }
    "gRPC", [Field::Grpc] => {
        GrpcService, Text, "grpc_service", [], "Service: the path without its last part.";
        GrpcMethod, Text, "grpc_method", [], "Method: the last part of the path.";
        GrpcStatus, Int, "grpc_status", [], "Status, 0 to 16.";
        GrpcMessage, Text, "grpc_message", [], "What the status says in words.";
        GrpcTimeout, Int, "grpc_timeout", [], "Deadline that the client set, in µs.";
        GrpcDeadlineExceeded, Bool, "grpc_deadline_exceeded", [], "It took at least as long as the deadline allows.";
        GrpcEncoding, Text, "grpc_encoding", [], "How messages are compressed.";
        GrpcRequestMessages, Int, "grpc_request_messages", [], "Messages from the client.";
        GrpcRequestMessageBytes, Int, "grpc_request_message_bytes", [], "Their bytes, as sent.";
        GrpcRequestCompressed, Int, "grpc_request_compressed", [], "How many of them are compressed.";
        GrpcResponseMessages, Int, "grpc_response_messages", [], "Messages from the server.";
        GrpcResponseMessageBytes, Int, "grpc_response_message_bytes", [], "Their bytes, as sent.";
        GrpcResponseCompressed, Int, "grpc_response_compressed", [], "How many of them are compressed.";
    }
    "Server-sent events", [Field::Http] => {
        SseEvents, Int, "sse_events", [], "Events that the response is a stream of.";
        SseLastId, Text, "sse_last_id", [], "Id of the last one that has an id.";
        SseLastEvent, Text, "sse_last_event", [], "Type of the last one: `message` if it tells none.";
    }
    "GraphQL", [Field::Gql] => {
        GqlType, Text, "gql_type", [], "`query`, `mutation` or `subscription`.";
        GqlOperation, Text, "gql_operation", [], "Name of the operation.";
        GqlQuery, Text, "gql_query", [], "Statement, its first 2048 bytes.";
        GqlErrors, Int, "gql_errors", [], "Errors that the answer tells of.";
        GqlError, Text, "gql_error", [], "What the first one says.";
    }
    "DNS", [Field::Dns] => {
        DnsResponseCode, Text, "dns_response_code", ["response.code"], "Name of the rcode: `NOERROR`, `NXDOMAIN` ..";
        DnsQuestions, List, "dns_questions", [], "Names asked for.";
        DnsAnswers, List, "dns_answers", [], "Answers.";
        DnsQuestionTypes, List, "dns_question_types", [], "Types asked for: `A`, `AAAA` ..";
        DnsRequest, Bool, "dns_request", [], "There is a request.";
        DnsResponse, Bool, "dns_response", [], "There is a response.";
        DnsRequestLength, Int, "dns_request_length", [], "Bytes of the request.";
        DnsResponseLength, Int, "dns_response_length", [], "Bytes of the response.";
        DnsTotalSize, Int, "dns_total_size", [], "Bytes of both.";
    }
    "TLS handshakes", [Field::Tlsx] => {
        TlsxSni, Text, "tlsx_sni", ["tls_sni"], "Server name that the client asked for.";
        TlsxCipherSuite, Int, "tlsx_cipher_suite", ["tls_cipher_suite"], "Number of the cipher suite chosen.";
        TlsxCipherSuites, List, "tlsx_cipher_suites", ["tls_cipher_suites"], "Names of the cipher suites offered.";
        TlsxAlpn, Text, "tlsx_alpn", ["tls_alpn"], "Protocol agreed on by ALPN; those offered, where that is encrypted.";
        TlsxVersion, Int, "tlsx_version", ["tls_version"], "Version as on the wire.";
        TlsxSummary, Text, "tlsx_summary", ["tls_summary"], "Summary.";
        TlsxInfo, Text, "tlsx_info", ["tls_info"], "`ClientHello` or `ServerHello`.";
        TlsRequestSize, Int, "tls_request_size", [], "Bytes of the request.";
        TlsResponseSize, Int, "tls_response_size", [], "Bytes of the response.";
        TlsTotalSize, Int, "tls_total_size", [], "Bytes of both.";
    }
    "TCP", [Field::Tcp] => {
        TcpMethod, Text, "tcp_method", [], "Segment that a failed connection was stuck at: `SYN`, `FIN` or `RST`.";
        TcpPayload, Text, "tcp_payload", [], "Payload.";
        TcpErrorType, Text, "tcp_error_type", [], "Kind of failure: `SynSent`, `Reset`, `CloseWait` or `LastAck`.";
        TcpErrorMessage, Text, "tcp_error_message", [], "The same in words.";
    }
    "UDP", [Field::Udp] => {
        UdpLength, Int, "udp_length", [], "Bytes with header.";
        UdpChecksum, Int, "udp_checksum", [], "Checksum.";
        UdpPayload, Text, "udp_payload", [], "Payload.";
    }
    "SCTP", [Field::Sctp] => {
        SctpChecksum, Int, "sctp_checksum", [], "Checksum. Not known: entries are of many packets.";
        SctpChunkType, Text, "sctp_chunk_type", [], "Type of a chunk. Not known: chunks are not read.";
        SctpLength, Int, "sctp_length", [], "Bytes of both directions.";
    }
    "ICMP", [Field::Icmp] => {
        IcmpType, Text, "icmp_type", [], "Type.";
        IcmpVersion, Int, "icmp_version", [], "4 or 6.";
        IcmpLength, Int, "icmp_length", [], "Bytes.";
    }
    "WebSocket", [Field::Ws] => {
        WsOpcode, Text, "ws_opcode", [], "`text`, `binary`, `close`, `ping` or `pong`.";
        WsRequest, Bool, "ws_request", [], "There is a request.";
        WsResponse, Bool, "ws_response", [], "There is a response.";
        WsRequestPayloadData, Text, "ws_request_payload_data", [], "Payload from the client, its first bytes.";
        WsResponsePayloadData, Text, "ws_response_payload_data", [], "Payload from the server, its first bytes.";
        WsRequestPayloadLength, Int, "ws_request_payload_length", [], "Bytes of payload from the client.";
        WsResponsePayloadLength, Int, "ws_response_payload_length", [], "Bytes of payload from the server.";
        WsFrames, Int, "ws_frames", [], "Frames of the message.";
        WsCompressed, Bool, "ws_compressed", [], "The message is compressed.";
        WsBy, Text, "ws_by", [], "Who has sent the ping, or closed: `client` or `server`.";
        WsRoundTrip, Int, "ws_round_trip", [], "From a ping or a close to its answer, in µs.";
        WsCloseCode, Int, "ws_close_code", [], "Code that the connection was closed with.";
        WsCloseReason, Text, "ws_close_reason", [], "Reason for that in words.";
    }
    "Redis", [Field::Redis] => {
        RedisType, Text, "redis_type", [], "Command's verb.";
        RedisCommand, Text, "redis_command", [], "Whole command.";
        RedisKey, Text, "redis_key", [], "Key, at most 64 bytes of it.";
        RedisRequestSize, Int, "redis_request_size", [], "Bytes of the request.";
        RedisResponseSize, Int, "redis_response_size", [], "Bytes of the response.";
        RedisTotalSize, Int, "redis_total_size", [], "Bytes of both.";
    }
    "Kafka", [Field::Kafka] => {
        KafkaApiKey, Int, "kafka_api_key", [], "API key: 0 is Produce, 1 is Fetch.";
        KafkaApiKeyName, Text, "kafka_api_key_name", [], "Name of the API key: `PRODUCE`, `FETCH` ..";
        KafkaClientId, Text, "kafka_client_id", [], "Client id.";
        KafkaSize, Int, "kafka_size", [], "Size field of the message.";
        KafkaRequest, Bool, "kafka_request", [], "There is a request.";
        KafkaResponse, Bool, "kafka_response", [], "There is a response.";
        KafkaRequestSummary, Text, "kafka_request_summary", [], "Topic.";
        KafkaRequestSize, Int, "kafka_request_size", [], "Bytes of the request.";
        KafkaResponseSize, Int, "kafka_response_size", [], "Bytes of the response.";
    }
    "AMQP", [Field::Amqp] => {
        AmqpMethod, Text, "amqp_method", [], "Method, e.g. `basic.publish`.";
        AmqpSummary, Text, "amqp_summary", [], "Summary.";
        AmqpRequest, Bool, "amqp_request", [], "There is a request.";
        AmqpResponse, Bool, "amqp_response", [], "There is a response.";
        AmqpRequestLength, Int, "amqp_request_length", [], "Bytes of the request.";
        AmqpResponseLength, Int, "amqp_response_length", [], "Bytes of the response.";
        AmqpTotalSize, Int, "amqp_total_size", [], "Bytes of both.";
    }
    "LDAP", [Field::Ldap] => {
        LdapType, Text, "ldap_type", [], "Operation, e.g. `bind`.";
        LdapSummary, Text, "ldap_summary", [], "Summary.";
        LdapRequest, Bool, "ldap_request", [], "There is a request.";
        LdapResponse, Bool, "ldap_response", [], "There is a response.";
        LdapRequestLength, Int, "ldap_request_length", [], "Bytes of the request.";
        LdapResponseLength, Int, "ldap_response_length", [], "Bytes of the response.";
        LdapTotalSize, Int, "ldap_total_size", [], "Bytes of both.";
    }
    "RADIUS", [Field::Radius] => {
        RadiusCode, Int, "radius_code", [], "Code.";
        RadiusCodeName, Text, "radius_code_name", [], "Name of the code, e.g. `Access-Request`.";
        RadiusRequest, Bool, "radius_request", [], "There is a request.";
        RadiusResponse, Bool, "radius_response", [], "There is a response.";
        RadiusRequestAuthenticator, Text, "radius_request_authenticator", [], "Authenticator, hexadecimal.";
        RadiusRequestLength, Int, "radius_request_length", [], "Bytes of the request.";
        RadiusResponseLength, Int, "radius_response_length", [], "Bytes of the response.";
        RadiusTotalSize, Int, "radius_total_size", [], "Bytes of both.";
    }
    "Diameter", [Field::Diameter] => {
        DiameterMethod, Text, "diameter_method", [], "Command.";
        DiameterSummary, Text, "diameter_summary", [], "Summary.";
        DiameterRequest, Bool, "diameter_request", [], "There is a request.";
        DiameterResponse, Bool, "diameter_response", [], "There is a response.";
        DiameterRequestLength, Int, "diameter_request_length", [], "Bytes of the request.";
        DiameterResponseLength, Int, "diameter_response_length", [], "Bytes of the response.";
        DiameterTotalSize, Int, "diameter_total_size", [], "Bytes of both.";
    }
    "MongoDB", [Field::Mongodb] => {
        MongodbCommand, Text, "mongodb_command", [], "Command.";
        MongodbDatabase, Text, "mongodb_database", [], "Database.";
        MongodbCollection, Text, "mongodb_collection", [], "Collection.";
        MongodbOpcode, Text, "mongodb_opcode", [], "Opcode.";
        MongodbRequestSize, Int, "mongodb_request_size", [], "Bytes of the request.";
        MongodbResponseSize, Int, "mongodb_response_size", [], "Bytes of the response.";
        MongodbTotalSize, Int, "mongodb_total_size", [], "Bytes of both.";
        MongodbSuccess, Bool, "mongodb_success", [], "The command succeeded.";
        MongodbErrorCode, Int, "mongodb_error_code", [], "Code of the error.";
        MongodbErrorMessage, Text, "mongodb_error_message", [], "Error in words.";
        MongodbErrorCodeName, Text, "mongodb_error_code_name", [], "Name of the error.";
    }
    "MySQL", [Field::Mysql] => {
        MysqlCommand, Text, "mysql_command", [], "Command, e.g. `COM_QUERY`.";
        MysqlQuery, Text, "mysql_query", [], "Statement.";
        MysqlDatabase, Text, "mysql_database", [], "Database.";
        MysqlStatementId, Int, "mysql_statement_id", [], "Id of the prepared statement.";
        MysqlRequestSize, Int, "mysql_request_size", [], "Bytes of the request.";
        MysqlResponseSize, Int, "mysql_response_size", [], "Bytes of the response.";
        MysqlTotalSize, Int, "mysql_total_size", [], "Bytes of both.";
        MysqlSuccess, Bool, "mysql_success", [], "The command succeeded.";
        MysqlErrorCode, Int, "mysql_error_code", [], "Code of the error.";
        MysqlErrorMessage, Text, "mysql_error_message", [], "Error in words.";
    }
    "PostgreSQL", [Field::Postgresql] => {
        PostgresqlCommand, Text, "postgresql_command", [], "Command tag, e.g. `SELECT`.";
        PostgresqlQuery, Text, "postgresql_query", [], "Statement.";
        PostgresqlDatabase, Text, "postgresql_database", [], "Database.";
        PostgresqlUser, Text, "postgresql_user", [], "User.";
        PostgresqlRequestSize, Int, "postgresql_request_size", [], "Bytes of the request.";
        PostgresqlResponseSize, Int, "postgresql_response_size", [], "Bytes of the response.";
        PostgresqlTotalSize, Int, "postgresql_total_size", [], "Bytes of both.";
        PostgresqlSuccess, Bool, "postgresql_success", [], "The command succeeded.";
        PostgresqlErrorCode, Text, "postgresql_error_code", [], "SQLSTATE of the error.";
        PostgresqlErrorMessage, Text, "postgresql_error_message", [], "Error in words.";
    }
    "Connections", [Field::Conn] => {
        ConnState, Text, "conn_state", [], "`open`, `in_progress` or `closed`.";
        ConnLocalPkts, Int, "conn_local_pkts", [], "Packets from the local side: the one that was recorded, the client's if both were.";
        ConnLocalBytes, Int, "conn_local_bytes", [], "Bytes from the local side.";
        ConnRemotePkts, Int, "conn_remote_pkts", [], "Packets from the remote side.";
        ConnRemoteBytes, Int, "conn_remote_bytes", [], "Bytes from the remote side.";
        ConnL7Detected, List, "conn_l7_detected", [], "Protocols recognised in it.";
        ConnGroupId, Int, "conn_group_id", [], "Number of the group it belongs to.";
    }
    "Flows", [Field::Flow] => {
        FlowState, Text, "flow_state", [], "`open`, `in_progress` or `closed`.";
        FlowLocalPkts, Int, "flow_local_pkts", [], "Packets from the local side, as of connections.";
        FlowLocalBytes, Int, "flow_local_bytes", [], "Bytes from the local side.";
        FlowRemotePkts, Int, "flow_remote_pkts", [], "Packets from the remote side.";
        FlowRemoteBytes, Int, "flow_remote_bytes", [], "Bytes from the remote side.";
        FlowLocalPps, Int, "flow_local_pps", [], "Packets a second from the local side.";
        FlowLocalBps, Int, "flow_local_bps", [], "Bytes a second from the local side.";
        FlowRemotePps, Int, "flow_remote_pps", [], "Packets a second from the remote side.";
        FlowRemoteBps, Int, "flow_remote_bps", [], "Bytes a second from the remote side.";
        FlowL7Detected, List, "flow_l7_detected", [], "Protocols recognised in it.";
        FlowGroupId, Int, "flow_group_id", [], "Number of the group it belongs to.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_finds_its_own_line() {
        for info in FIELDS {
            assert_eq!(info.field.name(), info.name);
        }
    }

    #[test]
    fn owners_are_flags_that_nobody_owns() {
        for owner in FIELDS.iter().flat_map(|info| info.protocols) {
            assert_eq!(owner.kind(), Kind::Bool);
            assert!(owner.info().protocols.is_empty(), "{}", owner.name());
        }
    }
}
