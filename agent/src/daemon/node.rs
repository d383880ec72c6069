//! The node as its API sees it: everything is handed to whose it is.

use super::spine::Spine;
use super::swarm::Swarm;
use crate::backend::*;
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::metrics::Metrics;
use skep_control::engine::{Answer, Contact, Request, View};
use skep_control::model::{
    Cluster, ContainerCreate, ContainerId, EndpointSettings, NetworkId, NetworkSpec,
    TlsDescription, WallTime,
};
use std::sync::Arc;

/// The node; clones are the same node.
#[derive(Clone)]
pub(super) struct Node(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) executor: Executor,
    pub(super) images: skep_images::Store,
    pub(super) events: EventLog,
    pub(super) spine: Spine,
    pub(super) facts: NodeFacts,
    pub(super) swarm: Swarm,
    pub(super) metrics: Metrics,
}

impl Node {
    fn executor(&self) -> &Executor {
        &self.0.executor
    }
}

impl Backend for Node {
    async fn facts(&self) -> NodeFacts {
        let mut facts = self.0.facts.clone();
        facts
            .warnings
            .extend(self.executor().network().warnings().await);
        facts.ipv4_forwarding = super::facts::forwards();
        facts.swarm = self.0.swarm.facts().await;
        facts
    }

    fn images(&self) -> &skep_images::Store {
        &self.0.images
    }

    async fn image_uses(&self) -> Vec<skep_images::Use> {
        self.executor().image_uses()
    }

    fn events(&self, since: Option<WallTime>) -> Events {
        self.0.events.watch(since)
    }

    fn answered(&self, status: u16) {
        self.0.metrics.answered(status);
    }

    fn publish(&self, event: Event) {
        self.0.events.publish(event);
    }

    async fn request(&self, request: Request) -> Result<Answer> {
        let parts = &self.0;
        match request {
            Request::SwarmInit(init) => parts.swarm.found(init).await,
            Request::SwarmLeave { force } => parts.swarm.leave(force).await,
            request @ Request::SwarmUpdate { .. } => parts.swarm.update(request).await,
            request => parts.spine.request(request).await,
        }
    }

