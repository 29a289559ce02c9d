//! What the watches ask of the API server, counted where it is asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use kube::{Client, Error};
use tower_service::Service;

/// What was asked, and what came.
#[derive(Debug, Default)]
pub(super) struct Load {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Load {
    /// Requests, and bytes of answers' bodies.
    pub(super) fn counted(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.requests), read(&self.bytes))
    }
}

/// A client whose requests and answers are counted.
pub(super) fn counting(client: &Client, load: &Arc<Load>) -> Client {
    let counting = Counting {
        client: client.clone(),
        load: Arc::clone(load),
    };
    Client::new(counting, client.default_namespace())
}

struct Counting {
    client: Client,
    load: Arc<Load>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

impl Service<Request<Body>> for Counting {
    type Response = Answer;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, load) = (self.client.clone(), Arc::clone(&self.load));
        Box::pin(async move {
            load.requests.fetch_add(1, Ordering::Relaxed);
            let answer = client.send(request).await?;
            Ok(answer.map(|body| {
                let counted = body.map_frame(move |frame| {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    load.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    frame
                });
                counted.boxed_unsync()
            }))
        })
    }
}
