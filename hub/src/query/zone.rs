//! Local times beside those in UTC, for who reads them.

use jiff::Timestamp;
use jiff::tz::{TimeZone, db};
use serde_json::{Map, Value, json};

use super::{QueryError, nearest};

/// What a time's member is called in the zone: `ts` becomes `ts_local`.
const LOCAL: &str = "_local";
/// Members whose own members strangers have named.
const FOREIGN: [&str; 6] = [
    "req_headers",
    "resp_headers",
    "fields",
    "labels",
    "src_labels",
    "dst_labels",
];

/// A time zone of the IANA's database, which is built in.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of a name such as `Europe/Berlin`, in any case.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`], naming the nearest, when there is none.
    pub fn named(name: &str) -> Result<Self, QueryError> {
        db().get(name).map(Self).map_err(|_| {
            let known: Vec<_> = db().available().collect();
            let known = || known.iter().map(|zone| zone.as_str());
            // Who writes the city alone means the zone that ends with it.
            let city = |zone: &str| zone.rsplit('/').next().unwrap_or(zone).to_lowercase();
            let cities: Vec<String> = known().map(city).collect();
            let of_city = || {
                let meant = nearest(name, cities.iter().map(String::as_str))?;
                known().find(|zone| city(zone) == meant)
            };
            let meant = nearest(name, known()).or_else(of_city);
            let meant = meant.map(|zone| format!("; did you mean {zone}?"));
            QueryError::BadRequest(format!(
                "`time_zone` must be a name of the IANA's database such as Europe/Berlin or UTC, not \"{}\"{}",
                crate::snapshots::shown(name),
                meant.unwrap_or_default()
            ))
        })
    }

    /// Puts the local time beside each time of an answer: `ts_local` beside `ts`.
    pub fn tell(&self, answer: &mut Value) {
        match answer {
            Value::Object(members) => self.tell_members(members),
            Value::Array(items) => items.iter_mut().for_each(|item| self.tell(item)),
            _ => {}
        }
    }

    fn tell_members(&self, members: &mut Map<String, Value>) {
        self.tell_table(members);
        let mut local = Vec::new();
        for (name, value) in &mut *members {
            if let Some(time) = self.local(name, value) {
                local.push((format!("{name}{LOCAL}"), time));
            } else if !FOREIGN.contains(&name.as_str()) {
                self.tell(value);
            }
        }
        // One that is there already was told with its row.
        for (name, time) in local {
            members.entry(name).or_insert(time);
        }
    }

    /// Rows of SQL have no names: each column of times gets one more behind the others.
    fn tell_table(&self, members: &mut Map<String, Value>) {
        let Some(Value::Array(columns)) = members.get("columns") else {
            return;
        };
        let times: Vec<(usize, String)> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column["type"] == "timestamp")
            .filter_map(|(at, column)| Some((at, format!("{}{LOCAL}", column["name"].as_str()?))))
            .collect();
        let Some(Value::Array(rows)) = members.get_mut("rows") else {
            return;
        };
        for row in rows.iter_mut().filter_map(Value::as_array_mut) {
            for (at, _) in &times {
                let time = row.get(*at).and_then(|time| self.of_text(time.as_str()?));
                row.push(json!(time));
            }
        }
        if let Some(Value::Array(columns)) = members.get_mut("columns") {
            columns.extend(
                times
                    .into_iter()
                    .map(|(_, name)| json!({ "name": name, "type": "text" })),
            );
        }
    }

    /// The local time of a member that is a time, by its name: bodies and paths may look like one.
    fn local(&self, name: &str, value: &Value) -> Option<Value> {
        let of_text = ["ts", "timestamp", "first", "last"].contains(&name)
            || ["_ts", "_at", "_first", "_last"]
                .iter()
                .any(|end| name.ends_with(end));
        match value {
            Value::Number(ms) if ["ts", "timestamp"].contains(&name) || name.ends_with("_ts") => {
                let time = Timestamp::from_millisecond(ms.as_i64()?).ok()?;
                Some(json!(self.shown(time)))
            }
            Value::String(text) if of_text => self.of_text(text).map(Value::String),
            // When a call passed an observer: from and until, in ms with a fraction.
            Value::Array(span) if ["request", "response"].contains(&name) => {
                let time = |ms: &Value| {
                    let time = Timestamp::from_microsecond((ms.as_f64()? * 1e3) as i64).ok()?;
                    Some(self.shown(time))
                };
                span.iter()
                    .map(time)
                    .collect::<Option<Vec<_>>>()
                    .map(|span| json!(span))
            }
            _ => None,
        }
    }

    fn of_text(&self, text: &str) -> Option<String> {
        text.parse().ok().map(|time| self.shown(time))
    }

    /// RFC 3339 with the zone's offset at that time, to the millisecond: finer is in the time beside it.
    fn shown(&self, time: Timestamp) -> String {
        time.to_zoned(self.0.clone())
            .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(zone: &str, mut answer: Value) -> Value {
        Zone::named(zone).expect("it is one").tell(&mut answer);
        answer
    }

    #[test]
    fn times_of_summer_and_winter_have_their_own_offset() {
        // 2026-03-29 01:00 UTC is when clocks in Berlin go from 02:00 to 03:00.
        let answer = told(
            "europe/berlin",
            json!({ "ts": 1_774_745_999_999_i64, "until_ts": 1_774_746_000_000_i64 }),
        );
        assert_eq!(answer["ts_local"], "2026-03-29T01:59:59.999+01:00");
        assert_eq!(answer["until_ts_local"], "2026-03-29T03:00:00.000+02:00");
        let answer = told(
            "Asia/Kathmandu",
            json!([{ "created_at": "2024-02-01T01:00:00Z", "first_ts": null }]),
        );
        assert_eq!(
            answer,
            json!([{ "created_at": "2024-02-01T01:00:00Z", "created_at_local": "2024-02-01T06:45:00.000+05:45",
                     "first_ts": null }])
        );
    }

    #[test]
    fn what_strangers_wrote_is_left_alone() {
        let answer = json!({
            "req_headers": { "x_ts": 1, "sent_at": "2024-02-01T01:00:00Z" },
            "path": "2024-02-01T01:00:00Z", "req_body": "2024-02-01T01:00:00Z", "limits": { "ts": true },
        });
        assert_eq!(told("UTC", answer.clone()), answer);
    }

    #[test]
    fn tables_get_a_column_more_and_observers_both_ends() {
        let answer = told(
            "America/New_York",
            json!({ "columns": [{ "name": "ts", "type": "timestamp" }, { "name": "n", "type": "int" }],
                    "rows": [["2024-02-01T01:00:00.000000001Z", 1], [null, 2]] }),
        );
        assert_eq!(
            answer["columns"][2],
            json!({ "name": "ts_local", "type": "text" })
        );
        assert_eq!(answer["rows"][0][2], "2024-01-31T20:00:00.000-05:00");
        assert_eq!(answer["rows"][1], json!([null, 2, null]));
        let answer = told("UTC", json!({ "client": { "request": [1000.5, 2000.25] } }));
        assert_eq!(
            answer["client"]["request_local"][1],
            "1970-01-01T00:00:02.000+00:00"
        );
    }

    #[test]
    fn a_zone_that_is_none_is_told_the_nearest() {
        for (written, meant) in [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin")] {
            let error = Zone::named(written).expect_err("it is none").to_string();
            assert!(error.contains(&format!("did you mean {meant}?")), "{error}");
        }
    }
}
