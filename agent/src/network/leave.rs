//! Containers that have ended and whose things in the kernel are on their way
//! out.
//!
//! Taking a link down makes the kernel wait for all its readers, some tens of
//! milliseconds during which nothing else could be attached; so it is done
//! aside. Invariant: an address is given back only when the link that had it
//! is gone, and nobody else touches what is leaving.

use super::conntrack::{self, Flows};
use super::core::{Core, warn};
use super::endpoint;
use super::links::{Links, Operation};
use super::netns::Folder;
use crate::error::Result;
use skep_control::model::EndpointSettings;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::JoinHandle;

/// Containers that leave at a time; the next one waits for the oldest. The
/// kernel lets one of them change its links at a time anyway.
const LEAVING_MAX: usize = 16;
/// Stack of the thread that sees one off, bytes.
const THREAD_STACK_BYTES: usize = 128 << 10;

pub(super) struct Leaving {
    container: String,
    veths: Vec<String>,
    endpoints: Vec<EndpointSettings>,
    /// `None`: there was no thread to be had, and it is done already.
    thread: Option<JoinHandle<()>>,
}

impl Core {
    /// Sees a container off: flows, links, namespace.
    pub(super) fn leave(
        &mut self,
        container: &str,
        endpoints: Vec<EndpointSettings>,
        owns_namespace: bool,
    ) {
        self.reap(|_| false);
        if self.leaving.len() >= LEAVING_MAX
            && let Some(oldest) = self.leaving.first().map(|l| l.container.clone())
        {
            self.reap(|container| container == oldest);
        }
        let addresses: BTreeSet<IpAddr> = endpoints
            .iter()
            .flat_map(endpoint::addresses)
            .map(|prefix| prefix.address)
            .collect();
        let wired = endpoints
            .iter()
            .filter(|e| !endpoint::addresses(e).is_empty());
        let veths: Vec<String> = wired.map(endpoint::veth_name).collect();
        let folder = owns_namespace.then(|| self.folder.clone());
        let (id, links) = (container.to_owned(), veths.clone());
        let see_off = move || see_off(&id, &addresses, &links, folder.as_ref());
        let thread = std::thread::Builder::new()
            .name("leave".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(see_off);
        if let Err(e) = &thread {
            // Left to the next start of the agent.
            log::warn!("network: container {container} is not cleared away: {e}");
        }
        self.leaving.push(Leaving {
            container: container.to_owned(),
            veths,
            endpoints,
            thread: thread.ok(),
        });
    }

    /// Gives back the addresses of those that are gone; waits for those that
    /// `wait` names.
    pub(super) fn reap(&mut self, wait: impl Fn(&str) -> bool) {
        let leaving = std::mem::take(&mut self.leaving);
        for one in leaving {
            let is_done = one.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if !is_done && !wait(&one.container) {
                self.leaving.push(one);
                continue;
            }
            if let Some(thread) = one.thread
                && thread.join().is_err()
            {
                log::error!(
                    "network: clearing container {} away panicked",
                    one.container
                );
            }
            for endpoint in &one.endpoints {
                self.give_back(endpoint);
            }
        }
    }

    /// Links that are on their way out.
    pub(super) fn is_leaving(&self, link: &str) -> bool {
        self.leaving
            .iter()
            .any(|one| one.veths.iter().any(|veth| veth == link))
    }
}

fn see_off(
    container: &str,
    addresses: &BTreeSet<IpAddr>,
    veths: &[String],
    folder: Option<&Folder>,
) {
    let removals: Vec<Operation> = veths
        .iter()
        .map(|name| Operation::Remove { name: name.clone() })
        .collect();
    let removed: Result<()> = Links::open().and_then(|mut links| links.apply(&removals));
    warn("links", removed);
    warn("flows", conntrack::forget(Flows::Of(addresses, None)));
    if let Some(folder) = folder {
        folder.remove(container);
    }
}
