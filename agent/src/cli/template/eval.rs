//! Filling a template in.

use super::super::json::Value;
use super::super::time::Moment;
use super::{Kind, Node, Pipe, Term, functions};

/// What the data is, which decides how absent and typed fields behave.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Scope {
    /// The Go type named when a row has no such field; none for documents.
    pub(in crate::cli) row_type: Option<&'static str>,
    /// The data are a table's headers: functions leave them as they are.
    pub(in crate::cli) headers: bool,
    /// Times are Go times, as in swarm objects, not strings.
    pub(in crate::cli) typed_times: bool,
}

/// The key under which a row keeps what `.Label "x"` looks up.
pub(in crate::cli) const LABELS: &str = "\0labels";

/// Fields that the API leaves out when they are empty and Docker's own types
/// still have: reading them is no mistake.
const OPTIONAL: &[&str] = &[
    "Health",
    "Healthcheck",
    "UpdateStatus",
    "PreviousSpec",
    "JobStatus",
    "ManagerStatus",
    "ServiceStatus",
    "GraphDriver",
    "SizeRw",
    "SizeRootFs",
    "StopTimeout",
    "StopSignal",
    "Labels",
    "Annotations",
    "Mounts",
    "Descriptor",
    "Manifests",
    "ImageManifestDescriptor",
    "Err",
    "Slot",
    "NodeID",
    "ContainerStatus",
    "PortStatus",
    "Ports",
    "VirtualIPs",
    "Endpoint",
    "Limits",
    "Reservations",
    "RestartPolicy",
    "Placement",
    "Networks",
    "UpdateConfig",
    "RollbackConfig",
    "EndpointSpec",
    "LogDriver",
    "Env",
    "Args",
    "Command",
    "Hostname",
    "Dir",
    "User",
    "Groups",
    "TTY",
    "Init",
    "Secrets",
    "Configs",
    "Sysctls",
    "Ulimits",
    "CapabilityAdd",
    "CapabilityDrop",
    "DNSConfig",
    "Replicated",
    "Global",
    "ReplicatedJob",
    "GlobalJob",
    "Parent",
    "Comment",
    "Author",
    "Variant",
    "OsVersion",
    "Status",
    "Options",
    "UsageData",
    "CreatedAt",
    "Peers",
    "Services",
    "Message",
    "Platforms",
    "Constraints",
    "Preferences",
    "MaxReplicas",
    "NanoCPUs",
    "MemoryBytes",
    "Addr",
    "Leader",
    "PublishMode",
    "PublishedPort",
    "Domainname",
    "OnBuild",
    "Shell",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "GlobalIPv6Address",
    "Error",
    "Pid",
];

/// Fields that print as an empty list when they are null.
const NULL_LISTS: &[&str] = &[
    "Cmd",
    "Entrypoint",
    "Env",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "VolumesFrom",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Ulimits",
    "ExecIDs",
    "Args",
    "OnBuild",
    "Shell",
    "Aliases",
    "MaskedPaths",
    "ReadonlyPaths",
    "RepoTags",
    "RepoDigests",
    "Ports",
    "Config",
];

/// Fields that print as an empty map when they are null.
const NULL_MAPS: &[&str] = &[
    "Labels",
    "Options",
    "Volumes",
    "ExposedPorts",
    "PortBindings",
    "Sysctls",
    "Tmpfs",
    "StorageOpt",
    "DriverOpts",
    "Annotations",
    "Containers",
];

const TIMES: &[&str] = &[
    "CreatedAt",
    "UpdatedAt",
    "Timestamp",
    "StartedAt",
    "CompletedAt",
    "Created",
];

impl Scope {
    /// JSON that the daemon sent.
    pub(in crate::cli) fn document() -> Self {
        Self {
            row_type: None,
            headers: false,
            typed_times: false,
        }
    }

    /// JSON of swarm objects and networks, whose times are not strings.
    pub(in crate::cli) fn typed_document() -> Self {
        Self {
            typed_times: true,
            ..Self::document()
        }
    }

