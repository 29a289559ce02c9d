//! What the made-up services are asked and answer.

use std::io::Write as _;

use crate::random::Random;

/// Smallest and largest JSON body.
pub(super) const BODY: (u64, u64) = (200, 4096);

/// A service that is called.
pub(super) struct Service {
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) client: &'static str,
    pub(super) routes: &'static [Route],
}

/// What is asked of it; `*` in the path stands for a number.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Whether the request has a body.
    pub(super) body: bool,
}

const fn route(method: &'static str, path: &'static str, body: bool) -> Route {
    Route { method, path, body }
}

/// Ports are those that Wireshark takes for HTTP without being told.
pub(super) const SERVICES: [Service; 5] = [
    Service {
        host: "cart-service",
        port: 80,
        client: "frontend/2.4.1",
        routes: &[
            route("GET", "/v1/carts/*?expand=items", false),
            route("GET", "/v1/carts/*", false),
            route("POST", "/v1/carts/*/items", true),
            route("DELETE", "/v1/carts/*/items/*", false),
        ],
    },
    Service {
        host: "checkout",
        port: 8080,
        client: "cart-service/1.9.0",
        routes: &[
            route("POST", "/v1/checkout", true),
            route("GET", "/v1/checkout/*", false),
        ],
    },
    Service {
        host: "catalogue",
        port: 8080,
        client: "frontend/2.4.1",
        routes: &[
            route("GET", "/v2/products?page=*&per_page=20", false),
            route("GET", "/v2/products/*", false),
            route("GET", "/v2/products/*/stock", false),
        ],
    },
    Service {
        host: "payment-service",
        port: 8000,
        client: "checkout/3.0.2",
        routes: &[
            route("POST", "/v1/payments", true),
            route("GET", "/v1/payments/*", false),
        ],
    },
    Service {
        host: "gateway.example.com",
        port: 80,
        client: "payment-service/5.1",
        routes: &[
            route("PUT", "/charges/*", true),
            route("GET", "/charges/*", false),
        ],
    },
];

/// A request with 8 to 12 header fields.
pub(super) fn request(random: &mut Random, service: &Service, route: &Route) -> Vec<u8> {
    let body = if route.body { json(random) } else { Vec::new() };
    let mut out = Vec::with_capacity(640 + body.len());
    out.extend(route.method.as_bytes());
    out.push(b' ');
    let mut parts = route.path.split('*');
    out.extend(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        field(&mut out, format_args!("{}", 1000 + random.below(90_000)));
        out.extend(part.as_bytes());
    }
    out.extend(b" HTTP/1.1\r\n");
    let trace = (random.next(), random.next(), random.next());
    field(&mut out, format_args!("Host: {}\r\n", service.host));
    field(&mut out, format_args!("User-Agent: {}\r\n", service.client));
    out.extend(b"Accept: application/json\r\nConnection: keep-alive\r\n");
    field(
        &mut out,
        format_args!(
            "traceparent: 00-{:016x}{:016x}-{:016x}-01\r\n",
            trace.0, trace.1, trace.2
        ),
    );
    field(&mut out, format_args!("X-Request-Id: {:016x}\r\n", random.next()));
    field(
        &mut out,
        format_args!("X-Forwarded-For: 203.0.113.{}\r\n", random.below(250)),
    );
    let more = random.below(4);
    out.extend(b"X-Tenant: shop\r\n");
    if more > 0 {
        out.extend(b"Accept-Language: en\r\n");
    }
    if more > 1 {
        field(
            &mut out,
            format_args!("X-Deadline-Ms: {}\r\n", 500 + random.below(4) * 500),
        );
    }
    if route.body {
        out.extend(b"Content-Type: application/json\r\n");
        field(&mut out, format_args!("Content-Length: {}\r\n", body.len()));
    } else if more > 2 {
        field(
            &mut out,
            format_args!("If-None-Match: \"{:08x}\"\r\n", random.next() as u32),
        );
    }
    out.extend(b"\r\n");
    out.extend(body);
    out
}

/// A response with 8 to 12 header fields.
pub(super) fn response(random: &mut Random, route: &Route, status: u16) -> Vec<u8> {
    let bodiless = status == 204 || status == 304;
    let body = if bodiless { Vec::new() } else { json(random) };
    let mut out = Vec::with_capacity(512 + body.len());
    field(&mut out, format_args!("HTTP/1.1 {status} {}\r\n", reason(status)));
    out.extend(b"Server: envoy\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
    if !bodiless {
        out.extend(b"Content-Type: application/json\r\n");
        field(&mut out, format_args!("Content-Length: {}\r\n", body.len()));
    } else {
        out.extend(b"Age: 0\r\nVia: 1.1 mesh\r\n");
    }
    field(&mut out, format_args!("X-Request-Id: {:016x}\r\n", random.next()));
    field(
        &mut out,
        format_args!("X-Envoy-Upstream-Service-Time: {}\r\n", random.below(40)),
    );
    out.extend(b"Cache-Control: no-cache\r\nVary: Accept\r\n");
    let more = random.below(4);
    if more > 0 && route.method == "GET" {
        field(
            &mut out,
            format_args!("ETag: \"{:08x}\"\r\n", random.next() as u32),
        );
    }
    if more > 1 {
        field(
            &mut out,
            format_args!("X-Ratelimit-Remaining: {}\r\n", random.below(1000)),
        );
    }
    if status == 503 || status == 429 {
        out.extend(b"Retry-After: 1\r\n");
    }
    out.extend(b"\r\n");
    out.extend(body);
    out
}

/// Appends formatted text; a `Vec` takes all, so there is no error.
fn field(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// A JSON object: many small ones, few large ones (density falls with the square of the length).
pub(super) fn json(random: &mut Random) -> Vec<u8> {
    let (least, most) = BODY;
    let length = (least * 1000 / (random.below(1_000_000) + 1).isqrt()).clamp(least, most) as usize;
    let mut out = Vec::with_capacity(length + 64);
    field(
        &mut out,
        format_args!("{{\"id\":{},\"items\":[", random.below(1_000_000)),
    );
    let mut first = true;
    while out.len() + 90 < length {
        if !first {
            out.push(b',');
        }
        first = false;
        field(
            &mut out,
            format_args!(
                "{{\"sku\":\"{:08x}\",\"name\":\"Article {}\",\"price\":{}.99}}",
                random.next() as u32,
                random.below(10_000),
                random.below(500)
            ),
        );
    }
    out.extend(b"],\"note\":\"");
    out.resize((length - 2).max(out.len()), b'.');
    out.extend(b"\"}");
    out
}
