//! Pings, and what the kernel answers where nobody listens.

use wiretape_tests::call::Call;
use wiretape_tests::cluster::Recording;
use wiretape_tests::packets;

use super::{CLIENT, SERVER, Stage, all_there};
use crate::tools::all_calls;

/// Nobody listens there.
const CLOSED: u16 = 9;

#[tokio::test]
async fn pings_are_calls() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("pings_are_calls", &["ping"]).await? else {
        return Ok(());
    };
    for size in [56, 1000] {
        let said = stage.ask("ping", format!("-c 20 -i 0.02 -s {size} {SERVER}").split(' '))?;
        assert!(said.contains("20 packets transmitted, 20 received"), "{said}");
    }
    let calls = stage.calls().await?;
    assert_eq!(calls.len(), 40);
    for call in &calls {
        assert_eq!(
            (call.proto.as_str(), call.outcome.as_str()),
            ("icmp", "ok"),
            "{call:?}"
        );
        assert!(call.marks.is_empty(), "{call:?}");
        // Both nodes have it, and it is one call.
        assert!(call.latency_ms.is_some(), "{call:?}");
    }
    Ok(())
}

/// eBPF on a node's pods sees none of what the kernel answers by itself (docs/recording.md): libpcap does.
#[tokio::test]
async fn closed_ports_refuse_datagrams_and_connections() -> anyhow::Result<()> {
    if !all_there("closed_ports_refuse_datagrams_and_connections", &["bash"]) {
        return Ok(());
    }
    let stage = Stage::recorded_by(Recording::Libpcap).await?;
    // The kernel sends no more than 6 such errors at once to one address.
    for _ in 0..4 {
        stage.ask(
            "bash",
            ["-c", &format!("echo hello > /dev/udp/{SERVER}/{CLOSED}")],
        )?;
        stage.ask_in_vain(
            "bash",
            ["-c", &format!("echo hello > /dev/tcp/{SERVER}/{CLOSED}")],
        )?;
    }
    stage.recorded().await?;
    let api = stage.cluster.api();
    let calls: Vec<Call> = all_calls(&api, "refused").await?;
    let (refused, errors): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.proto == "tcp");
    assert_eq!((refused.len(), errors.len()), (4, 4), "{calls:?}");
    // A connection that was refused is told as such.
    for call in refused {
        assert_eq!(call.outcome, "server_error", "{call:?}");
        assert_eq!(
            (call.src.svc.as_str(), call.dst.svc.as_str()),
            ("client", "server"),
            "{call:?}"
        );
        assert_eq!(call.dst.port, CLOSED, "{call:?}");
        assert_eq!(call.field("tcp_error_type"), "Reset", "{call:?}");
    }
    // A datagram's error is a call of whom it comes from.
    for call in errors {
        assert_eq!(
            (call.proto.as_str(), call.outcome.as_str()),
            ("icmp", "server_error"),
            "{call:?}"
        );
        assert_eq!(
            (call.src.svc.as_str(), call.dst.svc.as_str()),
            ("server", "client"),
            "{call:?}"
        );
        assert_eq!(call.field("error"), "port_unreachable", "{call:?}");
        assert!(call.path.starts_with(&format!("udp {CLIENT}:")), "{call:?}");
        assert!(call.path.ends_with(&format!(" -> {SERVER}:{CLOSED}")), "{call:?}");
    }
    let capture = api.bytes("/mcp/snapshots/refused/pcap", &[]).await?;
    let segments = packets::segments(&capture)?;
    let refused = |end: &std::net::SocketAddr| end.port() == CLOSED;
    let opened = packets::opened(&segments);
    assert_eq!(
        opened.keys().filter(|((_, server), _)| refused(server)).count(),
        4
    );
    // A refusal has no sequence number of its own: one for each of the four client's ports.
    let reset = packets::reset(&segments);
    assert_eq!(reset.keys().filter(|((server, _), _)| refused(server)).count(), 4);
    Ok(())
}
