//! The payment provider, outside the cluster: slow when the story wants it.

use std::sync::atomic::Ordering;

use hyper::StatusCode;
use serde_json::json;

use crate::pod::{Answer, Asked, Pod};
use crate::story::gateway_latency;

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    if asked.path != "/v1/charges" {
        return Answer::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "charges are made at /v1/charges" }),
        );
    }
    let ordinal = pod.answered.fetch_add(1, Ordering::Relaxed);
    let latency = gateway_latency(pod.seed, ordinal, pod.clock.now());
    pod.clock.sleep(latency).await;
    Answer::json(
        StatusCode::OK,
        &json!({ "charge": format!("ch_{ordinal:06}"), "paid": true }),
    )
}
