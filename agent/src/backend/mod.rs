//! What the API asks of a node, and the words they share.
//!
//! Owns the vocabulary (snapshots, streams, options) and the trait [`Backend`]
//! that `daemon::Node` implements. Invariant: everything here is plain data,
//! already decided; a snapshot is a copy and never changes under its reader.
//! Knows neither HTTP nor the executor, so that either can be tested alone.
//!
//! Static dispatch: the API is generic over `B: Backend`. Streams are pulled:
//! nothing is read from a container faster than its reader takes it.

mod container;
mod event;
mod exec;
mod network;
mod node;
mod stats;
mod stream;
mod swarm;
mod volume;

pub(crate) use container::*;
pub(crate) use event::*;
pub(crate) use exec::*;
pub(crate) use network::*;
pub(crate) use node::*;
pub(crate) use stats::*;
pub(crate) use stream::*;
pub(crate) use swarm::*;
pub(crate) use volume::*;

use crate::error::Result;
use skep_control::engine::{Answer, Contact, Request, View};
use skep_control::model::{
    Cluster, ContainerCreate, ContainerId, EndpointSettings, HostRestartPolicy, NetworkId,
    NetworkSpec, TlsDescription, WallTime,
};
#[allow(unused_imports, reason = "its users come with the resources")]
use std::collections::BTreeMap;
use std::future::Future;

/// A future that the API may hold on any thread.
macro_rules! later {
    ($t:ty) => { impl Future<Output = $t> + Send };
}

