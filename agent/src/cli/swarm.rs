//! The swarm itself: making, joining, leaving, its tokens, keys and CA.

use std::io::{self, BufRead, Write};

use serde_json::json;

use super::command::{Arity, Command};
use super::convert::external_ca;
use super::exit::{self, Exit, Outcome};
use super::http::{Query, escape};
use super::json::Value;
use super::{Invocation, image};

const SPEC_FLAGS: &str = "\
# Swarm
. cert-expiry duration How long node certificates hold (default 2160h0m0s)
. dispatcher-heartbeat duration How often nodes report (default 5s)
. external-ca list A certificate authority outside (protocol=cfssl,url=…)
. max-snapshots uint Raft snapshots to keep besides the newest
. snapshot-interval uint Log entries between Raft snapshots (default 10000)
. task-history-limit int Finished tasks to remember a slot (default 5)";
const NODE_FLAGS: &str = "\
# Node
. advertise-addr string Address or interface that others reach it at [:port]
. availability string active, pause or drain (default active)
. data-path-addr string Address or interface for containers' traffic
. listen-addr string Address to listen at (default 0.0.0.0:2377)";

/// The swarm's label that says how many managers shall live.
const AUTOPILOT: &str = "skep.autopilot";

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        &["swarm init"],
        "[OPTIONS]",
        "Make a swarm of this node",
        Arity::Exactly(0),
        &[
            NODE_FLAGS,
            SPEC_FLAGS,
            "\
. autolock bool Managers need a key to start again
. data-path-port uint UDP port for containers' traffic (default 4789)
. default-addr-pool list Addresses for networks in CIDR form
. default-addr-pool-mask-length uint Size of a network of it (default 24)
. force-new-cluster bool Go on alone with what this manager knows",
        ],
        init,
    ),
    Command::new(
        &["swarm join"],
        "[OPTIONS] HOST:PORT",
        "Join a swarm",
        Arity::Exactly(1),
        &[
            NODE_FLAGS,
            ". token string The swarm's token, for a worker or a manager",
        ],
        join,
    ),
    Command::new(
        &["swarm join-token"],
        "[OPTIONS] (worker|manager)",
        "Show or change the tokens that let nodes join",
        Arity::Exactly(1),
        &["q quiet bool Only the token\n. rotate bool Change it first"],
        join_token,
    ),
    Command::new(
        &["swarm leave"],
        "[OPTIONS]",
        "Leave the swarm",
        Arity::Exactly(0),
        &["f force bool Leave whatever it costs the swarm"],
        leave,
    ),
    Command::new(
        &["swarm update"],
        "[OPTIONS]",
        "Change the swarm's settings",
        Arity::Exactly(0),
        &[
            SPEC_FLAGS,
            "\
. autolock bool Managers need a key to start again (true|false)
. autopilot uint Promote and demote nodes so that so many managers live (0 = off)",
        ],
        update,
    ),
    Command::new(
        &["swarm ca"],
        "[OPTIONS]",
        "Show or change the swarm's root certificate",
        Arity::Exactly(0),
        &["\
. ca-cert string File of the new root certificate
. ca-key string File of its key
. cert-expiry duration How long node certificates hold
d detach bool Do not wait for the nodes' new certificates
. external-ca list A certificate authority outside (protocol=cfssl,url=…)
q quiet bool Show no progress
. rotate bool Change the root certificate"],
        ca,
    ),
    Command::new(
        &["swarm unlock-key"],
        "[OPTIONS]",
        "Show or change the key that unlocks managers",
        Arity::Exactly(0),
        &["q quiet bool Only the key\n. rotate bool Change it first"],
        unlock_key,
    ),
    Command::new(
        &["swarm unlock"],
        "",
        "Unlock this manager with the key read from standard input",
        Arity::Exactly(0),
        &[],
        unlock,
    ),
];

fn availability(inv: &Invocation) -> Outcome<String> {
    let Some(given) = inv.flags.get("availability") else {
        return Ok(String::new());
    };
    let lower = given.to_lowercase();
    match lower.as_str() {
        "active" | "pause" | "drain" => Ok(lower),
        _ => Err(Exit::failure(format!(
            "invalid availability {given:?}, only active, pause and drain are supported"
        ))),
    }
}

