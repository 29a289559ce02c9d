//! DNS of dnsmasq, asked by dnsperf and dig.

use wiretape_tests::call::Call;

use super::{SERVER, Stage, tally};

const QUESTIONS: &str = "\
one.live.test A
one.live.test AAAA
two.live.test A
missing.live.test A
mail.live.test MX
text.live.test TXT
name.elsewhere A
";

#[tokio::test]
async fn dnsmasq_answers_dnsperf_over_udp_and_tcp() -> anyhow::Result<()> {
    let name = "dnsmasq_answers_dnsperf_over_udp_and_tcp";
    let Some(stage) = Stage::set(name, &["dnsmasq", "dnsperf", "dig"]).await? else {
        return Ok(());
    };
    let serve = "--keep-in-foreground --log-facility=- --conf-file=/dev/null --pid-file= --user=root --group= \
                 --no-resolv --no-hosts --no-ping --bind-interfaces --local=/live.test/ \
                 --host-record=one.live.test,10.0.0.1,fd00::1 --host-record=two.live.test,10.0.0.2 \
                 --mx-host=mail.live.test,one.live.test,10 --txt-record=text.live.test,hello";
    let mut serve: Vec<String> = serve
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    serve.push(format!("--listen-address={SERVER}"));
    // Together they fit into no datagram of any client.
    let long = "l".repeat(200);
    serve.extend((0..12).map(|number| format!("--txt-record=large.live.test,{number}{long}")));
    let mut dnsmasq = stage.serve("/usr/sbin/dnsmasq", serve, 53)?;

    let questions = stage.file("questions", QUESTIONS)?;
    let questions = questions.display();
    let mut theirs = Vec::new();
    for (transport, runs) in [("udp", 100), ("tcp", 40)] {
        let ask = format!("-s {SERVER} -p 53 -m {transport} -d {questions} -n {runs} -c 3 -Q 400");
        let said = stage.ask("dnsperf", ask.split(' '))?;
        for (code, count) in codes(&said) {
            theirs.extend(vec![(transport.to_owned(), code, false); count]);
        }
    }
    assert_eq!(theirs.len(), 140 * QUESTIONS.lines().count());
    // Truncated over UDP, and asked anew over TCP.
    let said = stage.ask("dig", format!("@{SERVER} large.live.test TXT +noedns").split(' '))?;
    assert!(said.contains("Truncated, retrying in TCP mode"), "{said}");
    assert!(said.contains("ANSWER: 12,"), "{said}");
    theirs.push(("udp".to_owned(), "NOERROR".to_owned(), true));
    theirs.push(("tcp".to_owned(), "NOERROR".to_owned(), false));
    dnsmasq.stop()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(call.proto, "dns", "{call:?}");
        assert!(call.marks.is_empty(), "{call:?}");
        let code = call.field("dns_response_code");
        let (wanted, outcome) = match call.path.as_str() {
            "missing.live.test" => ("NXDOMAIN", "client_error"),
            // It knows nobody whom it could ask.
            "name.elsewhere" => ("REFUSED", "server_error"),
            _ => ("NOERROR", "ok"),
        };
        assert_eq!((code, call.outcome.as_str()), (wanted, outcome), "{call:?}");
    }
    let ours = calls.iter().map(|call| {
        let transport = call.field("dns_transport").to_owned();
        let code = call.field("dns_response_code").to_owned();
        (transport, code, call.field("dns_truncated") == "true")
    });
    assert_eq!(tally(ours), tally(theirs));

    let answers = |path: &str, method: &str| -> Vec<&str> {
        let are = |call: &&Call| call.path == path && call.method == method;
        let mut answers: Vec<&str> = calls
            .iter()
            .filter(are)
            .map(|call| call.field("dns_answers"))
            .collect();
        answers.dedup();
        answers
    };
    assert_eq!(answers("one.live.test", "A"), ["10.0.0.1"]);
    assert_eq!(answers("one.live.test", "AAAA"), ["fd00::1"]);
    assert_eq!(answers("text.live.test", "TXT"), ["hello"]);
    assert_eq!(answers("missing.live.test", "A"), [""]);
    Ok(())
}

/// dnsperf's line of codes: `Response codes: NOERROR 500 (83.33%), NXDOMAIN 100 (16.67%)`.
fn codes(said: &str) -> Vec<(String, usize)> {
    let line = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Response codes:"));
    let code = |part: &str| {
        let mut words = part.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    line.unwrap_or_default().split(',').filter_map(code).collect()
}