    async fn view<T, F>(&self, read: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> T + Send + 'static,
    {
        self.0.spine.view(read).await
    }

    fn tls(&self, cluster: &Cluster) -> TlsDescription {
        super::swarm::tls(&cluster.ca_certs_pem(), &cluster.ca_cert_pem).unwrap_or_default()
    }

    async fn leader(&self) -> Leadership {
        self.0.swarm.leader().await
    }

    async fn dial(&self, to: &Contact) -> Result<Box<dyn Duplex>> {
        self.0.swarm.dial(to).await
    }

    async fn barrier(&self) -> Result<()> {
        self.0.swarm.barrier().await
    }

    async fn place_of(&self, task_or_container: &str) -> Option<Contact> {
        self.0.swarm.place_of(task_or_container).await
    }

    async fn swarm_join(&self, join: JoinRequest) -> Result<()> {
        self.0.swarm.join(join).await
    }

    async fn swarm_unlock(&self, _key: &str) -> Result<()> {
        match self.0.spine.view(|view| view.node_id().is_some()).await {
            true => Err(Error::conflict("swarm is not locked")),
            false => Err(Error::unavailable(skep_control::view::NOT_A_MANAGER)),
        }
    }

    async fn containers(&self, sizes: bool) -> Vec<Container> {
        self.executor().containers(sizes).await
    }

    async fn container(&self, container: &str, size: bool) -> Result<Container> {
        self.executor().container(container, size).await
    }

    async fn container_create(
        &self,
        name: &str,
        create: ContainerCreate,
        platform: Option<String>,
    ) -> Result<ContainerId> {
        self.executor().create(name, create, platform).await
    }

    async fn container_start(&self, container: &str) -> Result<()> {
        self.executor().start(container).await
    }

    async fn container_stop(
        &self,
        container: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> Result<()> {
        self.executor().stop(container, signal, grace_seconds).await
    }

    async fn container_restart(
        &self,
        container: &str,
        signal: &str,
        grace_seconds: Option<i64>,
    ) -> Result<()> {
        self.executor()
            .restart(container, signal, grace_seconds)
            .await
    }

    async fn container_kill(&self, container: &str, signal: &str) -> Result<()> {
        self.executor().kill(container, signal).await
    }

    async fn container_pause(&self, container: &str) -> Result<()> {
        self.executor().pause(container).await
    }

    async fn container_unpause(&self, container: &str) -> Result<()> {
        self.executor().unpause(container).await
    }

    async fn container_rename(&self, container: &str, name: &str) -> Result<()> {
        self.executor().rename(container, name).await
    }

    async fn container_update(&self, container: &str, update: ContainerUpdate) -> Result<()> {
        self.executor().update(container, update).await
    }

    async fn container_remove(&self, container: &str, options: RemoveOptions) -> Result<()> {
        self.executor().remove(container, options).await
    }

    async fn container_wait(&self, container: &str, until: WaitCondition) -> Result<Waiter> {
        self.executor().wait(container, until)
    }

    async fn container_pids(&self, container: &str) -> Result<Vec<u32>> {
        self.executor().pids(container).await
    }

    async fn container_stats(&self, container: &str) -> Result<Stats> {
        self.executor().stats(container).await
    }

    async fn container_changes(&self, container: &str) -> Result<Vec<Change>> {
        self.executor().changes(container).await
    }

    async fn container_export(&self, container: &str) -> Result<ByteStream> {
        self.executor().export(container).await
    }

    async fn archive_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        self.executor().archive_stat(container, path).await
    }

    async fn archive_get(&self, container: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        self.executor().archive_get(container, path).await
    }

    async fn archive_put(
        &self,
        container: &str,
        path: &str,
        options: ArchivePut,
        body: Reader,
    ) -> Result<()> {
        self.executor()
            .archive_put(container, path, options, body)
            .await
    }

    async fn attach(&self, container: &str, options: AttachOptions) -> Result<Attached> {
        self.executor().attach(container, options).await
    }

    async fn logs(&self, container: &str, query: LogQuery) -> Result<LogStream> {
        self.executor().logs(container, query).await
    }

    async fn resize(&self, container: &str, size: TerminalSize) -> Result<()> {
        self.executor().resize(container, size).await
    }

    async fn exec_create(&self, container: &str, exec: ExecConfig) -> Result<String> {
        self.executor().exec_create(container, exec).await
    }

    async fn exec_start(&self, exec: &str, start: ExecStart) -> Result<Attached> {
        self.executor().exec_start(exec, start).await
    }

    async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        self.executor().exec_resize(exec, size).await
    }

    async fn exec(&self, exec: &str) -> Result<Exec> {
        self.executor().exec(exec)
    }

    async fn networks(&self) -> Vec<NetworkSnapshot> {
        self.executor().networks().await
    }

    async fn network_create(&self, spec: NetworkSpec) -> Result<NetworkId> {
        self.executor().network_create(spec).await
    }

    async fn network_remove(&self, network: &str) -> Result<()> {
        self.executor().network_remove(network).await
    }

    async fn network_connect(
        &self,
        network: &str,
        container: &str,
        endpoint: EndpointSettings,
    ) -> Result<()> {
        self.executor()
            .network_connect(network, container, endpoint)
            .await
    }

    async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.executor()
            .network_disconnect(network, container, force)
            .await
    }

    async fn volumes(&self, sizes: bool) -> Vec<Volume> {
        self.executor().volume_list(sizes).await
    }

    async fn volume(&self, name: &str) -> Result<Volume> {
        self.executor().volume(name).await
    }

    async fn volume_create(&self, create: VolumeCreate) -> Result<Volume> {
        self.executor().volume_create(create).await
    }

    async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        self.executor().volume_remove(name, force).await
    }
}
