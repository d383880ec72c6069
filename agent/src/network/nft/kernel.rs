//! The edge: rulesets to and from the kernel.

use super::encode::{GET_CHAIN, fingerprint, message, replace};
use super::{Ruleset, TABLE};
use crate::error::{Error, Result};
use crate::network::netlink::{Attributes, Conversation, attribute};

/// nf_tables of the network namespace in which it was opened.
pub(in crate::network) struct Firewall(Conversation);

impl Firewall {
    pub(in crate::network) fn open() -> Result<Self> {
        const NETLINK_NETFILTER: isize = 12;
        Conversation::open(NETLINK_NETFILTER).map(Self)
    }

    /// Makes skep's table this ruleset; nothing happens when it is already.
    pub(in crate::network) fn apply(&mut self, ruleset: &Ruleset) -> Result<()> {
        let marker = fingerprint(ruleset);
        let present = chains(&mut self.0)?
            .iter()
            .any(|chain| chain.table == TABLE && chain.name == marker);
        if present {
            return Ok(());
        }
        self.commit(&replace(ruleset))
    }

    fn commit(&mut self, batch: &[crate::network::netlink::Message]) -> Result<()> {
        let refusals = self.0.send(batch)?;
        let Some(refusal) = refusals.first() else {
            return Ok(());
        };
        Err(Error::internal(format!(
            "nf_tables refused message {} of {}: {}; the kernel needs nf_tables with nat, masq, ct, fib_inet and numgen (modules nft_*)",
            refusal.message,
            batch.len(),
            refusal.text()
        )))
    }
}

/// Another's table drops what skep forwards: a FORWARD policy of DROP, as a
/// dockerd leaves it behind. Names the tables.
pub(in crate::network) fn has_drop_policy(firewall: &mut Firewall) -> Result<Vec<String>> {
    Ok(chains(&mut firewall.0)?
        .into_iter()
        .filter(|chain| chain.drops_forwarded && chain.table != TABLE)
        .map(|chain| format!("{} {}", chain.table, chain.name))
        .collect())
}

struct FoundChain {
    table: String,
    name: String,
    drops_forwarded: bool,
}

fn chains(conversation: &mut Conversation) -> Result<Vec<FoundChain>> {
    const ANY_FAMILY: u8 = 0;
    let request = message(GET_CHAIN, 0, ANY_FAMILY, Attributes::default());
    let answers = conversation.dump(&request)?;
    Ok(answers
        .iter()
        .filter_map(|(_, payload)| found_chain(payload.get(4..)?))
        .collect())
}

fn found_chain(attributes: &[u8]) -> Option<FoundChain> {
    const HOOK_FORWARD: u32 = 2;
    const POLICY_DROP: u32 = 0;
    let hook = attribute(attributes, 4)
        .and_then(|hook| attribute(hook, 1))
        .and_then(big_endian);
    let policy = attribute(attributes, 5).and_then(big_endian);
    Some(FoundChain {
        table: text(attribute(attributes, 1)?),
        name: text(attribute(attributes, 3)?),
        drops_forwarded: hook == Some(HOOK_FORWARD) && policy == Some(POLICY_DROP),
    })
}

fn big_endian(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(value.get(..end.unwrap_or(value.len())).unwrap_or_default())
        .into_owned()
}
