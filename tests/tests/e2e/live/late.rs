//! Connections that are older than the recording.

use std::path::Path;

use wiretape_tests::binaries;
use wiretape_tests::call::Call;
use wiretape_tests::process::{Process, Talk};

use super::{PATIENCE, PYTHON, RUST, SERVER, Stage, lines, postgres, tally, until};

/// What a client asks for before the recording begins, and after; each line is a request.
const BEFORE: [&str; 10] = [
    "200", "404", "503", "200", "204", "200", "200", "500", "200", "404",
];
const AFTER: [&str; 8] = ["200", "503", "429", "404", "200", "204", "429", "429"];

/// Header fields that were said in full before are told in short since: of these, nothing is known.
#[tokio::test]
async fn http2_is_joined_in_the_middle() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::set("http2_is_joined_in_the_middle", &[RUST]).await? else {
        return Ok(());
    };
    let address = format!("{SERVER}:80");
    let peers = binaries::find(RUST)?;
    stage.stop_recording()?;
    let mut server = stage.serve(&peers, ["h2-serve", &address], 80)?;
    let theirs = stage
        .ask_across(&peers, &["h2-ask-twice", &address], &BEFORE, &AFTER)
        .await?;
    server.kill()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert!(call.marks.iter().any(|mark| mark == "joined"), "{call:?}");
        assert!(
            call.marks.iter().any(|mark| mark == "headers_unresolved"),
            "{call:?}"
        );
        // Never a value that is not its own: left out, because it was said before.
        assert!(!call.req_headers.contains_key("x-session"), "{call:?}");
        // A name of before can be referred to as well; one that is new is known from then on.
        let path = call.path.trim_start_matches("/status/");
        let number = call
            .req_headers
            .get(&format!("x-{path}"))
            .map(|number| format!("number={number}"));
        assert_eq!(number, (path == "429").then(|| call.query.clone()), "{call:?}");
    }
    let ours = calls
        .iter()
        .map(|call| (call.path.clone(), call.status(), call.query.clone()));
    let theirs = theirs.iter().zip(BEFORE.len()..).map(|(line, number)| {
        let mut words = line.split(' ');
        let path = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|status| status.parse().ok());
        // HTTP/2 has numbers of its own for some statuses. 503 has none, and was said in full before.
        let status = status.filter(|status| *status != 503);
        (path, status, format!("number={number}"))
    });
    assert_eq!(tally(ours), tally(theirs));
    Ok(())
}

/// gRPC's paths and statuses are told in short, too: those of before are left out, and a new path is there.
#[tokio::test]
async fn grpc_is_joined_in_the_middle() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::set("grpc_is_joined_in_the_middle", &[RUST, PYTHON]).await? else {
        return Ok(());
    };
    let address = format!("{SERVER}:50051");
    let script = stage.file("grpc_peer.py", include_str!("grpc_peer.py"))?;
    let script = script.display().to_string();
    stage.stop_recording()?;
    let mut server = stage.serve(binaries::find(RUST)?, ["grpc-serve", &address], 50051)?;
    let before = ["Unary one", "Unary fail 3", "Unary two"];
    let after = [
        "Unary three",
        "Unary fail 5",
        "Nowhere four",
        "Unary five",
        "Nowhere six",
        "Unary seven",
    ];
    let client = [script.as_str(), "ask-twice", &address];
    let theirs = stage
        .ask_across(&binaries::find(PYTHON)?, &client, &before, &after)
        .await?;
    server.kill()?;
    assert_eq!(
        theirs
            .iter()
            .filter(|line| line.starts_with("Nowhere 12 "))
            .count(),
        2,
        "{theirs:?}"
    );

    let calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(call.status(), Some(200), "{call:?}");
        assert!(call.marks.iter().any(|mark| mark == "joined"), "{call:?}");
        assert!(
            call.marks.iter().any(|mark| mark == "headers_unresolved"),
            "{call:?}"
        );
    }
    assert_eq!(
        tally(calls.iter().map(|call| call.path.as_str())),
        [("", 4), ("/peers.Peer/Nowhere", 2)].into()
    );
    Ok(())
}

