//! Names: the resolver that each container finds at 127.0.0.11.
//!
//! Owns the zone (who is called what on which network), the answers, and the
//! sockets in the containers' namespaces. Invariant: a container sees the
//! names of its own networks only, and everything else is forwarded to the
//! node's resolvers; whatever bytes come in, a query costs bounded time and
//! memory. It does not know where names come from.

mod answer;
mod forward;
mod serve;
mod upstream;
mod zone;

pub(super) use serve::{Server, Sockets};
pub(super) use upstream::{NodeResolvers, servers};
pub(super) use zone::{Asker, Upstreams, Zone};

use std::sync::{Arc, RwLock};

/// The names of the whole node, as all its resolvers see them.
pub(super) type SharedZone = Arc<RwLock<Zone>>;
