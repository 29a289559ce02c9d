//! What is asked: in the filter language, and in SQL for whom knows no other.

/// One question to both sides.
pub struct Question {
    pub name: &'static str,
    pub asked: Asked,
    /// What DuckDB runs, over the table `calls`.
    pub sql: &'static [&'static str],
}

/// How we are asked.
#[derive(Clone, Copy)]
pub enum Asked {
    /// A page of 100 in time, and how many there are in all.
    Page(&'static str),
    /// The 20 slowest.
    Slowest,
    /// Counts, rates and percentiles of each service.
    ByService,
    /// The call in the middle, by its id.
    ById,
}

impl Question {
    pub fn is_page(&self) -> bool {
        matches!(self.asked, Asked::Page(_))
    }
}

/// The columns of a page's calls.
macro_rules! page {
    ($condition:literal) => {
        &[
            concat!("SELECT count(*) FROM calls WHERE ", $condition),
            concat!(
                "SELECT ts, stream, \"index\", node, protocol, src_ip, src_port, src_pod, src_namespace, src_service, \
                 src_node, dst_ip, dst_port, dst_pod, dst_namespace, dst_service, dst_node, method, path, status, \
                 elapsed_ns, req_bytes, resp_bytes FROM calls WHERE ",
                $condition,
                " ORDER BY ts, stream, \"index\" LIMIT 101"
            ),
        ]
    };
}

/// All of them. The first statement of each tells how many calls it is about.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "what frontend asked",
        asked: Asked::Page("src.pod contains \"frontend\""),
        sql: page!("contains(src_pod, 'frontend')"),
    },
    Question {
        name: "who asked frontend",
        asked: Asked::Page("dst.svc == \"frontend\""),
        sql: page!("dst_service = 'frontend'"),
    },
    Question {
        name: "failed checkouts",
        asked: Asked::Page("request.path == \"/api/v1/checkout\" and response.status == 503"),
        sql: page!("path = '/api/v1/checkout' AND status = 503"),
    },
    Question {
        name: "errors of a minute",
        asked: Asked::Page(
            "response.status >= 500 and timestamp >= timestamp(\"2026-01-01T00:30:00Z\") and \
             timestamp < timestamp(\"2026-01-01T00:31:00Z\")",
        ),
        sql: page!(
            "status >= 500 AND ts >= '2026-01-01 00:30Z'::TIMESTAMPTZ_NS AND ts < '2026-01-01 00:31Z'::TIMESTAMPTZ_NS"
        ),
    },
    Question {
        name: "text in paths",
        asked: Asked::Page("path contains \"orders/77\""),
        sql: page!("contains(path, 'orders/77')"),
    },
    Question {
        name: "a header",
        asked: Asked::Page("request.headers[\"x-request-id\"] startsWith \"00ab\""),
        sql: page!("starts_with(coalesce(req_headers['x-request-id'], ''), '00ab')"),
    },
    Question {
        name: "one field against another",
        asked: Asked::Page("url startsWith \"/api/v1/\" + dst.svc"),
        sql: page!(
            "starts_with(path || CASE WHEN query = '' THEN '' ELSE '?' || query END, '/api/v1/' || dst_service)"
        ),
    },
    Question {
        name: "the 20 slowest",
        asked: Asked::Slowest,
        sql: &[
            "SELECT count(*) FROM calls",
            "SELECT ts, stream, \"index\", node, src_pod, dst_pod, method, path, status, elapsed_ns FROM calls \
             ORDER BY elapsed_ns DESC, ts, stream, \"index\" LIMIT 20",
        ],
    },
    Question {
        name: "stats by service",
        asked: Asked::ByService,
        sql: &[
            "SELECT count(*) FROM calls",
            "SELECT dst_service, count(*), count(*) FILTER (outcome NOT IN ('ok', 'unknown')), quantile_cont(elapsed_ns, \
             [0.5, 0.9, 0.95, 0.99]), max(elapsed_ns), avg(elapsed_ns), sum(req_bytes), sum(resp_bytes) FROM calls \
             GROUP BY dst_service ORDER BY count(*) DESC",
        ],
    },
    Question {
        name: "one call by its id",
        asked: Asked::ById,
        sql: &[
            "SELECT count(*) FROM (SELECT * FROM calls WHERE stream = $stream AND \"index\" = 7 LIMIT 1)",
            "SELECT * FROM calls WHERE stream = $stream AND \"index\" = 7 LIMIT 1",
        ],
    },
];