/// Simple queries say all; of statements that were prepared before, only the names are known.
#[tokio::test]
async fn postgresql_is_joined_in_the_middle() -> anyhow::Result<()> {
    let name = "postgresql_is_joined_in_the_middle";
    if !postgres::is_possible(name) {
        return Ok(());
    }
    let Some(mut stage) = Stage::set(name, &["psql", "pgbench"]).await? else {
        return Ok(());
    };
    stage.stop_recording()?;
    let mut server = postgres::start(&stage, 5432)?;
    let folder = stage.cluster.folder().display().to_string();

    // Waits in its eleventh transaction, of forty, until it is told to go on.
    let wait = format!(
        "n=$(($(cat {folder}/n 2> /dev/null || echo 0) + 1)); echo $n > {folder}/n\n\
         [ $n = 11 ] || exit 0\n\
         touch {folder}/waits\n\
         until [ -e {folder}/go ]; do sleep 0.02; done\n"
    );
    let wait = stage.file("wait.sh", wait)?;
    let script = format!("\\shell sh {}\nSELECT 40 + 2;\n", wait.display());
    let script = stage.file("prepared.sql", script)?;
    let prepared = format!(
        "-h {SERVER} -U postgres -n -M prepared -t 40 -f {} postgres",
        script.display()
    );
    let mut prepared = stage.start("client", Path::new("pgbench"), prepared.split(' '), Talk::No)?;
    let waits = stage.cluster.folder().join("waits");
    until("pgbench does not wait", || Ok(waits.exists()))?;

    let simple = [
        "-h",
        &SERVER.to_string(),
        "-U",
        "postgres",
        "-X",
        "-A",
        "-t",
        "postgres",
    ];
    let before = ["SELECT 1;"; 5];
    let after = ["SELECT 7 AS later;"; 20];
    let theirs = stage
        .ask_across(Path::new("psql"), &simple, &before, &after)
        .await?;
    assert_eq!(theirs, ["7"; 20]);
    stage.file("go", "")?;
    prepared.wait(PATIENCE)?;
    assert!(stage.said(&prepared)?.contains("actually processed: 40/40"));
    server.stop()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(
            (call.proto.as_str(), call.outcome.as_str()),
            ("postgresql", "ok"),
            "{call:?}"
        );
        assert!(call.marks.iter().any(|mark| mark == "joined"), "{call:?}");
    }
    let (simple, prepared): (Vec<&Call>, Vec<&Call>) = calls.iter().partition(|call| call.method == "SELECT");
    assert_eq!((simple.len(), prepared.len()), (20, 30));
    for call in simple {
        assert_eq!(call.field("postgresql_query"), "SELECT 7 AS later;", "{call:?}");
    }
    for call in prepared {
        assert_eq!(
            (call.method.as_str(), call.field("postgresql_query")),
            ("EXECUTE", ""),
            "{call:?}"
        );
        assert_eq!(call.field("unresolved"), "postgresql_query", "{call:?}");
        assert!(!call.field("postgresql_statement").is_empty(), "{call:?}");
        assert_eq!(
            (call.field("postgresql_command"), call.field("postgresql_rows")),
            ("SELECT", "1"),
            "{call:?}"
        );
    }
    Ok(())
}

impl Stage {
    /// Ends the agents: what passes from now on is on no tape.
    fn stop_recording(&mut self) -> anyhow::Result<()> {
        for node in &mut self.cluster.nodes {
            if let Some(agent) = &mut node.agent.process {
                agent.stop()?;
            }
        }
        Ok(())
    }

    /// Runs a client that asks once for each line that it is told, starts the recording between two of them, and
    /// gives what the client printed since: a line for each.
    async fn ask_across(
        &mut self,
        program: &Path,
        arguments: &[&str],
        before: &[&str],
        after: &[&str],
    ) -> anyhow::Result<Vec<String>> {
        let mut client = self.start("client", program, arguments, Talk::Told)?;
        self.tell(&mut client, before)?;
        for node in 0..self.cluster.nodes.len() {
            self.cluster.start_agent(node).await?;
        }
        self.tell(&mut client, after)?;
        client.hush();
        client.wait(PATIENCE)?;
        Ok(lines(&self.said(&client)?).split_off(before.len()))
    }

    /// Tells a client these lines, and waits until it has answered each with one more.
    fn tell(&self, client: &mut Process, asked: &[&str]) -> anyhow::Result<()> {
        let so_far = lines(&self.said(client)?).len();
        for line in asked {
            client.tell(line)?;
        }
        until("the client is not answered", || {
            Ok(lines(&self.said(client)?).len() == so_far + asked.len())
        })
    }
}
