//! TLS of OpenSSL: versions, names, what is agreed on, and handshakes that fail.

use wiretape_tests::call::Call;

use super::{SERVER, Stage, tally};

/// A version, the server's name, a cipher suite and an alert: what there is of them.
type Handshake = (Option<u16>, String, String, String);

#[tokio::test]
async fn openssl_shakes_hands_or_does_not() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("openssl_shakes_hands_or_does_not", &["openssl"]).await? else {
        return Ok(());
    };
    let folder = stage.cluster.folder().display().to_string();
    let own = format!(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=live.test -keyout {folder}/key -out {folder}/certificate"
    );
    stage.ask("openssl", own.split(' '))?;
    let serve = format!("s_server -quiet -www -cert {folder}/certificate -key {folder}/key");
    let any =
        format!("{serve} -accept {SERVER}:443 -groups X25519 -alpn h2,http/1.1 -cipher ALL:@SECLEVEL=0");
    let old = format!("{serve} -accept {SERVER}:444 -no_tls1_3 -cipher ECDHE");
    let mut servers = [
        stage.serve("openssl", any.split(' '), 443)?,
        stage.serve("openssl", old.split(' '), 444)?,
    ];

    let mut theirs: Vec<Handshake> = Vec::new();
    for (port, options, version) in [
        (443, "-tls1_3 -servername one.live.test", 0x304),
        (443, "-tls1_3 -servername one.live.test -alpn h2", 0x304),
        (
            443,
            "-tls1_3 -servername two.live.test -ciphersuites TLS_CHACHA20_POLY1305_SHA256",
            0x304,
        ),
        (
            443,
            "-tls1_3 -servername hello.again.test -groups P-521:X25519",
            0x304,
        ),
        (443, "-tls1_2 -servername one.live.test -alpn http/1.1", 0x303),
        (
            443,
            "-tls1_2 -servername one.live.test -cipher ECDHE-RSA-AES128-GCM-SHA256",
            0x303,
        ),
        (
            443,
            "-tls1_1 -servername old.live.test -cipher ALL:@SECLEVEL=0",
            0x302,
        ),
        (
            443,
            "-tls1 -servername old.live.test -cipher ALL:@SECLEVEL=0",
            0x301,
        ),
        (444, "-servername one.live.test", 0x303),
        (443, "-noservername", 0x304),
    ] {
        let ask = format!("s_client -connect {SERVER}:{port} {options}");
        for _ in 0..5 {
            let said = stage.ask("openssl", ask.split(' '))?;
            // `New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384`.
            let suite = said
                .split("Cipher is ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            theirs.push((
                Some(version),
                name_in(options),
                suite.unwrap_or_default().to_owned(),
                String::new(),
            ));
        }
    }
    for (port, options, alert) in [
        (
            443,
            "-tls1_3 -servername one.live.test -alpn nonsense",
            "no_application_protocol",
        ),
        (
            443,
            "-tls1_2 -servername one.live.test -alpn nonsense",
            "no_application_protocol",
        ),
        (444, "-tls1_3 -servername one.live.test", "protocol_version"),
        (
            444,
            "-tls1_2 -servername one.live.test -cipher AES128-SHA",
            "handshake_failure",
        ),
    ] {
        let ask = format!("s_client -connect {SERVER}:{port} {options}");
        for _ in 0..3 {
            stage.ask_in_vain("openssl", ask.split(' '))?;
            theirs.push((None, name_in(options), String::new(), alert.to_owned()));
        }
    }
    for server in &mut servers {
        server.kill()?;
    }

    let calls = stage.calls().await?;
    let mut ours = Vec::new();
    for call in &calls {
        assert_eq!(call.proto, "tls", "{call:?}");
        let alert = call.field("tlsx_alert");
        assert_eq!(
            call.outcome,
            if alert.is_empty() { "ok" } else { "client_error" },
            "{call:?}"
        );
        ours.push(handshake(call));
    }
    assert_eq!(tally(ours), tally(theirs));

    let count = |is: &dyn Fn(&&Call) -> bool| calls.iter().filter(is).count();
    assert_eq!(count(&|call| call.field("tlsx_hello_retry") == "true"), 5);
    assert_eq!(count(&|call| call.field("tlsx_alpn_offered") == "nonsense"), 6);
    assert_eq!(count(&|call| call.field("tlsx_alpn") == "http/1.1"), 5);
    // Of up to TLS 1.2, certificates can be seen.
    assert_eq!(
        count(&|call| call.field("tlsx_cert_subject").contains("live.test")),
        25
    );
    Ok(())
}

fn name_in(options: &str) -> String {
    let name = options
        .split("-servername ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    name.unwrap_or_default().to_owned()
}

fn handshake(call: &Call) -> Handshake {
    let alert = call.field("tlsx_alert").to_owned();
    let agreed = alert.is_empty();
    let version = call.field("tlsx_version").parse().ok().filter(|_| agreed);
    let suite = if agreed {
        openssls_name(call.field("tlsx_cipher_suite_name"))
    } else {
        String::new()
    };
    (version, call.field("tlsx_sni").to_owned(), suite, alert)
}

/// OpenSSL has names of its own for the suites of before TLS 1.3.
fn openssls_name(suite: &str) -> String {
    match suite {
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" => "ECDHE-RSA-AES256-SHA",
        other => other,
    }
    .to_owned()
}
