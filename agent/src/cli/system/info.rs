//! `info`.

use crate::cli::exit::{self, Exit, Outcome};
use crate::cli::format::document_template;
use crate::cli::json::Value;
use crate::cli::template::Scope;
use crate::cli::{Invocation, units};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let format = inv.flags.str("format");
    if !format.is_empty() {
        let template = document_template(format)?;
        let mut info = inv.client.get("/info")?;
        info.set("ClientInfo", client_info());
        let text = template
            .execute(&info, Scope::document())
            .map_err(|e| Exit::failure(format!("template parsing error: {e}")))?;
        return exit::print_line(&text);
    }
    exit::print(&format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    let info = inv.client.get("/info").map_err(|fault| {
        exit::warn(&format!("ERROR: {fault}"));
        Exit::failure("errors pretty printing info")
    })?;
    exit::print(&(server_text(&info) + "\n"))?;
    for warning in info.strings("Warnings") {
        exit::warn(warning);
    }
    Ok(())
}

fn client_info() -> Value {
    let mut client = Value::Null;
    client.set("Debug", false);
    client.set("Version", env!("CARGO_PKG_VERSION"));
    client.set("Context", "default");
    client.set("Plugins", Value::List(Vec::new()));
    client.set("Warnings", Value::Null);
    client
}

/// Lines of ` label: value`.
struct Lines<'i> {
    info: &'i Value,
    text: String,
}

impl Lines<'_> {
    fn line(&mut self, label: &str, value: impl std::fmt::Display) {
        self.text += &format!("{label} {value}\n");
    }

    /// Left out when the daemon says nothing.
    fn some(&mut self, label: &str, path: &str) {
        let value = self.info.text(path);
        if !value.is_empty() {
            self.text += &format!("{label} {value}\n");
        }
    }

    fn number(&mut self, label: &str, path: &str) {
        let value = self.info.int(path);
        self.line(label, value);
    }

    fn truth(&mut self, label: &str, path: &str) {
        let value = self.info.bool(path);
        self.line(label, value);
    }

    fn words(&mut self, label: &str, path: &str) {
        let value = self.info.strings(path).join(" ");
        self.line(label, value);
    }

    fn pairs(&mut self, indent: &str, path: &str) {
        for pair in self.info.list(path) {
            if let [key, value] = pair.elements() {
                self.text += &format!("{indent}{}: {}\n", key.str(), value.str());
            }
        }
    }
}

fn server_text(info: &Value) -> String {
    let mut out = Lines {
        info,
        text: String::new(),
    };
    out.number(" Containers:", "Containers");
    out.number("  Running:", "ContainersRunning");
    out.number("  Paused:", "ContainersPaused");
    out.number("  Stopped:", "ContainersStopped");
    out.number(" Images:", "Images");
    out.some(" Server Version:", "ServerVersion");
    out.some(" Storage Driver:", "Driver");
    out.pairs("  ", "DriverStatus");
    out.pairs(" ", "SystemStatus");
    out.some(" Logging Driver:", "LoggingDriver");
    out.some(" Cgroup Driver:", "CgroupDriver");
    out.some(" Cgroup Version:", "CgroupVersion");
    out.text += " Plugins:\n";
    out.words("  Volume:", "Plugins.Volume");
    out.words("  Network:", "Plugins.Network");
    if !info.list("Plugins.Authorization").is_empty() {
        out.words("  Authorization:", "Plugins.Authorization");
    }
    out.words("  Log:", "Plugins.Log");
    out.line(" Swarm:", info.text("Swarm.LocalNodeState"));
    swarm_lines(&mut out);
    runtime_lines(&mut out);
    host_lines(&mut out);
    out.text
}

fn swarm_lines(out: &mut Lines<'_>) {
    let info = out.info;
    let state = info.text("Swarm.LocalNodeState");
    if matches!(state, "" | "inactive" | "locked") {
        return;
    }
    out.line("  NodeID:", info.text("Swarm.NodeID"));
    out.some("  Error:", "Swarm.Error");
    out.truth("  Is Manager:", "Swarm.ControlAvailable");
    let cluster = info.at("Swarm.Cluster");
    let sound = info.text("Swarm.Error").is_empty() && state != "error";
    if !cluster.is_null() && info.bool("Swarm.ControlAvailable") && sound {
        cluster_lines(out, cluster);
    }
    out.line("  Node Address:", info.text("Swarm.NodeAddr"));
    let mut managers: Vec<&str> = info
        .list("Swarm.RemoteManagers")
        .iter()
        .map(|m| m.text("Addr"))
        .collect();
    managers.sort_unstable();
    if !managers.is_empty() {
        out.text += "  Manager Addresses:\n";
        managers
            .iter()
            .for_each(|address| out.text += &format!("   {address}\n"));
    }
}

