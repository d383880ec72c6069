//! The Engine API without a client's start-up in the figures.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use serde_json::{Value, json};
use skep_tests::{Board, Peer};
use smol_hyper::rt::FuturesIo;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at what should have happened.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What takes longer is stuck. Seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// A daemon's API.
pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(crate) fn of(board: &Board) -> Self {
        Self {
            socket: board.socket(),
        }
    }

    pub(crate) fn of_peer(peer: &Peer) -> Self {
        Self {
            socket: peer.socket(),
        }
    }

    /// One request on a connection of its own; `null` when there is no JSON.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, reply) = smol::block_on(ask(&self.socket, method, path, body))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(status < 400, "{method} {path}: {status} {reply}");
        reply
    }

    /// Whether a request was done within `patience`.
    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> bool {
        let asked = ask(&self.socket, method, path, Some(body));
        let late = async {
            smol::Timer::after(patience).await;
            Err("too late".into())
        };
        let outcome = smol::block_on(smol::future::or(asked, late));
        outcome.is_ok_and(|(status, _)| status < 400)
    }

    /// Tasks of a service that are meant to run.
    pub(crate) fn tasks(&self, service: &str) -> Vec<Value> {
        let filters = json!({"service": [service], "desired-state": ["running"]}).to_string();
        let path = format!("/v1.41/tasks?filters={}", encoded(&filters));
        let tasks = self.call("GET", &path, None);
        tasks.as_array().cloned().unwrap_or_default()
    }

    /// Containers of running tasks of a service.
    pub(crate) fn running(&self, service: &str) -> Vec<String> {
        let tasks = self.tasks(service);
        let of = |task: &Value| {
            (task["Status"]["State"] == "running").then(|| {
                task["Status"]["ContainerStatus"]["ContainerID"]
                    .as_str()
                    .map(str::to_owned)
            })?
        };
        tasks.iter().filter_map(of).collect()
    }

    /// Looks until `done` is true; the time it took.
    pub(crate) fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            std::thread::sleep(LOOK_EVERY);
        }
        start.elapsed()
    }

    /// A service of `sleep` with restart delay 0 that dies of SIGKILL at once.
    pub(crate) fn create_service(&self, name: &str, replicas: u64) -> Value {
        let spec = json!({
            "Name": name,
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "busybox:latest", "Command": ["sleep"], "Args": ["1d"], "StopSignal": "KILL",
                },
                "RestartPolicy": {"Condition": "any", "Delay": 0},
            },
            "Mode": {"Replicated": {"Replicas": replicas}},
        });
        self.call("POST", "/v1.41/services/create", Some(&spec))
    }

    /// Sets the number of replicas.
    pub(crate) fn scale(&self, name: &str, replicas: u64) {
        let service = self.call("GET", &format!("/v1.41/services/{name}"), None);
        let mut spec = service["Spec"].clone();
        spec["Mode"] = json!({"Replicated": {"Replicas": replicas}});
        let version = &service["Version"]["Index"];
        self.call(
            "POST",
            &format!("/v1.41/services/{name}/update?version={version}"),
            Some(&spec),
        );
    }
}

/// Percent-encodes what JSON has and a query may not.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

type Outcome = Result<(u16, Value), Box<dyn std::error::Error>>;

async fn ask(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Outcome {
    let stream = smol::net::unix::UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(FuturesIo::new(stream)).await?;
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "bench")
        .header("Content-Type", "application/json")
        .body(Full::new(body))?;
    let answer = async {
        let reply = sender.send_request(request).await?;
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await?.to_bytes();
        Ok((
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        ))
    };
    smol::future::or(answer, async {
        drop(connection.await);
        // The answer is still being read from what has arrived.
        smol::future::pending().await
    })
    .await
}
