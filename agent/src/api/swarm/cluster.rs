//! `/swarm`: the cluster as a whole, coming and going.

use super::{add_meta, managed, read, value_of};
use crate::api::call::Call;
use crate::api::pass_on::Place;
use crate::api::reply::{self, Reply, empty};
use crate::api::router::Router;
use crate::api::shape::without_empty;
use crate::backend::{Backend, JoinRequest};
use crate::error::{Error, Result};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_control::engine::{Answer, Request};
use skep_control::model::{Cluster, ClusterSpec, TlsDescription};
use skep_control::request::SwarmInit;

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.post("/swarm/init", init);
    router.post("/swarm/join", join);
    router.post("/swarm/leave", leave);
    router.post("/swarm/unlock", unlock);
    router.at(Place::Leader, |router| {
        router.get("/swarm", inspect);
        router.post("/swarm/update", update);
        router.get("/swarm/unlockkey", unlock_key);
    });
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let cluster = read(&call.node, |view| view.managed().cloned()).await?;
    let mut value = cluster_json(&cluster, &call.node.tls(&cluster));
    if let Some(members) = value.as_object_mut() {
        let tokens = json!({"Worker": cluster.worker_token, "Manager": cluster.manager_token});
        members.insert("JoinTokens".into(), tokens);
    }
    Ok(reply::json(&value))
}

/// The cluster without its tokens: `Swarm.Cluster` of `info`, with counts.
pub(in crate::api) async fn summary<B: Backend>(node: &B) -> Option<(Value, usize, usize)> {
    let (cluster, nodes, managers) = node
        .view(|view| {
            let cluster = view.managed().ok()?.clone();
            let nodes = view.state().nodes();
            let managers = nodes.filter(|node| node.raft_id.is_some()).count();
            Some((cluster, view.state().nodes().count(), managers))
        })
        .await?;
    let value = cluster_json(&cluster, &node.tls(&cluster));
    Some((value, nodes, managers))
}

fn cluster_json(cluster: &Cluster, tls: &TlsDescription) -> Value {
    let mut value = json!({
        "ID": cluster.id,
        "Spec": spec_json(&cluster.spec),
        "TLSInfo": tls,
        "RootRotationInProgress": cluster.is_rotating_ca(),
        "DefaultAddrPool": cluster.default_addr_pool,
        "SubnetSize": cluster.subnet_size,
        "DataPathPort": cluster.data_path_port,
    });
    add_meta(&mut value, &cluster.meta);
    value
}

/// Never with the CA's key.
fn spec_json(spec: &ClusterSpec) -> Value {
    let mut value = value_of(spec);
    if let Some(ca) = value.get_mut("CAConfig") {
        if let Some(members) = ca.as_object_mut() {
            members.remove("SigningCAKey");
            members.remove("SigningCACert");
        }
        *ca = without_empty(ca.take());
    }
    if let Some(defaults) = value.get_mut("TaskDefaults") {
        *defaults = without_empty(defaults.take());
    }
    value
}

async fn init<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: SwarmInit = call.json().await?;
    match call
        .node
        .request(Request::SwarmInit(Box::new(body)))
        .await?
    {
        Answer::Node(id) => Ok(reply::json(&id)),
        other => Err(Error::internal(format!(
            "swarm init was answered with {other:?}"
        ))),
    }
}

async fn join<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let join: JoinRequest = call.json().await?;
    call.node.swarm_join(join).await?;
    Ok(empty(StatusCode::OK))
}

async fn leave<B: Backend>(call: Call<B>) -> Result<Reply> {
    let force = call.query.flag("force");
    call.node.request(Request::SwarmLeave { force }).await?;
    Ok(empty(StatusCode::OK))
}

async fn update<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let version = call.query.version()?;
    let spec: ClusterSpec = call.json().await?;
    call.node
        .request(Request::SwarmUpdate {
            version,
            spec: Box::new(spec),
            rotate_worker_token: call.query.flag("rotateWorkerToken"),
            rotate_manager_token: call.query.flag("rotateManagerToken"),
            rotate_manager_unlock_key: call.query.flag("rotateManagerUnlockKey"),
        })
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn unlock_key<B: Backend>(call: Call<B>) -> Result<Reply> {
    managed(&call.node).await?;
    Ok(reply::json(&json!({"UnlockKey": ""})))
}

async fn unlock<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: Unlock = call.json().await?;
    call.node.swarm_unlock(&body.unlock_key).await?;
    Ok(empty(StatusCode::OK))
}

/// The body of `POST /swarm/unlock`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Unlock {
    unlock_key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cas_key_stays_inside() {
        let mut cluster = Cluster {
            id: "c1".into(),
            ..Cluster::default()
        };
        cluster.spec.name = "default".into();
        cluster.spec.ca_config.signing_ca_key = "secret".into();
        cluster.spec.ca_config.node_cert_expiry = 7;
        cluster.ca_key_pem = "secret".into();
        cluster.worker_token = "secret".into();
        let value = cluster_json(&cluster, &TlsDescription::default());
        assert!(!value.to_string().contains("secret"));
        assert_eq!(value["Spec"]["CAConfig"], json!({"NodeCertExpiry": 7}));
        assert_eq!(value["Spec"]["TaskDefaults"], json!({}));
        assert_eq!(
            value["Spec"]["EncryptionConfig"],
            json!({"AutoLockManagers": false})
        );
    }
}
