//! Turns a cart into an order. Waits for the payment while it does: whoever is slow behind makes it slow.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::body::Payload;
use crate::pod::{Answer, Asked, Outgoing, Pod};
use crate::role::Role;

const WORK: Duration = Duration::from_millis(10);
/// Orders are passed on in chunks of so many bytes.
const CHUNK: usize = 48;

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    pod.clock.sleep(WORK).await;
    let order: Bytes = asked.body.clone();
    let payment = Outgoing::new(Method::POST, "/payments")
        .because_of(&asked)
        .body("application/json", Payload::chunked(order, CHUNK));
    match pod.call(Role::PaymentService, payment).await {
        Ok(reply) if reply.status.is_success() => {
            Answer::json(StatusCode::CREATED, &json!({ "order": "placed", "mail": "sent" }))
        }
        Ok(reply) => reply.pass_on(),
        Err(error) => Answer::bad_gateway(&error),
    }
}
