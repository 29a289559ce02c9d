//! Which columns a field of the filter language is made of. What the table does not hold (yet) is what the language
//! says of things that are not recorded: `""`, false, empty, or a number without a value.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{character_length, concat, contains, replace};
use datafusion::logical_expr::{Expr, Operator, cast, col, lit, try_cast, when};
use wiretape_dissect::Marks;
use wiretape_kfl::Field;
use wiretape_tape::Nanos;

use super::filter::{bodies, joined};
use super::functions;
use super::{connection, entries};

/// A field of texts.
pub(super) fn text(field: Field) -> Expr {
    match field {
        Field::SrcIp => col("src_ip"),
        Field::SrcName => first_known(&["src_pod", "src_service", "src_dns", "src_process"]),
        Field::SrcNamespace | Field::SrcPodNamespace | Field::SrcServiceNamespace => col("src_namespace"),
        Field::SrcPodName => col("src_pod"),
        Field::SrcServiceName => col("src_service"),
        Field::SrcProcess => col("src_process"),
        Field::SrcNode => col("src_node"),
        Field::SrcOwner => col("src_owner"),
        Field::SrcOwnerKind => col("src_owner_kind"),
        Field::SrcContainer => col("src_container"),
        Field::DstIp => col("dst_ip"),
        Field::DstName => first_known(&["dst_pod", "dst_service", "dst_dns", "dst_process"]),
        Field::DstNamespace | Field::DstPodNamespace | Field::DstServiceNamespace => col("dst_namespace"),
        Field::DstPodName => col("dst_pod"),
        Field::DstServiceName => col("dst_service"),
        Field::DstProcess => col("dst_process"),
        Field::DstNode => col("dst_node"),
        Field::DstOwner => col("dst_owner"),
        Field::DstOwnerKind => col("dst_owner_kind"),
        Field::DstContainer => col("dst_container"),
        Field::LocalProcessName => of_side("src_process", "dst_process"),
        Field::RemoteProcessName => of_side("dst_process", "src_process"),
        Field::LocalNodeName => of_side("src_node", "dst_node"),
        Field::RemoteNodeName => of_side("dst_node", "src_node"),
        Field::NodeName | Field::NodeId | Field::Worker => col("node"),
        Field::Protocol => col("protocol"),
        Field::Outcome => col("outcome"),
        Field::Id => concat(vec![
            col("node"),
            lit("/"),
            functions::hex(col("stream")),
            lit("/"),
            cast(col("index"), DataType::Utf8),
        ]),
        Field::Stream => functions::hex(col("stream")),
        Field::CaptureSource => lit(UNSPECIFIED),
        Field::Method => col("method"),
        Field::Url => {
            let query =
                when(col("query").eq(lit("")), lit("")).otherwise(concat(vec![lit("?"), col("query")]));
            concat(vec![col("path"), query.unwrap_or_else(|_| lit(""))])
        }
        Field::Path => col("path"),
        Field::Authority => col("authority"),
        Field::ConnState | Field::FlowState => connection::state_in_short(),
        Field::HttpVersion => col("version"),
        Field::LocalResolutionStatus => of_side("src_resolution", "dst_resolution"),
        Field::RemoteResolutionStatus => of_side("dst_resolution", "src_resolution"),
        Field::SrcDns => col("src_dns"),
        Field::DstDns => col("dst_dns"),
        // Not known of any call.
        Field::NodeIp | Field::CaptureBackend => lit(""),
        other => match bodies::column(other) {
            Some(body) => col(body),
            None => functions::entry(col("fields"), other.name()),
        },
    }
}

/// A field that holds a number; NULL where it has no value.
pub(super) fn number(field: Field) -> Expr {
    let wide = |column: &str| cast(col(column), DataType::Int64);
    match field {
        Field::SrcPort => wide("src_port"),
        Field::DstPort => wide("dst_port"),
        Field::ElapsedTime => col("elapsed_ns") / lit(1000_i64),
        Field::Index => wide("index"),
        Field::ConnId => col("conn_id"),
        Field::FlowId => col("flow_id"),
        Field::CaptureSourceCode => lit(0_i64),
        Field::StatusCode => wide("status"),
        Field::RequestHeadersSize => col("req_head_bytes"),
        Field::RequestBodySize => col("req_body_bytes"),
        Field::ResponseHeadersSize => col("resp_head_bytes"),
        Field::ResponseBodySize => col("resp_body_bytes"),
        Field::ConnLocalPkts | Field::FlowLocalPkts => local("pkts"),
        Field::ConnLocalBytes | Field::FlowLocalBytes => local("bytes"),
        Field::ConnRemotePkts | Field::FlowRemotePkts => remote("pkts"),
        Field::ConnRemoteBytes | Field::FlowRemoteBytes => remote("bytes"),
        Field::SctpLength => col("client_bytes") + col("server_bytes"),
        Field::FlowLocalPps => connection::per_second(local("pkts")),
        Field::FlowLocalBps => connection::per_second(local("bytes")),
        Field::FlowRemotePps => connection::per_second(remote("pkts")),
        Field::FlowRemoteBps => connection::per_second(remote("bytes")),
        of_protocol => try_cast(
            functions::entry(col("fields"), of_protocol.name()),
            DataType::Int64,
        ),
    }
}

