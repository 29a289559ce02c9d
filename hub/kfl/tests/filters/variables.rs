//! Every variable of KFL2 is there, and holds what KFL2 says it holds.

use wiretape_kfl::{FIELDS, Kind, compile};

const TEXTS: &str = "src.ip dst.ip protocol node_id stream worker capture_source capture_backend \
    src.pod.name src.pod.namespace dst.pod.name dst.pod.namespace src.service.name src.service.namespace \
    dst.service.name dst.service.namespace src.name dst.name src.namespace dst.namespace \
    node_name node_ip local_node_name remote_node_name local_process_name remote_process_name src.dns dst.dns \
    local_resolution_status remote_resolution_status method url path http_version grpc_method \
    tls_summary tls_info tlsx_sni tlsx_alpn tlsx_summary tlsx_info tls_sni tls_alpn \
    tcp_method tcp_error_type tcp_error_message sctp_chunk_type icmp_type ws_opcode ws_request_payload_data \
    redis_type redis_command redis_key kafka_api_key_name kafka_client_id kafka_request_summary \
    amqp_method amqp_summary ldap_type ldap_summary radius_code_name radius_request_authenticator \
    diameter_method diameter_summary mongodb_command mongodb_database mongodb_collection mongodb_opcode \
    mongodb_error_message mongodb_error_code_name mysql_command mysql_query mysql_database mysql_error_message \
    postgresql_command postgresql_query postgresql_database postgresql_user postgresql_error_code \
    postgresql_error_message conn_state flow_state";

const INTS: &str = "src.port dst.port index elapsed_time conn_id flow_id capture_source_code status_code \
    request_headers_size request_body_size response_headers_size response_body_size grpc_status \
    dns_request_length dns_response_length dns_total_size tls_request_size tls_response_size tls_total_size \
    tlsx_cipher_suite tlsx_version tls_cipher_suite tls_version udp_length udp_checksum sctp_checksum sctp_length \
    icmp_version icmp_length ws_request_payload_length ws_response_payload_length \
    redis_request_size redis_response_size redis_total_size kafka_api_key kafka_size kafka_request_size \
    kafka_response_size amqp_request_length amqp_response_length amqp_total_size \
    ldap_request_length ldap_response_length ldap_total_size \
    radius_code radius_request_length radius_response_length radius_total_size \
    diameter_request_length diameter_response_length diameter_total_size \
    mongodb_request_size mongodb_response_size mongodb_total_size mongodb_error_code \
    mysql_statement_id mysql_request_size mysql_response_size mysql_total_size mysql_error_code \
    postgresql_request_size postgresql_response_size postgresql_total_size \
    conn_local_pkts conn_local_bytes conn_remote_pkts conn_remote_bytes conn_group_id \
    flow_local_pkts flow_local_bytes flow_remote_pkts flow_remote_bytes flow_group_id \
    flow_local_pps flow_local_bps flow_remote_pps flow_remote_bps";

const BOOLS: &str = "has_pcap http dns tls tcp udp sctp icmp grpc redis kafka amqp ldap ws gql gqlv1 gqlv2 radius \
    diameter mongodb mysql postgresql tlsx conn flow tcp_conn udp_conn tcp_flow udp_flow dns_request dns_response \
    ws_request ws_response kafka_request kafka_response amqp_request amqp_response ldap_request ldap_response \
    radius_request radius_response diameter_request diameter_response mongodb_success mysql_success \
    postgresql_success";

const LISTS: &str = "namespaces pods services dns_resolutions dns_questions dns_answers dns_question_types \
    tlsx_cipher_suites tls_cipher_suites conn_l7_detected flow_l7_detected";

const MAPS: &str = "capture node local_labels local_annotations remote_labels remote_annotations query_string \
    request.headers response.headers request.cookies response.cookies";

/// Two hold something else here: an `id` is a text (`node/stream/index`), as answers show it, and payloads, which are
/// bytes in KFL2, are texts.
const OTHERWISE: &str = "id tcp_payload udp_payload";

#[test]
fn every_variable_is_there_with_its_type() {
    for (kind, names) in [
        (Kind::Text, TEXTS),
        (Kind::Text, OTHERWISE),
        (Kind::Int, INTS),
        (Kind::Bool, BOOLS),
        (Kind::List, LISTS),
        (Kind::Map, MAPS),
        (Kind::Time, "timestamp"),
    ] {
        for name in names.split_whitespace() {
            let found = FIELDS
                .iter()
                .find(|info| info.name == name || info.aliases.contains(&name));
            assert_eq!(found.map(|info| info.kind), Some(kind), "{name}");
        }
    }
}

/// A protocol's own variables are false, whatever is asked of them, outside of it.
#[test]
fn variables_with_a_protocols_name_belong_to_it() {
    for info in FIELDS
        .iter()
        .filter(|info| info.kind != Kind::Bool || info.name.contains('_'))
    {
        let Some((first, _)) = info.name.split_once('_') else {
            continue;
        };
        let flag = FIELDS
            .iter()
            .find(|flag| flag.kind == Kind::Bool && flag.name == first);
        // `tls` is decrypted traffic, and its variables are those of handshakes; flows are kinds of entries.
        let Some(flag) = flag.filter(|_| !["conn_id", "flow_id"].contains(&info.name) && first != "tls")
        else {
            continue;
        };
        if [
            "http_version",
            "dns_resolutions",
            "tcp_conn",
            "udp_conn",
            "tcp_flow",
            "udp_flow",
        ]
        .contains(&info.name)
        {
            continue;
        }
        assert!(info.protocols.contains(&flag.field), "{}", info.name);
    }
}

#[test]
fn samples_of_kfl2_compile() {
    for sample in [
        r#"http && status_code >= 500 && src.pod.namespace == "production""#,
        r#"dns && dns_response && status_code != 0"#,
        r#""A" in dns_question_types && dns_questions.exists(q, q.endsWith(".local"))"#,
        r#"timestamp > now() - duration("5m") && elapsed_time > 100000"#,
        r#"map_get(local_labels, "app", "") == "checkout""#,
        r#""x-request-id" in request.headers && request.headers["x-request-id"] != """#,
        r#"capture["source"] == "ebpf_tls" || capture_source_code == 3"#,
        r#"tlsx && tlsx_sni.contains("example.com") // handshakes"#,
        r#"kafka && kafka_api_key in [0, 1] && kafka_client_id.startsWith("billing")"#,
        r#"conn && conn_state == "open" && "HTTP" in conn_l7_detected"#,
        r#"redis && redis_type == "GET" && redis_key.matches("^session:[0-9a-f]+$")"#,
        r#"(src.namespace in ["a", "b"] || dst.namespace in ["a", "b"]) && !(path == "/healthz")"#,
        r#"size(dns_answers) == 0 && dns_total_size > 512"#,
        r#"postgresql && !postgresql_success && postgresql_error_code == "23505""#,
        r#"grpc && grpc_status != 0 ? grpc_method == "Charge" : http && status_code / 100 == 5"#,
    ] {
        if let Err(error) = compile(sample, 1_769_860_800_000_000_000) {
            panic!("{error}");
        }
    }
}