/// Puts what the flags say into a swarm's spec.
fn merge(inv: &Invocation, spec: &mut Value, trust_root: &str) -> Outcome {
    let flags = &inv.flags;
    if let Some(n) = flags.int("task-history-limit") {
        spec.at_mut("Orchestration")
            .set("TaskHistoryRetentionLimit", n);
    }
    if let Some(period) = flags.duration("dispatcher-heartbeat") {
        spec.at_mut("Dispatcher").set("HeartbeatPeriod", period);
    }
    if let Some(n) = flags.int("max-snapshots") {
        spec.at_mut("Raft").set("KeepOldSnapshots", n);
    }
    if let Some(n) = flags.int("snapshot-interval") {
        spec.at_mut("Raft").set("SnapshotInterval", n);
    }
    if flags.changed("autolock") {
        spec.at_mut("EncryptionConfig")
            .set("AutoLockManagers", flags.bool("autolock"));
    }
    if let Some(expiry) = flags.duration("cert-expiry") {
        spec.at_mut("CAConfig").set("NodeCertExpiry", expiry);
    }
    if flags.changed("external-ca") {
        let mut all = Vec::new();
        for text in flags.list("external-ca") {
            all.push(Value::from(external_ca(text, trust_root)?));
        }
        spec.at_mut("CAConfig").set("ExternalCAs", Value::List(all));
    }
    Ok(())
}

fn init(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let mut spec = Value::Map(Vec::new());
    for part in [
        "Orchestration",
        "Raft",
        "Dispatcher",
        "CAConfig",
        "TaskDefaults",
        "EncryptionConfig",
    ] {
        spec.set(part, Value::Map(Vec::new()));
    }
    spec.set("Labels", Value::Null);
    merge(inv, &mut spec, "")?;
    let pools: Vec<&str> = flags
        .list("default-addr-pool")
        .iter()
        .flat_map(|p| p.split(','))
        .collect();
    let mut body = Value::from(json!({
        "ListenAddr": flags.get("listen-addr").unwrap_or("0.0.0.0:2377"),
        "AdvertiseAddr": flags.str("advertise-addr"),
        "DataPathAddr": flags.str("data-path-addr"),
        "DataPathPort": flags.int("data-path-port").unwrap_or(0),
        "ForceNewCluster": flags.bool("force-new-cluster"),
        "AutoLockManagers": flags.bool("autolock"),
        "Availability": availability(inv)?,
        "DefaultAddrPool": if pools.is_empty() { serde_json::Value::Null } else { json!(pools) },
        "SubnetSize": flags.int("default-addr-pool-mask-length").unwrap_or(24),
    }));
    body.set("Spec", spec);
    let id = inv
        .client
        .post_document("/swarm/init", &body)
        .map_err(|fault| {
            let ambiguous = [
                "could not choose an IP address to advertise",
                "could not find the system's IP address",
            ];
            let hint = ambiguous.iter().any(|text| fault.message.contains(text));
            Exit::failure(format!(
                "{fault}{}",
                if hint {
                    " - specify one with --advertise-addr"
                } else {
                    ""
                }
            ))
        })?;
    exit::print_line(&format!(
        "Swarm initialized: current node ({}) is now a manager.\n",
        id.str()
    ))?;
    print_join_command(inv, id.str(), true, false)?;
    exit::print_line(&format!(
        "To add a manager to this swarm, run '{} swarm join-token manager' and follow the instructions.",
        inv.program
    ))?;
    if flags.bool("autolock") {
        print_unlock_command(inv, &fetch_unlock_key(inv)?)
    } else {
        Ok(())
    }
}

fn print_join_command(inv: &Invocation, node: &str, worker: bool, manager: bool) -> Outcome {
    let node = inv.client.get(&format!("/nodes/{}", escape(node)))?;
    let swarm = inv.client.get("/swarm")?;
    // On a worker the leader's address is the one to join at.
    let leader = match node.at("ManagerStatus").is_null() {
        true => leader(inv)?,
        false => node,
    };
    for (wanted, role, field) in [
        (worker, "worker", "Worker"),
        (manager, "manager", "Manager"),
    ] {
        if wanted {
            exit::print_line(&format!(
                "To add a {role} to this swarm, run the following command:\n\n    {} swarm join --token {} {}\n",
                inv.program,
                swarm.text(&format!("JoinTokens.{field}")),
                leader.text("ManagerStatus.Addr")
            ))?;
        }
    }
    Ok(())
}

fn leader(inv: &Invocation) -> Outcome<Value> {
    let nodes = inv.client.get("/nodes")?;
    let mut nodes = nodes.elements().iter();
    let leader = nodes.find(|node| node.bool("ManagerStatus.Leader"));
    let leader = leader.ok_or_else(|| Exit::failure("the swarm does not have a leader"))?;
    Ok(leader.clone())
}