/// A field that is true or false.
pub(super) fn flag(field: Field) -> Expr {
    let any = |names: &[&str]| col("protocol").in_list(names.iter().map(|name| lit(*name)).collect(), false);
    match field {
        Field::Outgoing => col("side").in_list(vec![lit("client"), lit("both")], false),
        Field::HasPcap => col("req_seq").is_not_null().or(col("resp_seq").is_not_null()),
        Field::Http => any(HTTP),
        Field::Gql => any(&["gql", "gqlv1", "gqlv2"]),
        // Of any transport.
        Field::Conn => col("index").eq(lit(entries::CONNECTION)),
        Field::Flow => col("index").eq(lit(entries::FLOW)),
        // There are no calls of it.
        Field::Sctp => any(&["sctp_conn", "sctp_flow"]),
        // Of TLS over TCP, and of the TLS in QUIC.
        Field::Tlsx => any(&["tls", "quic"]),
        // Nothing is decrypted yet.
        Field::Tls => lit(false),
        field if !field.info().protocols.is_empty() => {
            functions::entry(col("fields"), field.name()).eq(lit("true"))
        }
        protocol => col("protocol").eq(lit(protocol.name())),
    }
}

/// A field that is a point in time.
pub(super) fn time(_: Field) -> Expr {
    // There is one: when the call began.
    col("ts")
}

/// A field that is a list.
pub(super) fn list(field: Field) -> Listed {
    match field {
        Field::Namespaces => Listed::Texts(["src_namespace", "dst_namespace"]),
        Field::Pods => Listed::Texts(["src_pod", "dst_pod"]),
        Field::Services => Listed::Texts(["src_service", "dst_service"]),
        Field::DnsResolutions => Listed::Texts(["src_dns", "dst_dns"]),
        Field::Marks => Listed::Marks,
        Field::ConnL7Detected | Field::FlowL7Detected => Listed::Joined(col("l7")),
        of_protocol if !of_protocol.info().protocols.is_empty() => {
            Listed::Joined(functions::entry(col("fields"), of_protocol.name()))
        }
        _ => Listed::Nothing,
    }
}

/// A field that is a map.
pub(super) fn map(field: Field) -> Mapped {
    match field {
        Field::LocalLabels => Mapped::Of(of_side("src_labels", "dst_labels")),
        Field::RemoteLabels => Mapped::Of(of_side("dst_labels", "src_labels")),
        Field::LocalAnnotations => Mapped::Of(of_side("src_annotations", "dst_annotations")),
        Field::RemoteAnnotations => Mapped::Of(of_side("dst_annotations", "src_annotations")),
        Field::RequestHeaders => Mapped::Of(col("req_headers")),
        Field::ResponseHeaders => Mapped::Of(col("resp_headers")),
        Field::RequestCookies => Mapped::Of(functions::cookie_map(col("req_headers"), "cookie")),
        Field::ResponseCookies => Mapped::Of(functions::cookie_map(col("resp_headers"), "set-cookie")),
        Field::QueryString => Mapped::Of(functions::query_map(col("query"))),
        Field::Node => Mapped::One("name", col("node")),
        Field::Capture => Mapped::One("source", lit(UNSPECIFIED)),
        _ => Mapped::Nothing,
    }
}

/// A point in time as the table has it.
pub(super) fn instant(nanos: Nanos) -> Expr {
    // What the table cannot hold comes after everything in it.
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())))
}

/// Protocols that carry HTTP's fields.
const HTTP: &[&str] = &["http", "http2", "grpc", "gql", "gqlv1", "gqlv2"];

/// What tapes say of how they were recorded.
const UNSPECIFIED: &str = "unspecified";