    /// One row of a listing.
    pub(in crate::cli) fn row(row_type: &'static str) -> Self {
        Self {
            row_type: Some(row_type),
            ..Self::document()
        }
    }

    pub(in crate::cli) fn header() -> Self {
        Self {
            headers: true,
            ..Self::document()
        }
    }
}

/// Why a list of nodes stopped early.
enum Flow {
    On,
    Break,
    Continue,
}

struct Evaluation<'d> {
    root: &'d Value,
    scope: Scope,
    variables: Vec<(String, Value)>,
    out: String,
}

pub(super) fn execute(body: &[Node], data: &Value, scope: Scope) -> Result<String, String> {
    let mut evaluation = Evaluation {
        root: data,
        scope,
        variables: Vec::new(),
        out: String::new(),
    };
    evaluation.nodes(body, data)?;
    Ok(evaluation.out)
}

impl Evaluation<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let outer = self.variables.len();
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                flow => {
                    self.variables.truncate(outer);
                    return Ok(flow);
                }
            }
        }
        self.variables.truncate(outer);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out += text,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out += &self.shown(pipe, &value);
                } else {
                    self.bind(pipe, &pipe.variables[0], value);
                }
            }
            Node::If {
                test,
                then,
                otherwise,
            } => {
                let outer = self.variables.len();
                let value = self.bound(test, dot)?;
                let flow = self.nodes(
                    if functions::truth(&value) {
                        then
                    } else {
                        otherwise
                    },
                    dot,
                );
                self.variables.truncate(outer);
                return flow;
            }
            Node::With {
                value,
                then,
                otherwise,
            } => {
                let outer = self.variables.len();
                let value = self.bound(value, dot)?;
                let flow = if functions::truth(&value) {
                    self.nodes(then, &value)
                } else {
                    self.nodes(otherwise, dot)
                };
                self.variables.truncate(outer);
                return flow;
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn bound(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let value = self.pipe(pipe, dot)?;
        if let Some(name) = pipe.variables.first() {
            self.bind(pipe, name, value.clone());
        }
        Ok(value)
    }

    fn bind(&mut self, pipe: &Pipe, name: &str, value: Value) {
        let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        match known {
            Some((_, old)) if pipe.assigns => *old = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn range(
        &mut self,
        over: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let value = self.pipe(over, dot)?;
        let pairs: Vec<(Value, Value)> = match value {
            Value::List(items) => items
                .into_iter()
                .zip(0_i64..)
                .map(|(v, i)| (i.into(), v))
                .collect(),
            Value::Map(_) => value
                .sorted_root()
                .into_iter()
                .map(|(k, v)| (k.into(), v.clone()))
                .collect(),
            Value::Null => Vec::new(),
            Value::Int(n) => (0..n).map(|i| (i.into(), i.into())).collect(),
            other => {
                let term = over.commands.first().and_then(|c| c.first());
                return Err(self.at(
                    term,
                    &format!("range can't iterate over {}", functions::go_text(&other)),
                ));
            }
        };
        if pairs.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in pairs {
            let outer = self.variables.len();
            match over.variables.as_slice() {
                [v] => self.bind(over, v, value.clone()),
                [k, v, ..] => {
                    self.bind(over, k, key);
                    self.bind(over, v, value.clone());
                }
                [] => {}
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(outer);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// A value as an action prints it. A null field's type is known by name.
    fn shown(&self, pipe: &Pipe, value: &Value) -> String {
        let last = match pipe.commands.as_slice() {
            [command] => command
                .first()
                .and_then(|term| term.fields.last())
                .map_or("", String::as_str),
            _ => "",
        };
        match value {
            Value::Null if self.scope.headers => "<no value>".to_owned(),
            Value::Null if NULL_LISTS.contains(&last) => "[]".to_owned(),
            Value::Null if NULL_MAPS.contains(&last) => "map[]".to_owned(),
            Value::String(text) if self.scope.typed_times && TIMES.contains(&last) => {
                Moment::parse(text).map_or_else(|| text.clone(), Moment::utc_go_text)
            }
            value => functions::go_text(value),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut piped: Option<Value> = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or_default())
    }

    fn command(
        &mut self,
        terms: &[Term],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let Some((first, rest)) = terms.split_first() else {
            return Ok(Value::Null);
        };
        if let Kind::Function(name) = &first.kind {
            // The shortcut of `and` and `or` is theirs; no argument has effects.
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(piped);
            if self.scope.headers && functions::leaves_headers(name) {
                return Ok(arguments.into_iter().next().unwrap_or_default());
            }
            if name == "json"
                && self.scope.row_type.is_some()
                && let Some(row @ Value::Map(_)) = arguments.first()
            {
                return Ok(functions::row_json(row).into());
            }
            let value = functions::call(name, arguments)
                .map_err(|e| self.at(Some(first), &format!("error calling {name}: {e}")))?;
            return self.fields(first, value);
        }
        if first.fields.last().is_some_and(|f| f == "Label")
            && (!rest.is_empty() || piped.is_some())
        {
            let key = match rest.first() {
                Some(term) => self.term(term, dot)?,
                None => piped.unwrap_or_default(),
            };
            return Ok(self.label(key.str()));
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(self.at(Some(first), "can't give argument to non-function"));
        }
        self.term(first, dot)
    }

    fn label(&self, key: &str) -> Value {
        if self.scope.headers {
            let last = key.rsplit('.').next().unwrap_or(key);
            return last.replace(['-', '_'], " ").into();
        }
        self.root
            .get(LABELS)
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_else(|| "".into())
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        match &term.kind {
            Kind::Dot => self.walk(term, dot),
            Kind::Variable(name) if name.is_empty() => self.walk(term, self.root),
            Kind::Variable(name) => {
                let value = self
                    .variables
                    .iter()
                    .rev()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v);
                match value {
                    Some(value) => self.walk(term, value),
                    None => Err(self.at(Some(term), &format!("undefined variable \"${name}\""))),
                }
            }
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Paren(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(term, value)
            }
            Kind::Function(name) => {
                let value = functions::call(name, Vec::new())
                    .map_err(|e| self.at(Some(term), &format!("error calling {name}: {e}")))?;
                self.fields(term, value)
            }
        }
    }

    fn fields(&self, term: &Term, value: Value) -> Result<Value, String> {
        if term.fields.is_empty() {
            Ok(value)
        } else {
            self.walk(term, &value)
        }
    }

    fn walk(&self, term: &Term, from: &Value) -> Result<Value, String> {
        let mut value = from;
        for name in &term.fields {
            value = match value.get_as_go(name) {
                Some(field) => field,
                None => return self.absent(term, name, value),
            };
        }
        Ok(value.clone())
    }

    fn absent(&self, term: &Term, name: &str, value: &Value) -> Result<Value, String> {
        if self.scope.headers {
            return Ok(Value::Null);
        }
        if let Some(row_type) = self.scope.row_type {
            return Err(self.at(
                Some(term),
                &format!("can't evaluate field {name} in type *{row_type}"),
            ));
        }
        match value {
            Value::Map(_) if OPTIONAL.contains(&name) => Ok(Value::Null),
            Value::Map(_) => {
                Err(self.at(Some(term), &format!("map has no entry for key {name:?}")))
            }
            Value::Null => Err(self.at(
                Some(term),
                &format!("nil pointer evaluating interface {{}}.{name}"),
            )),
            other => {
                let kind = functions::kind(other);
                Err(self.at(
                    Some(term),
                    &format!("can't evaluate field {name} in type {kind}"),
                ))
            }
        }
    }

    fn at(&self, term: Option<&Term>, what: &str) -> String {
        match term {
            Some(t) => format!(
                "template: :{}:{}: executing \"\" at <{}>: {what}",
                t.line,
                t.column,
                t.source()
            ),
            None => format!("template: :1: executing \"\": {what}"),
        }
    }
}