fn join(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let body = json!({
        "ListenAddr": flags.get("listen-addr").unwrap_or("0.0.0.0:2377"),
        "AdvertiseAddr": flags.str("advertise-addr"),
        "DataPathAddr": flags.str("data-path-addr"),
        "RemoteAddrs": [inv.operands[0]],
        "JoinToken": flags.str("token"),
        "Availability": availability(inv)?,
    });
    inv.client.post("/swarm/join", Some(body))?;
    let info = inv.client.get("/info")?;
    let role = if info.bool("Swarm.ControlAvailable") {
        "manager"
    } else {
        "worker"
    };
    exit::print_line(&format!("This node joined a swarm as a {role}."))
}

/// Writes a spec back to the swarm it came from.
fn write_back(inv: &Invocation, swarm: &Value, spec: &Value, rotate: &str) -> Outcome {
    let index = swarm.int("Version.Index").to_string();
    let mut query = Query::new().with("version", index);
    for key in [
        "rotateWorkerToken",
        "rotateManagerToken",
        "rotateManagerUnlockKey",
    ] {
        query = query.with(key, if key == rotate { "true" } else { "false" });
    }
    inv.client.post_document(&query.on("/swarm/update"), spec)?;
    Ok(())
}

fn join_token(inv: &Invocation) -> Outcome {
    let role = inv.operands[0].as_str();
    let (field, rotate) = match role {
        "worker" => ("Worker", "rotateWorkerToken"),
        "manager" => ("Manager", "rotateManagerToken"),
        _ => return Err(Exit::failure(format!("unknown role {role}"))),
    };
    let quiet = inv.flags.bool("quiet");
    if inv.flags.bool("rotate") {
        let swarm = inv.client.get("/swarm")?;
        write_back(inv, &swarm, swarm.at("Spec"), rotate)?;
        if !quiet {
            exit::print_line(&format!("Successfully rotated {role} join token.\n"))?;
        }
    }
    if quiet {
        let swarm = inv.client.get("/swarm")?;
        return exit::print_line(swarm.text(&format!("JoinTokens.{field}")));
    }
    // The swarm is asked first: its refusal is the one to show.
    inv.client.get("/swarm")?;
    let info = inv.client.get("/info")?;
    print_join_command(
        inv,
        info.text("Swarm.NodeID"),
        role == "worker",
        role == "manager",
    )
}

fn leave(inv: &Invocation) -> Outcome {
    inv.client.post(
        &Query::new()
            .flag("force", inv.flags.bool("force"))
            .on("/swarm/leave"),
        None,
    )?;
    exit::print_line("Node left the swarm.")
}

fn update(inv: &Invocation) -> Outcome {
    let given = [
        "autolock",
        "autopilot",
        "cert-expiry",
        "dispatcher-heartbeat",
        "external-ca",
        "max-snapshots",
        "snapshot-interval",
        "task-history-limit",
    ];
    if !given.iter().any(|flag| inv.flags.changed(flag)) {
        return super::help::print_for(&inv.program, &["swarm".to_owned(), "update".to_owned()]);
    }
    let swarm = inv.client.get("/swarm")?;
    let mut spec = swarm.at("Spec").clone();
    merge(inv, &mut spec, swarm.text("TLSInfo.TrustRoot"))?;
    match inv.flags.int("autopilot") {
        None => {}
        Some(0) => spec.at_mut("Labels").remove(AUTOPILOT),
        Some(managers) => spec.at_mut("Labels").set(AUTOPILOT, managers.to_string()),
    }
    write_back(inv, &swarm, &spec, "")?;
    exit::print_line("Swarm updated.")?;
    let path = "EncryptionConfig.AutoLockManagers";
    if spec.bool(path) && !swarm.at("Spec").bool(path) {
        print_unlock_command(inv, &fetch_unlock_key(inv)?)?;
    }
    Ok(())
}

fn fetch_unlock_key(inv: &Invocation) -> Outcome<String> {
    let answer = inv
        .client
        .get("/swarm/unlockkey")
        .map_err(|fault| Exit::failure(format!("could not fetch unlock key: {fault}")))?;
    Ok(answer.text("UnlockKey").to_owned())
}

fn print_unlock_command(inv: &Invocation, key: &str) -> Outcome {
    if key.is_empty() {
        return Ok(());
    }
    exit::print_line(&format!(
        "To unlock a swarm manager after it restarts, run the `{} swarm unlock`\ncommand and provide the following key:\n\n    {key}\n\nRemember to store this key in a password manager, since without it you\nwill not be able to restart the manager.",
        inv.program
    ))
}

