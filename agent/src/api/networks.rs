//! The `/networks` routes: this node's own networks and the swarm's in one
//! list. Which of the two a new one is, its driver and scope say.

use super::call::Call;
use super::filters::Filters;
use super::pass_on::{self, Place};
use super::query::escape;
use super::reply::{self, Reply, created, empty, no_content};
use super::router::Router;
use super::shape::without_empty;
use super::time;
use crate::backend::{Backend, NetworkMember, NetworkSnapshot};
use crate::error::{Error, Kind, Result};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_control::engine::{Answer, Request};
use skep_control::model::{EndpointSettings, Network, NetworkId, NetworkSpec};

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
/// The swarm's networks, among nodes.
const SWARM_NETWORKS: &str = "/skep/v1/networks";
/// Made by the node itself.
const BUILTIN: &[&str] = &["bridge", "host", "none"];

pub(super) fn routes<B: Backend>(router: &mut Router<B>) {
    router.get("/networks", list);
    router.post("/networks/create", create);
    router.post("/networks/prune", prune);
    router.get("/networks/{id}", inspect);
    router.delete("/networks/{id}", remove);
    router.post("/networks/{id}/connect", connect);
    router.post("/networks/{id}/disconnect", disconnect);
    // For other nodes, whose clients ask for both kinds at once.
    router.at(Place::Leader, |router| {
        router.get(SWARM_NETWORKS, |call: Call<B>| async move {
            Ok(reply::json(&known_of_swarm(&call.node).await))
        });
        router.post(SWARM_NETWORKS, |mut call: Call<B>| async move {
            let spec = call.json().await?;
            let id = create_in_swarm(&call.node, spec).await?;
            Ok(created(&id))
        });
        router.delete("/skep/v1/networks/{id}", |call: Call<B>| async move {
            remove_from_swarm(&call.node, call.param("id")).await?;
            Ok(no_content())
        });
    });
}

/// All networks that a user of this node may name.
async fn all<B: Backend>(node: &B) -> Vec<NetworkSnapshot> {
    let mut networks = node.networks().await;
    for swarm in of_swarm(node).await {
        // One that is in use here has its containers in the node's own record.
        match networks
            .iter_mut()
            .find(|local| local.network.id == swarm.id)
        {
            Some(local) => local.network = swarm,
            None => {
                networks.push(NetworkSnapshot {
                    network: swarm,
                    ..NetworkSnapshot::default()
                });
            }
        }
    }
    networks
}

/// The swarm's networks as its leader knows them; without one, as this node was
/// last told.
async fn of_swarm<B: Backend>(node: &B) -> Vec<Network> {
    match pass_on::fetch_value(node, SWARM_NETWORKS).await {
        Ok(Some(networks)) => networks,
        Ok(None) => known_of_swarm(node).await,
        Err(error) => {
            log::debug!("networks of the swarm: {error}");
            known_of_swarm(node).await
        }
    }
}

async fn known_of_swarm<B: Backend>(node: &B) -> Vec<Network> {
    node.view(|view| view.networks().into_iter().cloned().collect())
        .await
}

/// Full id, then name, then unique prefix of an id.
fn find(networks: Vec<NetworkSnapshot>, wanted: &str, scope: &str) -> Result<NetworkSnapshot> {
    let mut networks: Vec<NetworkSnapshot> = networks
        .into_iter()
        .filter(|n| scope.is_empty() || n.network.spec.scope == scope)
        .collect();
    let position = networks
        .iter()
        .position(|n| n.network.id.as_str() == wanted)
        .or_else(|| networks.iter().position(|n| n.network.spec.name == wanted));
    if let Some(position) = position {
        return Ok(networks.swap_remove(position));
    }
    networks.retain(|n| !wanted.is_empty() && n.network.id.as_str().starts_with(wanted));
    match networks.len() {
        0 => Err(Error::not_found(format!("network {wanted} not found"))),
        1 => Ok(networks.swap_remove(0)),
        many => Err(Error::invalid(format!(
            "network {wanted} is ambiguous ({many} matches found based on ID prefix)"
        ))),
    }
}

async fn list<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(FILTERS)?;
    if let Some(bad) = filters
        .values("type")
        .iter()
        .find(|t| !["custom", "builtin"].contains(&t.as_str()))
    {
        return Err(Error::invalid(format!("invalid filter: 'type'='{bad}'")));
    }
    let dangling = filters.flag("dangling")?;
    let mut networks = all(&call.node).await;
    networks.retain(|n| is_wanted(&filters, n) && dangling.is_none_or(|d| d == is_dangling(n)));
    networks.sort_by(|a, b| a.network.spec.name.cmp(&b.network.spec.name));
    let bare = |n: NetworkSnapshot| {
        network_json(&NetworkSnapshot {
            containers: Default::default(),
            ..n
        })
    };
    Ok(reply::json(
        &networks.into_iter().map(bare).collect::<Vec<_>>(),
    ))
}