/// A list, as columns.
pub(super) enum Listed {
    /// Those of two columns that are not empty.
    Texts([&'static str; 2]),
    /// The names of the bits in `marks`.
    Marks,
    /// A text that holds them with `, ` between.
    Joined(Expr),
    /// Not in the table.
    Nothing,
}

/// What stands between the texts of a list that is stored as one.
pub(super) const SEPARATOR: &str = ", ";

impl Listed {
    /// Whether `item` is in it.
    pub(super) fn has(&self, item: &Expr) -> Expr {
        match self {
            Self::Texts([a, b]) => {
                let is = |column: &str| col(column).eq(item.clone());
                item.clone().not_eq(lit("")).and(is(a).or(is(b)))
            }
            Self::Marks => {
                let marks = Marks::NAMES.iter();
                let is = marks.map(|(mark, name)| item.clone().eq(lit(*name)).and(marked(*mark)));
                joined(is.collect(), Operator::Or)
            }
            Self::Joined(list) => {
                let between = |text: &Expr| concat(vec![lit(SEPARATOR), text.clone(), lit(SEPARATOR)]);
                let any = list.clone().not_eq(lit(""));
                any.and(contains(between(list), between(item)))
            }
            Self::Nothing => lit(false),
        }
    }

    /// How many different texts are in it.
    pub(super) fn size(&self) -> Expr {
        let one_if = |condition: Expr| cast(condition, DataType::Int64);
        match self {
            Self::Texts([a, b]) => {
                let first = one_if(col(*a).not_eq(lit("")));
                first + one_if(col(*b).not_eq(lit("")).and(col(*b).not_eq(col(*a))))
            }
            Self::Marks => {
                let marks = Marks::NAMES.iter().map(|(mark, _)| one_if(marked(*mark)));
                marks.reduce(|sum, mark| sum + mark).unwrap_or_else(|| lit(0_i64))
            }
            Self::Joined(list) => {
                // Without a character of each separator, the text is as much shorter as there are separators.
                let length = |text: Expr| cast(character_length(text), DataType::Int64);
                let shorter = length(replace(list.clone(), lit(SEPARATOR), lit(",")));
                let size = length(list.clone()) - shorter + lit(1_i64);
                when(list.clone().eq(lit("")), lit(0_i64))
                    .otherwise(size)
                    .unwrap_or_else(|_| lit(0_i64))
            }
            Self::Nothing => lit(0_i64),
        }
    }
}

/// A map, as columns.
pub(super) enum Mapped {
    /// A column, or what is made of one.
    Of(Expr),
    /// A single entry.
    One(&'static str, Expr),
    /// Not in the table.
    Nothing,
}

impl Mapped {
    /// The first value under `key`, or `""`.
    pub(super) fn entry(self, key: &str) -> Expr {
        match self {
            Self::Of(map) => functions::entry(map, key),
            Self::One(only, value) if only == key => value,
            Self::One(..) | Self::Nothing => lit(""),
        }
    }

    /// Whether it has `key`.
    pub(super) fn has(self, key: &str) -> Expr {
        match self {
            Self::Of(map) => functions::has_entry(map, key),
            Self::One(only, _) => lit(only == key),
            Self::Nothing => lit(false),
        }
    }

    /// How many entries it has.
    pub(super) fn size(self) -> Expr {
        match self {
            Self::Of(map) => functions::entries(map),
            Self::One(..) => lit(1_i64),
            Self::Nothing => lit(0_i64),
        }
    }
}

fn marked(mark: Marks) -> Expr {
    let bit = lit(mark.0.cast_signed());
    datafusion::logical_expr::bitwise_and(col("marks"), bit).not_eq(lit(0_i32))
}

/// The first of these columns that says something.
pub(super) fn first_known(columns: &[&str]) -> Expr {
    columns.iter().rev().fold(lit(""), |otherwise, column| {
        when(col(*column).not_eq(lit("")), col(*column))
            .otherwise(otherwise)
            .unwrap_or_else(|_| col(*column))
    })
}

/// What the local side of a connection or flow sent.
fn local(what: &str) -> Expr {
    of_side(&format!("client_{what}"), &format!("server_{what}"))
}

/// What the other side sent.
fn remote(what: &str) -> Expr {
    of_side(&format!("server_{what}"), &format!("client_{what}"))
}

/// The local side is the one that was recorded: the server's if only that was, else the client's.
fn of_side(client: &str, server: &str) -> Expr {
    when(col("side").eq(lit("server")), col(server))
        .otherwise(col(client))
        .unwrap_or_else(|_| col(client))
}
