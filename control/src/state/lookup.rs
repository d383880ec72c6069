//! Finding what a user names: full id, then exact name, then unique prefix of
//! an id, as Docker does.

use super::*;
use crate::refusal::Refusal;

impl State {
    /// # Errors
    /// `service x not found`, or that the prefix is ambiguous.
    pub fn find_service(&self, argument: &str) -> Result<&Service, Refusal> {
        if let Some(found) = self.services.get(&ServiceId::from(argument)) {
            return Ok(found);
        }
        if let Some(found) = self.service_named(argument) {
            return Ok(found);
        }
        let starts = self.services.range(ServiceId::from(argument)..);
        only(
            "service",
            argument,
            starts.map(|(id, of)| (id.as_str(), of)),
        )
    }

    /// `self_id` is what `self` names.
    ///
    /// # Errors
    /// `node x not found`, or that name or prefix is ambiguous.
    pub fn find_node(&self, argument: &str, self_id: Option<&NodeId>) -> Result<&Node, Refusal> {
        let id = match self_id {
            Some(id) if argument == "self" => id.clone(),
            _ => NodeId::from(argument),
        };
        if let Some(found) = self.nodes.get(&id) {
            return Ok(found);
        }
        let mut named = self
            .nodes
            .values()
            .filter(|node| node.spec.name == argument || node.description.hostname == argument);
        if let Some(found) = named.next() {
            let more = named.count();
            return if more == 0 {
                Ok(found)
            } else {
                Err(ambiguous("node", argument, more + 1))
            };
        }
        let starts = self.nodes.range(id..);
        only("node", argument, starts.map(|(id, of)| (id.as_str(), of)))
    }

    /// # Errors
    /// `network x not found`, or that the prefix is ambiguous.
    pub fn find_network(&self, argument: &str) -> Result<&Network, Refusal> {
        if let Some(found) = self.networks.get(&NetworkId::from(argument)) {
            return Ok(found);
        }
        if let Some(found) = self.network_named(argument) {
            return Ok(found);
        }
        let starts = self.networks.range(NetworkId::from(argument)..);
        only(
            "network",
            argument,
            starts.map(|(id, of)| (id.as_str(), of)),
        )
    }
}

/// The only entry whose id starts with `prefix`; `from` starts at it, in order.
fn only<'a, T>(
    noun: &str,
    prefix: &str,
    from: impl Iterator<Item = (&'a str, T)>,
) -> Result<T, Refusal> {
    if prefix.is_empty() {
        return Err(not_found(noun, prefix));
    }
    let mut matching = from.take_while(|(id, _)| id.starts_with(prefix));
    let Some((_, found)) = matching.next() else {
        return Err(not_found(noun, prefix));
    };
    match matching.count() {
        0 => Ok(found),
        more => Err(ambiguous(noun, prefix, more + 1)),
    }
}

/// Docker's wording, for all nouns.
pub(crate) fn not_found(noun: &str, argument: &str) -> Refusal {
    Refusal::not_found(format!("{noun} {argument} not found"))
}

fn ambiguous(noun: &str, argument: &str, matches: usize) -> Refusal {
    Refusal::invalid(format!(
        "{noun} {argument} is ambiguous ({matches} matches found)"
    ))
}
