//! Streams and connections of HTTP/2 that somebody gives up.

mod wire;

use wire::{Wire, begun, check, data, frame, go_away, int, reset, text, trailers};
use wiretape_dissect::testing::{Who, dissect};
use wiretape_dissect::{Call, Outcome};

#[test]
fn streams_that_are_given_up() {
    let mut talk = begun();
    for (stream, path) in [
        (1, "/cancelled"),
        (3, "/half"),
        (5, "/refused"),
        (7, "/flood"),
        (9, "/enough"),
    ] {
        talk.ask(Wire::post(path).on(stream));
    }
    talk.ask(reset(1, 8));
    talk.answer([Wire::status(200).on(3), data(3, b"abc", false)].concat())
        .ask(reset(3, 8));
    talk.answer([reset(5, 7), reset(7, 11), Wire::status(413).end(9), reset(9, 0)].concat());
    // What was under way when they were given up.
    talk.answer([Wire::status(200).on(1), data(1, b"late", true)].concat());
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "POST /cancelled - no_response no_response",
            "POST /half 200 unknown",
            "POST /refused - server_error no_response",
            "POST /flood - client_error no_response",
            "POST /enough 413 client_error",
        ],
    );
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| call.index);
    let errors: Vec<_> = calls
        .iter()
        .map(|call| (text(call, "error"), text(call, "http2_reset_by")))
        .collect();
    let by = |name, who| (Some(name), Some(who));
    let expected = [
        by("CANCEL", "client"),
        by("CANCEL", "client"),
        by("REFUSED_STREAM", "server"),
        by("ENHANCE_YOUR_CALM", "server"),
        (None, None),
    ];
    assert_eq!(errors, expected);
}

/// The server has answered all it has to say; only then does the client give up sending.
#[test]
fn a_client_that_stops_sending_when_it_is_answered() {
    // NO_ERROR is what Go's clients say, CANCEL what others do.
    for code in [0, 8] {
        let mut talk = begun();
        talk.ask([Wire::post("/upload").on(1), data(1, b"some", false)].concat());
        talk.answer([Wire::status(503).on(1), data(1, b"busy", true)].concat())
            .ask(reset(1, code));
        let call = Wire::post("/s/Bidi").field("content-type", "application/grpc");
        talk.ask(
            [
                call.field("grpc-timeout", "1S").on(3),
                data(3, b"\0\0\0\0\0", false),
            ]
            .concat(),
        );
        talk.answer([Wire::status(200).on(3), trailers(&[("grpc-status", "14")]).end(3)].concat())
            .ask(reset(3, code));
        let dissected = dissect(&talk.packets);
        check(
            &dissected,
            &["POST /upload 503 server_error", "POST /s/Bidi 200 server_error"],
        );
        let errors = dissected.calls.iter().map(|call| text(call, "error"));
        assert_eq!(errors.collect::<Vec<_>>(), [None, Some("UNAVAILABLE")], "{code}");
    }
}

/// An error is one, however whole the answer.
#[test]
fn a_client_that_finds_fault_with_a_whole_answer() {
    let mut talk = begun();
    talk.ask(Wire::post("/a").on(1)).answer(Wire::status(200).end(1));
    talk.ask(reset(1, 1));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /a 200 server_error"]);
    assert_eq!(text(&dissected.calls[0], "error"), Some("PROTOCOL_ERROR"));
}

#[test]
fn every_error_has_its_outcome() {
    use wiretape_dissect::Outcome::{ClientError, NoResponse, ServerError};
    // By code: what is told of a stream that the server gives up, and the client, before there is a response.
    let outcomes = [
        ("NO_ERROR", ServerError, NoResponse),
        ("PROTOCOL_ERROR", ClientError, ServerError),
        ("INTERNAL_ERROR", ServerError, ClientError),
        ("FLOW_CONTROL_ERROR", ClientError, ServerError),
        ("SETTINGS_TIMEOUT", ClientError, ServerError),
        ("STREAM_CLOSED", ClientError, ServerError),
        ("FRAME_SIZE_ERROR", ClientError, ServerError),
        ("REFUSED_STREAM", ServerError, ClientError),
        ("CANCEL", ServerError, NoResponse),
        ("COMPRESSION_ERROR", ClientError, ServerError),
        ("CONNECT_ERROR", ServerError, ClientError),
        ("ENHANCE_YOUR_CALM", ClientError, ServerError),
        ("INADEQUATE_SECURITY", ClientError, ServerError),
        ("HTTP_1_1_REQUIRED", ClientError, ServerError),
        ("error 0xe", ServerError, ClientError),
    ];
    for (code, (name, of_server, of_client)) in (0..).zip(outcomes) {
        let mut talk = begun();
        talk.ask([Wire::post("/a").on(1), Wire::post("/b").on(3)].concat());
        talk.answer(reset(1, code)).ask(reset(3, code));
        let dissected = dissect(&talk.packets);
        for (call, outcome) in dissected.calls.iter().zip([of_server, of_client]) {
            assert_eq!(
                (text(call, "error"), call.outcome),
                (Some(name), outcome),
                "{}",
                call.path
            );
        }
    }
}

