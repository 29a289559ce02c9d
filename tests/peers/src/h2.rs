//! HTTP/2 by the h2 crate.
//!
//! A line per call: path, status, bytes of the request's and of the response's body, `trailers` if there were any,
//! and the error that ended it; `-` for what is not there.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How long a client waits for what never comes, until it gives the stream up.
const GIVES_UP_AFTER: Duration = Duration::from_millis(200);
/// Connections that a client has at a time.
const CONNECTIONS: usize = 3;
/// How often a client goes through its list, on each connection.
const ROUNDS: usize = 20;

/// A server: what a path asks for, it does.
pub async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = connection(socket).await {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn connection(socket: TcpStream) -> Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        if request.uri().path() == "/leave" {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            poll_fn(|context| connection.poll_closed(context)).await?;
            // Not before: what is dropped resets its stream.
            drop((request, respond));
            break;
        }
        tokio::spawn(async move {
            // A client that gives a stream up is no error.
            if let Err(error) = answer(request, respond).await {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let response = |status: StatusCode| Response::builder().status(status).body(());
    match words.as_slice() {
        ["sized", size] => {
            let mut body = respond.send_response(response(StatusCode::OK)?, false)?;
            send(&mut body, size.parse()?).await?;
            body.send_trailers(HeaderMap::from_iter([(
                http::header::ETAG,
                HeaderValue::from_str(size)?,
            )]))?;
        }
        ["taken"] => {
            let taken = read(request.into_body()).await?.0;
            let mut body = respond.send_response(response(StatusCode::CREATED)?, false)?;
            body.send_data(Bytes::from(taken.to_string()), true)?;
        }
        ["status", status] => {
            respond.send_response(response(status.parse()?)?, true)?;
        }
        ["refused"] => respond.send_reset(Reason::REFUSED_STREAM),
        ["broken"] => {
            let mut body = respond.send_response(response(StatusCode::OK)?, false)?;
            send(&mut body, 1000).await?;
            // What is queued would be dropped with the reset.
            tokio::time::sleep(Duration::from_millis(20)).await;
            body.send_reset(Reason::INTERNAL_ERROR);
        }
        // Until the client gives up.
        ["never"] => {
            poll_fn(|context| respond.poll_reset(context)).await?;
        }
        _ => {
            respond.send_response(response(StatusCode::NOT_FOUND)?, true)?;
        }
    }
    Ok(())
}

/// A client: every kind of stream many times, on several connections, many at a time.
pub async fn ask(address: SocketAddr) -> Result<()> {
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(async move {
            let (client, connection) = connect(address).await?;
            for _ in 0..ROUNDS {
                let mut streams = JoinSet::new();
                for (path, sent) in [
                    ("/sized/0", 0),
                    ("/sized/10", 0),
                    ("/sized/100000", 0),
                    ("/taken", 200_000),
                    ("/taken", 5),
                    ("/status/204", 0),
                    ("/status/503", 0),
                    ("/nowhere", 0),
                    ("/refused", 0),
                    ("/broken", 0),
                    ("/never", 0),
                ] {
                    streams.spawn(call(client.clone(), format!("http://{address}{path}"), sent));
                }
                while let Some(line) = streams.join_next().await {
                    println!("{}", line??);
                }
            }
            // Alone, so that it takes no others with it. What the server says, it says of the connection.
            call(client, format!("http://{address}/leave"), 0).await?;
            println!(
                "/leave - 0 0 - {}",
                connection
                    .await?
                    .map_or_else(|error| name(&error), |()| "-".to_owned())
            );
            anyhow::Ok(())
        });
    }
    while let Some(done) = connections.join_next().await {
        done??;
    }
    Ok(())
}

/// A client that asks once for each line that it reads, on one connection. The query says its number, and so does a
/// header field of the name of the status that it asks for.
pub async fn ask_twice(address: SocketAddr) -> Result<()> {
    let (client, _) = connect(address).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    for number in 0_usize.. {
        let Some(line) = lines.next_line().await? else {
            break;
        };
        let uri = format!("http://{address}/status/{line}?number={number}");
        println!("{}", call(client.clone(), uri, 0).await?);
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> Result<(SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>)> {
    let socket = TcpStream::connect(address).await?;
    let (client, connection) = h2::client::handshake(socket).await?;
    Ok((client, tokio::spawn(connection)))
}

async fn call(client: SendRequest<Bytes>, uri: String, sent: usize) -> Result<String> {
    let mut request = Request::builder()
        .uri(&uri)
        .header("x-session", "the same on every request");
    if let Some((path, number)) = uri.split_once("?number=") {
        let status = path.rsplit('/').next().unwrap_or_default();
        request = request.header(format!("x-{status}"), number);
    }
    let request = request.method(if sent > 0 { "POST" } else { "GET" }).body(())?;
    let path = request.uri().path().to_owned();
    let mut client = client.ready().await?;
    let (response, mut body) = client.send_request(request, sent == 0)?;
    if sent > 0 {
        send(&mut body, sent).await?;
        body.send_data(Bytes::new(), true)?;
    }
    if path == "/never" {
        let answered = tokio::time::timeout(GIVES_UP_AFTER, response).await;
        ensure!(answered.is_err(), "{path} was answered");
        body.send_reset(Reason::CANCEL);
        return Ok(format!("{path} - {sent} 0 - CANCEL"));
    }
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return Ok(format!("{path} - {sent} 0 - {}", name(&error))),
    };
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut received = 0;
    while let Some(data) = stream.data().await {
        match data {
            Ok(data) => {
                received += data.len();
                stream.flow_control().release_capacity(data.len())?;
            }
            Err(error) => return Ok(format!("{path} {status} {sent} {received} - {}", name(&error))),
        }
    }
    let trailers = stream.trailers().await?.map_or("-", |_| "trailers");
    Ok(format!("{path} {status} {sent} {received} {trailers} -"))
}

/// Sends a body as its receiver allows.
async fn send(body: &mut SendStream<Bytes>, mut size: usize) -> Result<()> {
    while size > 0 {
        body.reserve_capacity(size);
        let capacity = poll_fn(|context| body.poll_capacity(context))
            .await
            .context("the stream is over")??;
        let part = capacity.min(size);
        body.send_data(Bytes::from(vec![b'b'; part]), false)?;
        size -= part;
    }
    Ok(())
}

/// The length of a body, and whether trailers follow.
async fn read(mut body: RecvStream) -> Result<(usize, bool)> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((length, body.trailers().await?.is_some()))
}

/// The name of what ended a stream.
fn name(error: &h2::Error) -> String {
    let reason = error
        .reason()
        .map_or_else(|| "closed".to_owned(), |reason| format!("{reason:?}"));
    if error.is_go_away() {
        format!("GOAWAY {reason}")
    } else {
        reason
    }
}
