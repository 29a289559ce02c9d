//! Keeps carts. Buys with one click by calling the frontend back, and retries too eagerly when that fails.

use std::time::Duration;

use futures::future::join_all;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::body::Payload;
use crate::pod::{Answer, Asked, Outgoing, Pod, Reply};
use crate::role::Role;
use crate::story::{RETRIES, RETRY_EVERY};

const WORK: Duration = Duration::from_millis(12);

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    pod.clock.sleep(WORK).await;
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/carts/items") => Answer::json(StatusCode::CREATED, &json!({ "items": 1 })),
        ("POST", "/carts/buy") => buy(pod, &asked).await,
        ("DELETE", _) => Answer::empty(StatusCode::NO_CONTENT),
        _ => Answer::json(
            StatusCode::NOT_FOUND,
            &json!({ "error": "there is no such cart" }),
        ),
    }
}

/// The mistake of the story: after a 503 the same order is sent three times in 100 ms, without waiting for an answer.
async fn buy(pod: &Pod, asked: &Asked) -> Answer {
    let first = pod.call(Role::Frontend, order(asked)).await;
    match first {
        Ok(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => {}
        other => return passed_on(other),
    }
    let mut last = Answer::empty(StatusCode::SERVICE_UNAVAILABLE);
    let attempts = (1..=RETRIES).map(|retry| async move {
        pod.clock.sleep(RETRY_EVERY * (retry - 1)).await;
        pod.call(Role::Frontend, order(asked).retry(retry)).await
    });
    for reply in join_all(attempts).await {
        let answer = passed_on(reply);
        if answer.status.is_success() {
            return answer;
        }
        last = answer;
    }
    last
}

fn order(asked: &Asked) -> Outgoing {
    Outgoing::new(Method::POST, "/api/v1/checkout")
        .because_of(asked)
        .body("application/json", Payload::sized(asked.body.clone()))
}

fn passed_on(reply: anyhow::Result<Reply>) -> Answer {
    match reply {
        Ok(reply) => reply.pass_on(),
        Err(error) => Answer::bad_gateway(&error),
    }
}