fn unlock_key(inv: &Invocation) -> Outcome {
    let quiet = inv.flags.bool("quiet");
    if inv.flags.bool("rotate") {
        let swarm = inv.client.get("/swarm")?;
        if !swarm.bool("Spec.EncryptionConfig.AutoLockManagers") {
            return Err(Exit::failure(
                "cannot rotate because autolock is not turned on",
            ));
        }
        write_back(inv, &swarm, swarm.at("Spec"), "rotateManagerUnlockKey")?;
        if !quiet {
            exit::print_line("Successfully rotated manager unlock key.")?;
        }
    }
    let key = fetch_unlock_key(inv)?;
    match (key.is_empty(), quiet) {
        (true, _) => Err(Exit::failure("no unlock key is set")),
        (false, true) => exit::print_line(&key),
        (false, false) => print_unlock_command(inv, &key),
    }
}

fn unlock(inv: &Invocation) -> Outcome {
    let info = inv.client.get("/info")?;
    match info.text("Swarm.LocalNodeState") {
        "inactive" => return Err(Exit::failure("Error: This node is not part of a swarm")),
        "locked" => {}
        _ => return Err(Exit::failure("Error: swarm is not locked")),
    }
    let key = read_secret("Enter unlock key: ")?;
    inv.client
        .post("/swarm/unlock", Some(json!({ "UnlockKey": key })))?;
    Ok(())
}

/// A line from standard input, not shown when typed.
fn read_secret(prompt: &str) -> Outcome<String> {
    let stdin = io::stdin();
    let before = rustix::termios::tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        io::stdout().write_all(prompt.as_bytes())?;
        io::stdout().flush()?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &silent)
            .map_err(io::Error::from)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, before);
        exit::print_line("")?;
    }
    read?;
    Ok(line.trim().to_owned())
}

fn ca(inv: &Invocation) -> Outcome {
    let flags = &inv.flags;
    let swarm = inv.client.get("/swarm")?;
    if !flags.bool("rotate") {
        for flag in ["ca-cert", "ca-key", "cert-expiry", "external-ca"] {
            if flags.changed(flag) {
                return Err(Exit::failure(format!(
                    "`--{flag}` flag requires the `--rotate` flag to update the CA"
                )));
            }
        }
        return print_trust_root(&swarm);
    }
    if flags.changed("external-ca") && !flags.changed("ca-cert") {
        return Err(Exit::failure(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - to add an external CA with the current root CA certificate, use the `update` command instead",
        ));
    }
    if flags.changed("ca-cert") && !flags.changed("external-ca") && !flags.changed("ca-key") {
        return Err(Exit::failure(
            "the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well",
        ));
    }
    let pem = |flag: &str| match flags.get(flag) {
        None => Ok(String::new()),
        Some(path) => io::read_to_string(image::open(path)?).map_err(Exit::from),
    };
    let (cert, key) = (pem("ca-cert")?, pem("ca-key")?);
    let mut spec = swarm.at("Spec").clone();
    merge(inv, &mut spec, &cert)?;
    let forced = spec.int("CAConfig.ForceRotate");
    let config = spec.at_mut("CAConfig");
    if cert.is_empty() && key.is_empty() {
        config.set("ForceRotate", forced + 1);
    }
    config.set("SigningCACert", cert);
    config.set("SigningCAKey", key);
    write_back(inv, &swarm, &spec, "")?;
    if flags.bool("detach") {
        return Ok(());
    }
    wait_for_rotation(inv)?;
    if flags.bool("quiet") {
        Ok(())
    } else {
        print_trust_root(&inv.client.get("/swarm")?)
    }
}

/// How often the nodes' certificates are looked at while a root rotates.
const ROTATION_POLL: std::time::Duration = std::time::Duration::from_millis(200);

/// Waits until every node has a certificate of the new root.
fn wait_for_rotation(inv: &Invocation) -> Outcome {
    let mut shown = String::new();
    loop {
        let swarm = inv.client.get("/swarm")?;
        let nodes = inv.client.get("/nodes")?;
        let wanted = swarm.at("TLSInfo");
        let all = nodes.elements().len();
        let rooted = nodes
            .elements()
            .iter()
            .filter(|n| n.at("Description.TLSInfo") == wanted)
            .count();
        let done = !swarm.bool("RootRotationInProgress");
        let line = format!("rotated TLS certificates:  {rooted}/{all} nodes");
        if !inv.flags.bool("quiet") && line != shown {
            exit::print_line(&line)?;
            shown = line;
        }
        if done {
            return Ok(());
        }
        std::thread::sleep(ROTATION_POLL);
    }
}

fn print_trust_root(swarm: &Value) -> Outcome {
    match swarm.text("TLSInfo.TrustRoot").trim() {
        "" => Err(Exit::failure("No CA information available")),
        root => exit::print_line(root),
    }
}
