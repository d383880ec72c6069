//! A node made for tests: it believes what it is told, has the containers it
//! is given, and reaches others over socket pairs.

use crate::api::Server;
use crate::backend::*;
use crate::error::{Error, Result};
use skep_control::engine::{Answer, Config, Contact, Engine, LogKey, Recovered, Request, View};
use skep_control::model::{
    Cluster, ContainerCreate, ContainerId, EndpointSettings, Millis, NetworkId, NetworkSpec,
    TlsDescription, WallTime,
};
use smol::channel::{Sender, bounded};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::unix::UnixStream;
use smol::stream::StreamExt as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// Nodes by address; they find each other here.
pub(super) type Street = Arc<Mutex<BTreeMap<String, Door>>>;

/// What happens to who dials.
#[derive(Clone)]
pub(super) enum Door {
    Open(Sender<Box<dyn Duplex>>),
    /// Takes what is sent and says nothing.
    Cut,
}

#[derive(Clone)]
pub(super) struct Stub(Arc<Inner>);

struct Inner {
    name: String,
    street: Street,
    pub(super) said: Mutex<Said>,
}

/// What it believes, has, and was asked.
#[derive(Default)]
pub(super) struct Said {
    pub(super) leader: Option<Leadership>,
    pub(super) has_quorum: bool,
    pub(super) containers: Vec<String>,
    pub(super) places: BTreeMap<String, Contact>,
    pub(super) done: Vec<String>,
}

pub(super) fn contact(name: &str) -> Contact {
    let last = name.bytes().last().unwrap_or_default();
    Contact {
        node: name.into(),
        addr: ([10, 0, 0, last], 2377).into(),
    }
}

impl Stub {
    pub(super) fn new(street: &Street, name: &str, leader: Leadership) -> Self {
        let said = Said {
            leader: Some(leader),
            has_quorum: true,
            ..Said::default()
        };
        Self(Arc::new(Inner {
            name: name.to_owned(),
            street: street.clone(),
            said: Mutex::new(said),
        }))
    }

    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap()
    }

    fn did(&self, what: String) {
        self.said().done.push(what);
    }

    /// Serves other nodes, and clients at a socket whose path it returns.
    pub(super) fn serve(&self) -> PathBuf {
        let (to, peers) = bounded(8);
        let door = Door::Open(to);
        self.0
            .street
            .lock()
            .unwrap()
            .insert(self.0.name.clone(), door);
        let folder = std::env::temp_dir().join(format!("skep-pass-on-{}", std::process::id()));
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.join(format!("{number}.sock"));
        let server = Server::bind(&[format!("unix://{}", path.display())]).unwrap();
        let (stop, stopped) = bounded(1);
        // For as long as the test's process.
        std::mem::forget(stop);
        smol::spawn(server.run(self.clone(), peers, stopped)).detach();
        path
    }
}

/// What these tests never ask.
fn unasked<T>() -> Result<T> {
    Err(Error::not_implemented("not in these tests"))
}

