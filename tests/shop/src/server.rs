//! The serving side of every HTTP role.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::body::Payload;
use crate::pod::{Answer, Asked, Pod, REQUEST_ID, Stop};
use crate::truth::Received;

/// Answers until told to stop, then finishes what was begun.
pub async fn serve(pod: &Arc<Pod>, listener: TcpListener, mut stop: Stop) {
    let mut connections = JoinSet::new();
    let theirs = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(Arc::clone(pod), stream, theirs.clone()));
                }
                Err(error) => eprintln!("{}: accept: {error}", pod.role.name()),
            },
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    pod.hang_up();
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(pod: Arc<Pod>, stream: TcpStream, mut stop: Stop) {
    if let Err(error) = stream.set_nodelay(true) {
        eprintln!("{}: TCP_NODELAY: {error}", pod.role.name());
    }
    let service = service_fn(|request| {
        let pod = Arc::clone(&pod);
        async move { Ok::<_, Infallible>(respond(&pod, request).await) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client that resets its connection is part of the story.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Reads a request whole, has it answered, and writes both down.
async fn respond(pod: &Pod, request: Request<Incoming>) -> Response<Payload> {
    let (head, body) = request.into_parts();
    let id = head.headers.get(REQUEST_ID).cloned();
    let entry = pod.journal.received(Received {
        id: id
            .as_ref()
            .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned())
            .unwrap_or_default(),
        server: pod.role.name().to_owned(),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        status: None,
    });
    let answer = match body.collect().await {
        Ok(body) => {
            let asked = Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body: body.to_bytes(),
            };
            pod.answer(asked).await
        }
        Err(_) => Answer::empty(StatusCode::BAD_REQUEST),
    };
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    entry.answered(answer.status.as_u16());
    response
}
