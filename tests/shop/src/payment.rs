//! Charges cards through the gateway, over few connections and with a timeout. Where the story hurts.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Payload;
use crate::pod::{Answer, Asked, Outgoing, Pod};
use crate::role::Role;
use crate::story::{GATEWAY_POOL, PAYMENT_TIMEOUT, RECONNECT_AFTER};

const WORK: Duration = Duration::from_millis(5);

/// Places for connections to the gateway. One that was reset leaves its place empty for a while.
pub struct GatewayPool(Arc<Semaphore>);

impl Default for GatewayPool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(GATEWAY_POOL)))
    }
}

impl GatewayPool {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

pub async fn answer(pod: &Pod, asked: Asked) -> Answer {
    pod.clock.sleep(WORK).await;
    let Some(place) = pod.gateway_pool.take() else {
        return unavailable("no connection to the payment gateway is free");
    };
    let charge = Outgoing::new(Method::POST, "/v1/charges")
        .because_of(&asked)
        .header("expect", "100-continue")
        .body("application/json", Payload::sized(asked.body.clone()));
    let link = match pod.idle(Role::Gateway).take() {
        Some(link) => Ok(link),
        None => pod.connect(Role::Gateway).await,
    };
    let mut link = match link {
        Ok(link) => link,
        Err(error) => return Answer::bad_gateway(&error),
    };
    let waiting = pod.exchange(Role::Gateway, &mut link, charge);
    match tokio::time::timeout(pod.clock.real(PAYMENT_TIMEOUT), waiting).await {
        Ok(Ok(reply)) => {
            pod.idle(Role::Gateway).put(link);
            reply.pass_on()
        }
        Ok(Err(error)) => Answer::bad_gateway(&error),
        Err(_) => {
            link.reset();
            pod.journal.reset();
            let clock = pod.clock;
            tokio::spawn(async move {
                clock.sleep(RECONNECT_AFTER).await;
                drop(place);
            });
            unavailable("the payment gateway did not answer within 5 s")
        }
    }
}

fn unavailable(why: &str) -> Answer {
    let mut answer = Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": why }));
    answer
        .headers
        .insert("retry-after", HeaderValue::from_static("5"));
    answer
}