fn is_builtin(network: &Network) -> bool {
    BUILTIN.contains(&network.spec.name.as_str()) || network.spec.ingress
}

fn is_dangling(snapshot: &NetworkSnapshot) -> bool {
    !is_builtin(&snapshot.network) && snapshot.users == 0 && snapshot.containers.is_empty()
}

fn is_wanted(filters: &Filters, snapshot: &NetworkSnapshot) -> bool {
    let network = &snapshot.network;
    let kind = if is_builtin(network) {
        "builtin"
    } else {
        "custom"
    };
    filters.exact("driver", &network.spec.driver)
        && filters.prefix("id", network.id.as_str())
        && filters.labels("label", &network.spec.labels)
        && filters.pattern("name", &network.spec.name)
        && filters.exact("scope", &network.spec.scope)
        && filters.exact("type", kind)
}

async fn inspect<B: Backend>(call: Call<B>) -> Result<Reply> {
    let found = find(
        all(&call.node).await,
        call.param("id"),
        call.query.text("scope"),
    )?;
    let mut value = network_json(&found);
    if let Some(members) = value.as_object_mut().filter(|_| call.query.flag("verbose")) {
        members.insert("Services".into(), json!({}));
    }
    Ok(reply::json(&value))
}

async fn create<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let spec: NetworkSpec = call.json().await?;
    if spec.name.trim().is_empty() {
        return Err(Error::invalid("network name can't be empty"));
    }
    let is_of_swarm = spec.driver == "overlay" || spec.scope == "swarm";
    let id = if is_of_swarm {
        let body = serde_json::to_value(&spec).unwrap_or_default();
        match pass_on::ask(&call.node, Method::POST, SWARM_NETWORKS, Some(&body)).await? {
            Some(id) => serde_json::from_slice(&id)
                .map_err(|e| Error::internal(format!("the leader's answer: {e}")))?,
            None => create_in_swarm(&call.node, spec).await?,
        }
    } else {
        call.node.network_create(spec).await?
    };
    Ok(created(&json!({"Id": id, "Warning": ""})))
}

async fn create_in_swarm<B: Backend>(node: &B, spec: NetworkSpec) -> Result<NetworkId> {
    match node.request(Request::NetworkCreate(Box::new(spec))).await? {
        Answer::Network(id) => Ok(id),
        other => Err(Error::internal(format!(
            "network create was answered with {other:?}"
        ))),
    }
}

async fn remove_from_swarm<B: Backend>(node: &B, network: &str) -> Result<()> {
    let network = network.to_owned();
    node.request(Request::NetworkRemove { network }).await?;
    Ok(())
}

async fn remove<B: Backend>(call: Call<B>) -> Result<Reply> {
    let found = find(all(&call.node).await, call.param("id"), "")?;
    remove_one(&call.node, &found.network).await?;
    Ok(no_content())
}

