//! Filters of every shape, made at random.

/// Makes filters; the same ones every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    pub(super) fn condition(&mut self, depth: usize) -> String {
        if depth > 0 {
            match self.below(6) {
                0 | 1 => {
                    return format!(
                        "({} and {})",
                        self.condition(depth - 1),
                        self.condition(depth - 1)
                    );
                }
                2 => return format!("({} or {})", self.condition(depth - 1), self.condition(depth - 1)),
                3 | 4 => return format!("not ({})", self.condition(depth - 1)),
                _ => {}
            }
        }
        match self.below(12) {
            9..=11 => self.computed(),
            0 => self
                .of(&["http", "redis", "dns", "error", "outgoing", "has_pcap", "true"])
                .to_owned(),
            1 | 2 => format!("{} {} {}", self.number(2), self.comparison(), self.number(1)),
            3 => format!("{} {} {}", self.text(), self.comparison(), self.literal()),
            4 => format!(
                "{} {} {}",
                self.text(),
                self.of(&["contains", "startsWith", "endsWith"]),
                self.literal()
            ),
            5 => format!(
                "{}.matches({})",
                self.text(),
                self.of(&[
                    "\"^/api\"",
                    "\"[0-9]+\"",
                    "\"\"",
                    "\"(?i)SHOP\"",
                    "\"^$\"",
                    "\"_\""
                ])
            ),
            6 => format!("{} in [{}, {}]", self.text(), self.literal(), self.literal()),
            7 => format!(
                "{} in [{}, 200, {}]",
                self.number(1),
                self.of(&["0", "503", "1.5"]),
                self.of(&["404", "-10"])
            ),
            _ => self
                .of(&[
                    "\"web-1\" in pods",
                    "\"\" in pods",
                    "\"joined\" in marks",
                    "\"a\" in query_string",
                    "\"X-NAME\" in request.headers",
                    "status_code == null",
                    "elapsed_time != null",
                    "timestamp > now() - duration(\"20s\")",
                    "size(path) > 3",
                    "size(marks) == 1",
                    "size(query_string) != 2",
                    "response.status == r\"4.*\"",
                ])
                .to_owned(),
        }
    }

    /// What has no expression of the engine's.
    fn computed(&mut self) -> String {
        match self.below(8) {
            0 => format!(
                "{}.{}(x, x {} {})",
                self.of(&[
                    "pods",
                    "namespaces",
                    "marks",
                    "request.headers",
                    "local_labels",
                    "query_string"
                ]),
                self.of(&["exists", "all", "exists_one"]),
                self.of(&["contains", "startsWith", ">=", "!="]),
                self.literal()
            ),
            1 => format!(
                "{} + {} {} {}",
                self.text(),
                self.literal(),
                self.of(&["==", "!=", "<", ">=", "contains", "startsWith", "endsWith"]),
                self.text()
            ),
            2 => format!("{} contains {}.lowerAscii()", self.text(), self.text()),
            3 => format!(
                "({} ? {} : {}) {} {}",
                self.of(&["http", "redis", "outgoing", "error"]),
                self.number(1),
                self.number(1),
                self.comparison(),
                self.number(1)
            ),
            4 => format!(
                "{} {} {}",
                self.of(&[
                    "src.*",
                    "dst.*",
                    "request.headers.*",
                    "node.*",
                    "local_labels.*",
                    "pods.*"
                ]),
                self.of(&["contains", "==", "!="]),
                self.literal()
            ),
            5 => format!(
                "[{}, {}].map(n, n * 2).exists(n, n > {})",
                self.number(1),
                self.number(0),
                self.number(0)
            ),
            6 => format!(
                "{}.split({})[0] == {}",
                self.text(),
                self.of(&["\"/\"", "\"-\"", "\"1\""]),
                self.literal()
            ),
            _ => self
                .of(&[
                    "request.headers.exists(k, k startsWith \"x\" and request.headers[k] != \"v1\")",
                    "marks.exists(m, m == \"joined\" and status_code > 200)",
                    "{\"GET\": 1000, \"POST\": 5000000}[method] < elapsed_time",
                    "map_get(local_labels, \"app\", \"none\") == \"none\"",
                    "size(pods.filter(p, p contains \"web\")) == 1",
                    "query_string.map(k, k.upperAscii()) == [\"A\"]",
                    "\"A\" in query_string.map(k, k.upperAscii())",
                    "id.split(\"/\")[0] == node.name",
                    "int(query_string[\"a\"]) == 1",
                    "capture.exists(k, capture[k] == \"unspecified\")",
                    "has(request.headers.host) and url startsWith \"/\" + method",
                    "timestamp + duration(\"20s\") > now()",
                ])
                .to_owned(),
        }
    }

    fn comparison(&mut self) -> &'static str {
        self.of(&["==", "!=", "<", "<=", ">", ">="])
    }

    fn text(&mut self) -> &'static str {
        self.of(&[
            "src.pod",
            "dst.svc",
            "src.name",
            "path",
            "url",
            "method",
            "protocol",
            "outcome",
            "stream",
            "id",
            "local_process_name",
            "request.headers[\"X-Name\"]",
            "request.cookies[\"theme\"]",
            "request.query.a",
            "query_string[\"b\"]",
            "local_labels[\"app\"]",
            "node.name",
            "redis_type",
        ])
    }

    fn literal(&mut self) -> &'static str {
        self.of(&[
            "\"\"",
            "\"web-1\"",
            "\"/\"",
            "\"GET\"",
            "\"http\"",
            "\"v1\"",
            "\"db\"",
            "\"x y\"",
            "\"%\"",
            "\"_\"",
            "\"1\"",
            "\"ä\"",
        ])
    }

    fn number(&mut self, depth: usize) -> String {
        if depth > 0 && self.below(3) == 0 {
            let operator = self.of(&["+", "-", "*", "/", "%"]);
            return format!(
                "({} {operator} {})",
                self.number(depth - 1),
                self.number(depth - 1)
            );
        }
        self.of(&[
            "status",
            "response.status",
            "elapsed_time",
            "latency_ms",
            "index",
            "src.port",
            "request_body_size",
            "redis_total_size",
            "0",
            "1",
            "200",
            "503",
            "-3",
            "1.5",
            "0.0",
        ])
        .to_owned()
    }
}