#[test]
fn a_server_that_goes_away_in_two_steps() {
    let mut talk = begun();
    talk.ask(Wire::get("/one").end(1)).answer(go_away(0x7fff_ffff, 0));
    talk.ask([Wire::get("/two").end(3), Wire::get("/three").end(5)].concat());
    talk.answer([go_away(3, 0), Wire::status(200).end(1), Wire::status(200).end(3)].concat())
        .close();
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "GET /three - no_response no_response",
            "GET /one 200 ok",
            "GET /two 200 ok",
        ],
    );
}

#[test]
fn a_promise_that_is_given_up() {
    let mut talk = begun();
    talk.ask(Wire::get("/page").end(1));
    let promise = |stream: u32, path| {
        let promise = [&stream.to_be_bytes()[..], &Wire::get(path).block].concat();
        frame(5, 4, 1, &promise)
    };
    talk.answer(
        [
            promise(2, "/style"),
            promise(4, "/script"),
            Wire::status(200).end(1),
        ]
        .concat(),
    );
    talk.ask(reset(2, 8)).answer(Wire::status(200).end(4));
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "GET /page 200 ok",
            "GET /style - no_response no_response",
            "GET /script 200 ok",
        ],
    );
}

#[test]
fn a_server_that_goes_away() {
    let mut talk = begun();
    talk.ask(
        [
            Wire::get("/one").end(1),
            Wire::get("/two").end(3),
            Wire::get("/three").end(5),
        ]
        .concat(),
    );
    talk.answer(go_away(1, 0));
    talk.answer(Wire::status(200).end(1)).close();
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "GET /two - no_response no_response",
            "GET /three - no_response no_response",
            "GET /one 200 ok",
        ],
    );
    let gone: Vec<_> = dissected
        .calls
        .iter()
        .filter_map(|call| text(call, "error"))
        .collect();
    assert_eq!(gone, ["GOAWAY NO_ERROR"; 2]);
}

/// What a server excludes it has not processed, whatever its reason, and whenever the request comes.
#[test]
fn streams_that_a_server_excludes_for_an_error() {
    for (code, name) in [(0, "NO_ERROR"), (2, "INTERNAL_ERROR"), (11, "ENHANCE_YOUR_CALM")] {
        let mut talk = begun();
        talk.ask(
            [
                Wire::get("/one").end(1),
                Wire::get("/two").end(3),
                Wire::post("/three").on(5),
            ]
            .concat(),
        );
        talk.answer(go_away(1, code));
        // They were on their way.
        talk.ask([Wire::get("/four").end(7), Wire::post("/five").on(9)].concat());
        talk.ask(data(9, b"", true))
            .answer(Wire::status(200).end(1))
            .close();
        let dissected = dissect(&talk.packets);
        let mut calls: Vec<&Call> = dissected.calls.iter().collect();
        calls.sort_by_key(|call| int(call, "http2_stream"));
        let told = calls
            .iter()
            .map(|call| (call.path.as_str(), call.outcome, text(call, "error")));
        let error = format!("GOAWAY {name}");
        let excluded = |path| (path, Outcome::NoResponse, Some(error.as_str()));
        let expected = [
            ("/one", Outcome::Ok, None),
            excluded("/two"),
            excluded("/three"),
            excluded("/four"),
            excluded("/five"),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}

/// The number that a client names is that of the last promise it has looked at: its own requests are broken off.
#[test]
fn a_client_that_gives_up_the_connection() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1))
        .ask(go_away(0, 2))
        .reset(Who::Client);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - client_error no_response reset"]);
    assert_eq!(text(&dissected.calls[0], "error"), Some("GOAWAY INTERNAL_ERROR"));
}

#[test]
fn a_connection_given_up_for_an_error() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1))
        .answer(go_away(1, 11))
        .reset(Who::Server);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - client_error no_response reset"]);
    assert_eq!(
        text(&dissected.calls[0], "error"),
        Some("GOAWAY ENHANCE_YOUR_CALM")
    );
}

#[test]
fn a_server_that_closes_without_an_answer() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1)).close();
    check(&dissect(&talk.packets), &["GET /a - no_response no_response"]);
}