async fn remove_one<B: Backend>(node: &B, network: &Network) -> Result<()> {
    let id = network.id.as_str();
    if network.spec.scope != "swarm" {
        return node.network_remove(id).await;
    }
    let uri = format!("{SWARM_NETWORKS}/{}", escape(id));
    match pass_on::ask(node, Method::DELETE, &uri, None).await? {
        Some(_) => Ok(()),
        None => remove_from_swarm(node, id).await,
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectBody {
    container: String,
    endpoint_config: Option<EndpointSettings>,
    force: bool,
}

async fn connect<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: ConnectBody = call.json().await?;
    let endpoint = body.endpoint_config.unwrap_or_default();
    call.node
        .network_connect(call.param("id"), &body.container, endpoint)
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn disconnect<B: Backend>(mut call: Call<B>) -> Result<Reply> {
    let body: ConnectBody = call.json().await?;
    call.node
        .network_disconnect(call.param("id"), &body.container, body.force)
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn prune<B: Backend>(call: Call<B>) -> Result<Reply> {
    let filters = call.filters(&["until", "label", "label!"])?;
    let until = match filters.values("until") {
        [] => None,
        [one] => Some(time::until(one, time::now())?),
        _ => return Err(Error::invalid("more than one until filter specified")),
    };
    let unused = |snapshot: &NetworkSnapshot| {
        let network = &snapshot.network;
        is_dangling(snapshot)
            && until.is_none_or(|until| network.meta.created_at <= until)
            && filters.labels("label", &network.spec.labels)
            && filters.no_labels("label!", &network.spec.labels)
    };
    let mut removed = Vec::new();
    for snapshot in all(&call.node).await.into_iter().filter(unused) {
        match remove_one(&call.node, &snapshot.network).await {
            Ok(()) => removed.push(snapshot.network.spec.name),
            // In use by a service or meanwhile: it stays.
            Err(error)
                if matches!(
                    error.kind,
                    Kind::NotFound | Kind::Conflict | Kind::Forbidden | Kind::Invalid
                ) => {}
            Err(error) => return Err(error),
        }
    }
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(reply::json(&json!({"NetworksDeleted": removed})))
}

fn network_json(snapshot: &NetworkSnapshot) -> Value {
    let Network { id, meta, spec } = &snapshot.network;
    let configs: Vec<Value> = spec
        .ipam
        .config
        .iter()
        .map(|config| without_empty(serde_json::to_value(config).unwrap_or(Value::Null)))
        .collect();
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let containers: Map<String, Value> = snapshot
        .containers
        .iter()
        .map(|(id, member)| (id.to_string(), member_json(member)))
        .collect();
    json!({
        "Name": spec.name,
        "Id": id,
        "Created": meta.created_at,
        "Scope": or(&spec.scope, "local"),
        "Driver": spec.driver,
        "EnableIPv4": spec.enable_ipv4.unwrap_or(true),
        "EnableIPv6": spec.enable_ipv6.unwrap_or(false),
        "IPAM": {
            "Driver": or(&spec.ipam.driver, "default"),
            "Options": (!spec.ipam.options.is_empty()).then_some(&spec.ipam.options),
            "Config": configs,
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": spec.config_only,
        "Containers": containers,
        "Options": spec.options,
        "Labels": spec.labels,
    })
}

fn member_json(member: &NetworkMember) -> Value {
    json!({
        "Name": member.name,
        "EndpointID": member.endpoint_id,
        "MacAddress": member.mac_address,
        "IPv4Address": member.ipv4_address,
        "IPv6Address": member.ipv6_address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_control::model::IpamConfig;

    fn network(id: &str, name: &str, scope: &str) -> NetworkSnapshot {
        let spec = NetworkSpec {
            name: name.into(),
            driver: "bridge".into(),
            scope: scope.into(),
            ..NetworkSpec::default()
        };
        let network = Network {
            id: id.into(),
            spec,
            ..Network::default()
        };
        NetworkSnapshot {
            network,
            ..NetworkSnapshot::default()
        }
    }

    #[test]
    fn inspect_has_dockers_fields() {
        let mut one = network("n1", "net", "local");
        one.network.spec.ipam.config.push(IpamConfig {
            subnet: "172.18.0.0/16".into(),
            gateway: "172.18.0.1".into(),
            ..IpamConfig::default()
        });
        one.containers.insert(
            "c1".into(),
            NetworkMember {
                name: "web".into(),
                ipv4_address: "172.18.0.2/16".into(),
                ..NetworkMember::default()
            },
        );
        let value = network_json(&one);
        assert_eq!(
            value["IPAM"],
            json!({
                "Driver": "default", "Options": null,
                "Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}],
            })
        );
        assert_eq!(value["Containers"]["c1"]["IPv4Address"], "172.18.0.2/16");
        assert_eq!(value["ConfigFrom"], json!({"Network": ""}));
        assert_eq!(value["EnableIPv4"], true);
    }

    #[test]
    fn names_before_prefixes() {
        let all = || vec![network("abc", "x", "local"), network("abd", "ab", "swarm")];
        let id = |wanted, scope| find(all(), wanted, scope).map(|n| n.network.id.0);
        assert_eq!(id("ab", "").unwrap(), "abd");
        assert_eq!(id("abc", "").unwrap(), "abc");
        assert_eq!(
            id("abc", "swarm").unwrap_err().message,
            "network abc not found"
        );
        assert!(id("a", "").unwrap_err().message.contains("ambiguous"));
    }

    #[test]
    fn filters() {
        let wanted = |raw: &str| {
            is_wanted(
                &Filters::parse(raw, FILTERS).unwrap(),
                &network("n1", "bridge", "local"),
            )
        };
        assert!(wanted(
            r#"{"type":["builtin"],"scope":["local"],"name":["bri"]}"#
        ));
        assert!(!wanted(r#"{"type":["custom"]}"#) && !wanted(r#"{"driver":["overlay"]}"#));
    }
}