impl Backend for Stub {
    async fn facts(&self) -> NodeFacts {
        let mut facts = NodeFacts::default();
        facts.swarm.node_id.clone_from(&self.0.name);
        facts.swarm.state = SwarmState::Active;
        facts
    }
    fn images(&self) -> &skep_images::Store {
        unreachable!("these tests ask for no image")
    }
    fn events(&self, _since: Option<WallTime>) -> Events {
        Events {
            past: Vec::new(),
            live: Box::pin(smol::stream::empty()),
        }
    }
    fn publish(&self, _event: Event) {}
    fn answered(&self, _status: u16) {}
    async fn request(&self, request: Request) -> Result<Answer> {
        self.did(format!("{request:?}"));
        match request {
            Request::NodePrune => Ok(Answer::Pruned(vec![self.0.name.as_str().into()])),
            _ => Err(Error::conflict("refused by its leader")),
        }
    }
    async fn view<T, F>(&self, read: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> T + Send + 'static,
    {
        let config = Config {
            seed: [7; 32],
            listen_addr: "10.0.0.1:2377".into(),
            member: None,
            log_key: LogKey::new([7; 32]),
        };
        let engine = Engine::new(Millis(0), WallTime(0), config, Recovered::default());
        read(engine.unwrap().view())
    }
    fn tls(&self, _cluster: &Cluster) -> TlsDescription {
        TlsDescription::default()
    }
    async fn leader(&self) -> Leadership {
        self.said().leader.clone().unwrap()
    }
    async fn dial(&self, to: &Contact) -> Result<Box<dyn Duplex>> {
        let door = self.0.street.lock().unwrap().get(to.node.as_str()).cloned();
        let (own, other) = UnixStream::pair().unwrap();
        match door {
            None => return Err(Error::unavailable(format!("node {} is away", to.node))),
            Some(Door::Open(door)) => door.send(Box::new(other)).await.unwrap(),
            Some(Door::Cut) => {
                let mut other = other;
                smol::spawn(async move {
                    let _ = other.read(&mut [0; 64]).await;
                })
                .detach();
            }
        }
        Ok(Box::new(own))
    }
    async fn barrier(&self) -> Result<()> {
        match self.said().has_quorum {
            true => Ok(()),
            false => Err(Error::unavailable("deposed")),
        }
    }
    async fn place_of(&self, what: &str) -> Option<Contact> {
        self.said().places.get(what).cloned()
    }
    async fn container(&self, container: &str, _size: bool) -> Result<Container> {
        match self.said().containers.iter().any(|name| name == container) {
            true => Ok(Container {
                id: container.into(),
                name: container.into(),
                ..Container::default()
            }),
            false => Err(Error::not_found(format!("No such container: {container}"))),
        }
    }
    async fn container_kill(&self, container: &str, signal: &str) -> Result<()> {
        self.container(container, false).await?;
        self.did(format!("kill {container} {signal}"));
        Ok(())
    }
    async fn archive_put(
        &self,
        container: &str,
        path: &str,
        _options: ArchivePut,
        mut body: Reader,
    ) -> Result<()> {
        let mut all = Vec::new();
        body.read_to_end(&mut all).await?;
        let sum: u64 = all.iter().map(|byte| u64::from(*byte)).sum();
        self.did(format!("put {container} {path} {} {sum}", all.len()));
        Ok(())
    }
    async fn exec_create(&self, container: &str, exec: ExecConfig) -> Result<String> {
        self.did(format!("exec {container} {:?}", exec.command));
        Ok("e1".into())
    }
    async fn exec(&self, exec: &str) -> Result<Exec> {
        let made = self.said().done.iter().any(|done| done.starts_with("exec"));
        match made && exec == "e1" {
            true => Ok(Exec {
                id: exec.into(),
                ..Exec::default()
            }),
            false => Err(Error::not_found(format!("No such exec instance: {exec}"))),
        }
    }
    /// Says back what it hears, and goodbye when it hears no more.
    async fn exec_start(&self, _exec: &str, _start: ExecStart) -> Result<Attached> {
        let (input, ear) = UnixStream::pair()?;
        let heard = smol::stream::unfold(Some(ear), |ear| async {
            let mut ear = ear?;
            let mut buffer = vec![0; 4096];
            let count = ear.read(&mut buffer).await.ok()?;
            buffer.truncate(count);
            let (bytes, ear) = match count {
                0 => (b"bye".to_vec(), None),
                _ => (buffer, Some(ear)),
            };
            let stream = StdStream::Stdout;
            Some((Ok(Chunk { stream, bytes }), ear))
        });
        Ok(Attached {
            input: Some(Box::pin(input)),
            output: heard.boxed(),
        })
    }
    async fn image_uses(&self) -> Vec<skep_images::Use> {
        Default::default()
    }
    async fn swarm_join(&self, _join: JoinRequest) -> Result<()> {
        unasked()
    }
    async fn swarm_unlock(&self, _key: &str) -> Result<()> {
        unasked()
    }
    async fn containers(&self, _sizes: bool) -> Vec<Container> {
        Default::default()
    }
    async fn container_create(
        &self,
        _name: &str,
        _create: ContainerCreate,
        _platform: Option<String>,
    ) -> Result<ContainerId> {
        unasked()
    }
    async fn container_start(&self, _container: &str) -> Result<()> {
        unasked()
    }
    async fn container_stop(
        &self,
        _container: &str,
        _signal: &str,
        _grace_seconds: Option<i64>,
    ) -> Result<()> {
        unasked()
    }
    async fn container_restart(
        &self,
        _container: &str,
        _signal: &str,
        _grace_seconds: Option<i64>,
    ) -> Result<()> {
        unasked()
    }
    async fn container_pause(&self, _container: &str) -> Result<()> {
        unasked()
    }
    async fn container_unpause(&self, _container: &str) -> Result<()> {
        unasked()
    }
    async fn container_rename(&self, _container: &str, _name: &str) -> Result<()> {
        unasked()
    }
    async fn container_update(&self, _container: &str, _update: ContainerUpdate) -> Result<()> {
        unasked()
    }
    async fn container_remove(&self, _container: &str, _options: RemoveOptions) -> Result<()> {
        unasked()
    }
    async fn container_wait(&self, _container: &str, _until: WaitCondition) -> Result<Waiter> {
        unasked()
    }
    async fn container_pids(&self, _container: &str) -> Result<Vec<u32>> {
        unasked()
    }
    async fn container_stats(&self, _container: &str) -> Result<Stats> {
        unasked()
    }
    async fn container_changes(&self, _container: &str) -> Result<Vec<Change>> {
        unasked()
    }
    async fn container_export(&self, _container: &str) -> Result<ByteStream> {
        unasked()
    }
    async fn archive_stat(&self, _container: &str, _path: &str) -> Result<PathStat> {
        unasked()
    }
    async fn archive_get(&self, _container: &str, _path: &str) -> Result<(PathStat, ByteStream)> {
        unasked()
    }
    async fn attach(&self, _container: &str, _options: AttachOptions) -> Result<Attached> {
        unasked()
    }
    async fn logs(&self, _container: &str, _query: LogQuery) -> Result<LogStream> {
        unasked()
    }
    async fn resize(&self, _container: &str, _size: TerminalSize) -> Result<()> {
        unasked()
    }
    async fn exec_resize(&self, _exec: &str, _size: TerminalSize) -> Result<()> {
        unasked()
    }
    async fn networks(&self) -> Vec<NetworkSnapshot> {
        Default::default()
    }
    async fn network_create(&self, _spec: NetworkSpec) -> Result<NetworkId> {
        unasked()
    }
    async fn network_remove(&self, _network: &str) -> Result<()> {
        unasked()
    }
    async fn network_connect(
        &self,
        _network: &str,
        _container: &str,
        _endpoint: EndpointSettings,
    ) -> Result<()> {
        unasked()
    }
    async fn network_disconnect(
        &self,
        _network: &str,
        _container: &str,
        _force: bool,
    ) -> Result<()> {
        unasked()
    }
    async fn volumes(&self, _sizes: bool) -> Vec<Volume> {
        Default::default()
    }
    async fn volume(&self, _name: &str) -> Result<Volume> {
        unasked()
    }
    async fn volume_create(&self, _create: VolumeCreate) -> Result<Volume> {
        unasked()
    }
    async fn volume_remove(&self, _name: &str, _force: bool) -> Result<()> {
        unasked()
    }
}

/// What a client sends in one piece, and everything that comes back.
pub(super) async fn say(socket: &PathBuf, bytes: &[u8]) -> String {
    let mut stream = connect(socket).await;
    stream.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    String::from_utf8_lossy(&back).into_owned()
}

pub(super) async fn connect(socket: &PathBuf) -> UnixStream {
    UnixStream::connect(socket).await.unwrap()
}

/// The same for a request without a body, or with this one.
pub(super) async fn ask(socket: &PathBuf, line: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    say(socket, head.as_bytes()).await
}
