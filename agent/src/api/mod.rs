//! The Docker Engine API: HTTP and JSON in and out, a file a resource.
//!
//! Owns the sockets, the routes and Docker's shapes and wordings. Invariant:
//! nothing that a client sends ends the process, and no client, however slow,
//! costs more than a bounded amount of memory. Knows the node only through
//! [`Backend`], and decides nothing: what may be is the executor's and the
//! engine's to say.

mod body;
mod call;
mod containers;
mod events;
mod exec;
mod filters;
mod hijack;
mod images;
mod networks;
mod pass_on;
mod query;
mod reply;
mod router;
mod server;
mod shape;
mod stream;
mod swarm;
mod system;
mod time;
mod volumes;

use crate::backend::Backend;
use pass_on::Place;
use router::Router;
#[allow(unused_imports, reason = "the daemon makes it")]
pub(crate) use server::Server;

/// The newest API version spoken.
pub(crate) const API_VERSION: &str = "1.51";
/// The oldest.
pub(crate) const API_VERSION_MIN: &str = "1.24";

/// All routes.
fn router<B: Backend>() -> Router<B> {
    let mut router = Router::new();
    system::routes(&mut router);
    containers::routes(&mut router);
    exec::routes(&mut router);
    swarm::routes(&mut router);
    images::routes(&mut router);
    networks::routes(&mut router);
    volumes::routes(&mut router);
    router.at(Place::Each, |router| {
        events::routes(router);
        pass_on::routes(router);
    });
    router
}
