use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Generous: no passing test waits for as long.
const TIMEOUT: Duration = Duration::from_secs(30);

fn open(read: impl Fn() -> anyhow::Result<String> + Send + Sync + 'static) -> SocketAddr {
    let mut server = MetricsServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    server.limit = Duration::from_secs(2);
    let address = server.address().unwrap();
    server.start(read).unwrap();
    address
}

/// The answer to a request, until the connection is closed.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(TIMEOUT)).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

#[test]
fn it_answers_get_metrics_and_nothing_else() {
    let address = open(|| Ok("bento_up 1\n".into()));
    assert_eq!(
        ask(address, GET),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 11\r\n\
         Connection: close\r\n\r\nbento_up 1\n"
    );
    let head = ask(address, "HEAD /metrics?x=1 HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("Content-Length: 11\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("GET /metrics/../metrics HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "400"),
        (
            &format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES)),
            "400",
        ),
        (
            &format!(
                "GET /metrics HTTP/1.1\r\n{}\r\n",
                "a: b\r\n".repeat(HEADERS + 1)
            ),
            "400",
        ),
    ] {
        let answer = ask(address, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[test]
fn concurrent_requests_share_a_reading_and_a_failure_is_not_cached() {
    static READ: AtomicU32 = AtomicU32::new(0);
    let address = open(|| match READ.fetch_add(1, Ordering::SeqCst) {
        0 => anyhow::bail!("no state"),
        _ => Ok("bento_up 1\n".into()),
    });
    let failure = ask(address, GET);
    assert!(
        failure.starts_with("HTTP/1.1 500 ") && !failure.contains("no state"),
        "{failure}"
    );
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert!(ask(address, GET).starts_with("HTTP/1.1 200 ")));
        }
    });
    assert!(
        READ.load(Ordering::SeqCst) <= 3,
        "two, or one more where the machine is busy for seconds"
    );
}

#[test]
fn stalled_connections_are_closed_and_others_answered() {
    let address = open(|| Ok("bento_up 1\n".into()));
    let _stalled: Vec<_> = (0..2 * THREADS)
        .map(|_| {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            connection
        })
        .collect();
    assert!(ask(address, GET).starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_address_in_use_is_named() {
    let server = MetricsServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.address().unwrap();
    let error = format!("{:#}", MetricsServer::bind(address).unwrap_err());
    assert!(
        error.starts_with(&format!("can't listen on --metrics {address}: ")),
        "{error}"
    );
}
