//! Who a member is to SWIM: its key's id, where it is, and how often it had to
//! say so anew.
//!
//! **Invariant:** of two identities of one node every member prefers the same
//! one, in whatever order it hears of them.

use crate::model::{BASE36, ID_LEN, NodeId};
use crate::wire::Contact;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One identity of a node. The larger in (incarnation, leaving, life, address)
/// replaces the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Identity {
    /// Of the node's id; the same for all its identities, and cheap to compare.
    pub code: Code,
    pub node: NodeId,
    pub addr: SocketAddr,
    /// Drawn at every start: tells a node's own past from a twin.
    pub life: u32,
    /// Raised by its owner only: when it moves, when it was declared dead,
    /// and when it meets a larger one of its own.
    pub incarnation: u64,
    /// It says goodbye: who hears of it as down knows that it went on purpose.
    pub is_leaving: bool,
}

impl Identity {
    /// Somebody whom we only know how to reach.
    pub(super) fn stranger(contact: &Contact) -> Self {
        Self {
            code: Code::of(&contact.node),
            node: contact.node.clone(),
            addr: contact.addr,
            life: 0,
            incarnation: 0,
            is_leaving: false,
        }
    }

    pub(super) fn contact(&self) -> Contact {
        Contact {
            node: self.node.clone(),
            addr: self.addr,
        }
    }

    /// Whether it replaces `other`, an identity of the same node.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (u64, bool, u32, SocketAddr) {
        (self.incarnation, self.is_leaving, self.life, self.addr)
    }
}

/// Its form in datagrams.
#[derive(Serialize, Deserialize)]
struct Written {
    node: Name,
    addr: SocketAddr,
    life: u32,
    incarnation: u64,
    is_leaving: bool,
}

/// A node's id takes two thirds of its length in a datagram: 25 digits of base
/// 36 are a number of 130 bits. Whatever else serves as an id stays text.
#[derive(Serialize, Deserialize)]
enum Name {
    Number([u8; CODE_LEN]),
    Text(String),
}

impl From<Identity> for Written {
    fn from(id: Identity) -> Self {
        let node = match id.code {
            Code { bytes, is_id: true } => Name::Number(bytes),
            Code { is_id: false, .. } => Name::Text(id.node.0),
        };
        Self {
            node,
            addr: id.addr,
            life: id.life,
            incarnation: id.incarnation,
            is_leaving: id.is_leaving,
        }
    }
}

impl From<Written> for Identity {
    fn from(written: Written) -> Self {
        let node = NodeId(match written.node {
            Name::Number(bytes) => unpack(bytes),
            Name::Text(text) => text,
        });
        Self {
            code: Code::of(&node),
            node,
            addr: written.addr,
            life: written.life,
            incarnation: written.incarnation,
            is_leaving: written.is_leaving,
        }
    }
}

/// 17 bytes hold 136 bits.
const CODE_LEN: usize = 17;

/// What a node's id is compared by: the id as a number, or for what is no
/// proper id, the end of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    bytes: [u8; CODE_LEN],
    is_id: bool,
}

impl Code {
    pub(super) fn of(node: &NodeId) -> Self {
        let bytes = pack(node.as_str());
        let is_id = bytes.is_some();
        let bytes = bytes.unwrap_or_else(|| {
            let mut end = [0; CODE_LEN];
            for (to, from) in end.iter_mut().rev().zip(node.0.bytes().rev()) {
                *to = from;
            }
            end
        });
        Self { bytes, is_id }
    }
}

impl foca::Identity for Identity {
    type Addr = Code;

    /// Never by the library: [`super::Gossip`] renews, with a limited rate.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> Code {
        self.code
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        !adversary.replaces(self)
    }
}

fn pack(text: &str) -> Option<[u8; CODE_LEN]> {
    if text.len() != ID_LEN {
        return None;
    }
    let mut number = [0u8; CODE_LEN];
    for digit in text.bytes() {
        let mut carry = BASE36.iter().position(|known| *known == digit)?;
        for byte in number.iter_mut().rev() {
            carry += usize::from(*byte) * BASE36.len();
            *byte = (carry % 256) as u8;
            carry /= 256;
        }
    }
    Some(number)
}

fn unpack(mut number: [u8; CODE_LEN]) -> String {
    let mut digits = [0u8; ID_LEN];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for byte in &mut number {
            rest = rest * 256 + usize::from(*byte);
            *byte = (rest / BASE36.len()) as u8;
            rest %= BASE36.len();
        }
        *digit = BASE36[rest];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let ids = [
            "0".repeat(25),
            "z".repeat(25),
            "2cdvbrbhodkkjxbx0k4ndqtvk".into(),
        ];
        for id in ids {
            assert_eq!(unpack(pack(&id).expect("it is an id")), id);
        }
        for text in ["", "n1", "2cdvbrbhodkkjxbx0k4ndqtvK"] {
            assert_eq!(pack(text), None);
        }
    }
}