/// The node as its API sees it.
///
/// `container: &str` is always what the user wrote: a full id, a name with or
/// without its slash, or a unique id prefix (in this order). No such container
/// is [`Kind::NotFound`](crate::error::Kind) with Docker's wording `No such
/// container: X`; a prefix of several is `Kind::Invalid`.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    // ---- the node

    /// What `info`, `version` and `ping` tell of this node.
    fn facts(&self) -> later!(NodeFacts);
    /// The image store; cheap to clone, but its calls block (use `unblock`).
    fn images(&self) -> &skep_images::Store;
    /// What the containers, running or not, are made of.
    fn image_uses(&self) -> later!(Vec<skep_images::Use>);
    /// Events since then that are still remembered, and all that come.
    fn events(&self, since: Option<WallTime>) -> Events;
    /// Counts an API request that was answered with that HTTP status.
    fn answered(&self, status: u16);
    /// Makes an event known (the image routes do it for pull, load, tag, …).
    fn publish(&self, event: Event);

    // ---- the swarm

    /// Asks the engine; resolves when the answer is durable.
    fn request(&self, request: Request) -> later!(Result<Answer>);
    /// Reads the engine's tables at one moment. `read` runs where the engine
    /// does: it copies what it needs and returns.
    fn view<T, F>(&self, read: F) -> later!(T)
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> T + Send + 'static;
    /// Whose certificates its nodes have, and whom they believe.
    fn tls(&self, cluster: &Cluster) -> TlsDescription;
    /// Where requests about the swarm are to be answered. Only what this node
    /// believes now: `Here` is confirmed by [`Backend::barrier`].
    fn leader(&self) -> later!(Leadership);
    /// Opens a byte stream to another node's API: HTTP/1.1, as on its socket.
    /// `Kind::Unavailable` when it is not reached within a few seconds. The
    /// other end never passes on what comes this way.
    fn dial(&self, to: &Contact) -> later!(Result<Box<dyn Duplex>>);
    /// Resolves when the tables read after it hold everything that was
    /// acknowledged before it was called; on the leader only. `Unavailable`
    /// when this node does not lead, or cannot be sure that it still does.
    fn barrier(&self) -> later!(Result<()>);
    /// Which other node has a task or container: a full id of either, a unique
    /// prefix of one, or a task's name in full (`web.2.<id>`) or short
    /// (`web.2`: its newest attempt). `None`: it is this node's, or nothing is
    /// known of it here. From what this node knows: every task on managers.
    fn place_of(&self, task_or_container: &str) -> later!(Option<Contact>);
    /// Takes this node into another's swarm; resolves when it is in it. After
    /// Docker's 20 seconds it fails in Docker's words and goes on trying.
    fn swarm_join(&self, join: JoinRequest) -> later!(Result<()>);
    /// Opens a locked node's state with the operator's key (`SWMKEY-1-…`).
    fn swarm_unlock(&self, key: &str) -> later!(Result<()>);

    // ---- containers

    /// All containers, in no order; sizes are computed only when asked for.
    fn containers(&self, sizes: bool) -> later!(Vec<Container>);
    /// One container.
    fn container(&self, container: &str, size: bool) -> later!(Result<Container>);
    /// Makes a container of a checked and defaulted request. An empty name is
    /// invented. Unknown image: 404 `No such image: X`; name taken: 409.
    fn container_create(
        &self,
        name: &str,
        create: ContainerCreate,
        platform: Option<String>,
    ) -> later!(Result<ContainerId>);
    /// `Kind::NotModified` when it runs already.
    fn container_start(&self, container: &str) -> later!(Result<()>);
    /// Signal (empty: the container's own), grace, then SIGKILL; returns when
    /// it is gone. `NotModified` when it does not run. A negative grace waits
    /// for ever, `None` is the container's own.
    fn container_stop(
        &self,
        container: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> later!(Result<()>);
    fn container_restart(
        &self,
        container: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> later!(Result<()>);
    /// `signal`: a name with or without `SIG`, or a number; empty is KILL.
    fn container_kill(&self, container: &str, signal: &str) -> later!(Result<()>);
    fn container_pause(&self, container: &str) -> later!(Result<()>);
    fn container_unpause(&self, container: &str) -> later!(Result<()>);
    fn container_rename(&self, container: &str, name: &str) -> later!(Result<()>);
    /// Changes limits and restart policy; fields at zero stay as they are.
    fn container_update(&self, container: &str, update: ContainerUpdate) -> later!(Result<()>);
    fn container_remove(&self, container: &str, options: RemoveOptions) -> later!(Result<()>);
    /// Resolves as soon as the wait is registered, to what then resolves at
    /// the exit: an exit after that first resolution is never missed.
    fn container_wait(&self, container: &str, until: WaitCondition) -> later!(Result<Waiter>);
    /// The process ids in the container, in the node's own pid namespace.
    fn container_pids(&self, container: &str) -> later!(Result<Vec<u32>>);
    fn container_stats(&self, container: &str) -> later!(Result<Stats>);
    /// What differs from the image.
    fn container_changes(&self, container: &str) -> later!(Result<Vec<Change>>);
    /// The root file system as a tar stream.
    fn container_export(&self, container: &str) -> later!(Result<ByteStream>);
    /// Something in the container's file system; 404 when there is nothing.
    fn archive_stat(&self, container: &str, path: &str) -> later!(Result<PathStat>);
    fn archive_get(&self, container: &str, path: &str) -> later!(Result<(PathStat, ByteStream)>);
    /// Unpacks a tar stream (plain, gzip, zstd) into a folder of the container.
    fn archive_put(
        &self,
        container: &str,
        path: &str,
        options: ArchivePut,
        body: Reader,
    ) -> later!(Result<()>);

    // ---- stdio

    /// The container's stdio from now on. Of a container that does not run:
    /// from the first byte of its next start (`run` attaches before it starts).
    /// The output ends with the container's exit.
    fn attach(&self, container: &str, options: AttachOptions) -> later!(Result<Attached>);
    /// What the container wrote. Works for stopped containers too.
    fn logs(&self, container: &str, query: LogQuery) -> later!(Result<LogStream>);
    fn resize(&self, container: &str, size: TerminalSize) -> later!(Result<()>);
    /// Prepares a command; it runs at `exec_start`. Returns a 64 hex id.
    fn exec_create(&self, container: &str, exec: ExecConfig) -> later!(Result<String>);
    /// Starts it and returns its stdio; the output ends after the exit code is
    /// known. With `detach` there is no stdio and the output ends at once.
    fn exec_start(&self, exec: &str, start: ExecStart) -> later!(Result<Attached>);
    fn exec_resize(&self, exec: &str, size: TerminalSize) -> later!(Result<()>);
    /// 404 `No such exec instance: X`.
    fn exec(&self, exec: &str) -> later!(Result<Exec>);

    // ---- networks and volumes of this node

    /// The node's own networks, bridge, host and none among them.
    fn networks(&self) -> later!(Vec<NetworkSnapshot>);
    fn network_create(&self, spec: NetworkSpec) -> later!(Result<NetworkId>);
    fn network_remove(&self, network: &str) -> later!(Result<()>);
    fn network_connect(
        &self,
        network: &str,
        container: &str,
        endpoint: EndpointSettings,
    ) -> later!(Result<()>);
    fn network_disconnect(&self, network: &str, container: &str, force: bool)
    -> later!(Result<()>);
    /// Sizes are computed only when asked for.
    fn volumes(&self, sizes: bool) -> later!(Vec<Volume>);
    /// 404 `get X: no such volume`.
    fn volume(&self, name: &str) -> later!(Result<Volume>);
    /// An empty name is invented; the same name and driver again is no error.
    fn volume_create(&self, create: VolumeCreate) -> later!(Result<Volume>);
    /// 409 when in use; 404 unless `force`.
    fn volume_remove(&self, name: &str, force: bool) -> later!(Result<()>);
}

/// What `POST /containers/{id}/update` may change.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerUpdate {
    /// Only the resource fields count.
    pub(crate) resources: skep_control::model::HostConfig,
    /// `None`: as it is.
    pub(crate) restart_policy: Option<HostRestartPolicy>,
}
