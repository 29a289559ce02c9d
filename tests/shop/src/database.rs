//! The catalogue's database: a protocol that is not HTTP (a letter, a length, that many bytes, each way), and a client
//! that connects anew for every query.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::link::connect;
use crate::pod::{Pod, Stop};

/// What a query takes.
const WORK: Duration = Duration::from_millis(4);
/// Longest query or result.
const MAX_LEN: usize = 4096;

/// Answers queries until told to stop.
pub async fn serve(pod: &Arc<Pod>, listener: TcpListener, mut stop: Stop) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let pod = Arc::clone(pod);
                    connections.spawn(async move {
                        if let Err(error) = answer(&pod, stream).await {
                            eprintln!("catalogue-db: {error:#}");
                        }
                    });
                }
                Err(error) => eprintln!("catalogue-db: accept: {error}"),
            },
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn answer(pod: &Pod, mut stream: TcpStream) -> anyhow::Result<()> {
    let query = read(&mut stream, b'Q').await?;
    pod.clock.sleep(WORK).await;
    write(&mut stream, b'R', &query.repeat(3)).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Asks one question over a connection of its own.
pub async fn query(from: IpAddr, to: SocketAddr, query: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(from, to).await?;
    write(&mut stream, b'Q', query.as_bytes()).await?;
    read(&mut stream, b'R').await
}

async fn read(stream: &mut TcpStream, letter: u8) -> anyhow::Result<Vec<u8>> {
    ensure!(
        stream.read_u8().await? == letter,
        "not a message of this protocol"
    );
    let len = stream.read_u32().await? as usize;
    ensure!(
        len <= MAX_LEN,
        "a message of {len} bytes is longer than {MAX_LEN}"
    );
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write(stream: &mut TcpStream, letter: u8, bytes: &[u8]) -> anyhow::Result<()> {
    let mut message = vec![letter];
    message.extend_from_slice(&u32::try_from(bytes.len())?.to_be_bytes());
    message.extend_from_slice(bytes);
    stream.write_all(&message).await?;
    Ok(())
}