fn cluster_lines(out: &mut Lines<'_>, cluster: &Value) {
    out.line("  ClusterID:", cluster.text("ID"));
    out.number("  Managers:", "Swarm.Managers");
    out.number("  Nodes:", "Swarm.Nodes");
    let pools = cluster.strings("DefaultAddrPool");
    if !pools.is_empty() {
        out.line("  Default Address Pool:", pools.join("  ") + "  ");
        out.line("  SubnetSize:", cluster.int("SubnetSize"));
    }
    if cluster.int("DataPathPort") > 0 {
        out.line("  Data Path Port:", cluster.int("DataPathPort"));
    }
    let spec = cluster.at("Spec");
    let period = |path: &str| units::human_duration(spec.int(path) / units::SECOND);
    out.text += "  Orchestration:\n";
    out.line(
        "   Task History Retention Limit:",
        spec.int("Orchestration.TaskHistoryRetentionLimit"),
    );
    out.text += "  Raft:\n";
    out.line("   Snapshot Interval:", spec.int("Raft.SnapshotInterval"));
    if !spec.at("Raft.KeepOldSnapshots").is_null() {
        out.line(
            "   Number of Old Snapshots to Retain:",
            spec.int("Raft.KeepOldSnapshots"),
        );
    }
    out.line("   Heartbeat Tick:", spec.int("Raft.HeartbeatTick"));
    out.line("   Election Tick:", spec.int("Raft.ElectionTick"));
    out.text += "  Dispatcher:\n";
    out.line("   Heartbeat Period:", period("Dispatcher.HeartbeatPeriod"));
    out.text += "  CA Configuration:\n";
    out.line("   Expiry Duration:", period("CAConfig.NodeCertExpiry"));
    out.line("   Force Rotate:", spec.int("CAConfig.ForceRotate"));
    let certificate = spec.text("CAConfig.SigningCACert").trim();
    if !certificate.is_empty() {
        out.text += &format!("   Signing CA Certificate: \n{certificate}\n\n");
    }
    let external = spec.list("CAConfig.ExternalCAs");
    if !external.is_empty() {
        out.text += "   External CAs:\n";
        external.iter().for_each(|ca| {
            out.text += &format!("     {}: {}\n", ca.text("Protocol"), ca.text("URL"))
        });
    }
    out.line(
        "  Autolock Managers:",
        spec.bool("EncryptionConfig.AutoLockManagers"),
    );
    out.line(
        "  Root Rotation In Progress:",
        cluster.bool("RootRotationInProgress"),
    );
}

fn runtime_lines(out: &mut Lines<'_>) {
    let info = out.info;
    let mut runtimes: Vec<&str> = info
        .entries("Runtimes")
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    runtimes.sort_unstable();
    if !runtimes.is_empty() {
        out.line(" Runtimes:", runtimes.join(" "));
        out.line(" Default Runtime:", info.text("DefaultRuntime"));
    }
    if info.text("OSType") != "linux" {
        return;
    }
    out.line(" Init Binary:", info.text("InitBinary"));
    out.line(" containerd version:", info.text("ContainerdCommit.ID"));
    out.line(" runc version:", info.text("RuncCommit.ID"));
    out.line(" init version:", info.text("InitCommit.ID"));
    let options = info.strings("SecurityOptions");
    if options.is_empty() {
        return;
    }
    out.text += " Security Options:\n";
    for option in options {
        let mut name = option;
        let mut profile = "";
        for (key, value) in option.split(',').filter_map(|part| part.split_once('=')) {
            match key {
                "name" => name = value,
                "profile" => profile = value,
                _ => {}
            }
        }
        out.text += &format!("  {name}\n");
        if !profile.is_empty() {
            out.line("   Profile:", profile);
        }
    }
}

fn host_lines(out: &mut Lines<'_>) {
    let info = out.info;
    out.some(" Kernel Version:", "KernelVersion");
    out.some(" Operating System:", "OperatingSystem");
    out.some(" OSType:", "OSType");
    out.some(" Architecture:", "Architecture");
    out.number(" CPUs:", "NCPU");
    out.line(" Total Memory:", units::binary_size(info.float("MemTotal")));
    out.some(" Name:", "Name");
    out.some(" ID:", "ID");
    out.line(" Docker Root Dir:", info.text("DockerRootDir"));
    out.truth(" Debug Mode:", "Debug");
    if info.bool("Debug") {
        out.number("  File Descriptors:", "NFd");
        out.number("  Goroutines:", "NGoroutines");
        out.line("  System Time:", info.text("SystemTime"));
        out.number("  EventsListeners:", "NEventsListener");
    }
    out.some(" HTTP Proxy:", "HttpProxy");
    out.some(" HTTPS Proxy:", "HttpsProxy");
    out.some(" No Proxy:", "NoProxy");
    let labels = info.strings("Labels");
    if !labels.is_empty() {
        out.text += " Labels:\n";
        labels
            .iter()
            .for_each(|label| out.text += &format!("  {label}\n"));
    }
    out.truth(" Experimental:", "ExperimentalBuild");
    let insecure = info.strings("RegistryConfig.InsecureRegistryCIDRs");
    if !insecure.is_empty() {
        out.text += " Insecure Registries:\n";
        insecure
            .iter()
            .for_each(|range| out.text += &format!("  {range}\n"));
    }
    let mirrors = info.strings("RegistryConfig.Mirrors");
    if !mirrors.is_empty() {
        out.text += " Registry Mirrors:\n";
        mirrors
            .iter()
            .for_each(|mirror| out.text += &format!("  {mirror}\n"));
    }
    out.truth(" Live Restore Enabled:", "LiveRestoreEnabled");
    let pools = info.list("DefaultAddressPools");
    if !pools.is_empty() {
        out.text += " Default Address Pools:\n";
        pools.iter().for_each(|pool| {
            out.text += &format!(
                "   Base: {}, Size: {}\n",
                pool.text("Base"),
                pool.int("Size")
            )
        });
    }
}
