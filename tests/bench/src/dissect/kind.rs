//! Which traffic is measured.

use clap::ValueEnum;

/// The traffic of a capture. Figures of HTTP/1 stand under their bare names; it was measured first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Made packet by packet, with its own truth.
    Http1,
    /// h2load and nginx.
    Http2,
    /// gRPC's own client and server.
    Grpc,
    /// pgbench and PostgreSQL, simple and prepared.
    Postgresql,
    /// redis-benchmark and Redis, with and without pipelines.
    Redis,
    /// dnsperf and dnsmasq.
    Dns,
    /// All of them at a time.
    Mix,
}

impl Kind {
    /// Those that one program of ours or of others makes by itself.
    pub const SINGLE: [Self; 6] = [
        Self::Http1,
        Self::Http2,
        Self::Grpc,
        Self::Postgresql,
        Self::Redis,
        Self::Dns,
    ];

    /// Its name in files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Postgresql => "postgresql",
            Self::Redis => "redis",
            Self::Dns => "dns",
            Self::Mix => "mix",
        }
    }

    /// Where its server listens.
    pub const fn port(self) -> u16 {
        match self {
            Self::Http1 => 8080,
            Self::Http2 => 8081,
            Self::Grpc => 50051,
            Self::Postgresql => 5432,
            Self::Redis => 6379,
            Self::Dns => 53,
            Self::Mix => 0,
        }
    }

    /// How large its capture is unless told: what is recorded takes about a minute at most.
    pub fn megabytes(self) -> u64 {
        match self {
            Self::Http1 => 150,
            _ => 60,
        }
    }

    /// What stands in front of its figures.
    pub fn title(self) -> &'static str {
        match self {
            Self::Http1 => "",
            Self::Http2 => "HTTP/2: ",
            Self::Grpc => "gRPC: ",
            Self::Postgresql => "PostgreSQL: ",
            Self::Redis => "Redis: ",
            Self::Dns => "DNS: ",
            Self::Mix => "mix: ",
        }
    }

    /// How many times tshark it is to be.
    pub fn times_tshark(self) -> f64 {
        match self {
            // Issue 2 asked for 25 times; issue 3 asks for 50 on each.
            Self::Http1 => 25.0,
            _ => 50.0,
        }
    }
}
