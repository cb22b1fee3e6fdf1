//! What a superpeer with the authority's key answers to nodes that want certificates.

use super::authority::{Authority, ENROLLED_LIFETIME};
use super::certified::Certified;
use super::error::ClusterError;
use crate::proto::swarm::Roles;
use crate::proto::time::Wall;
use crate::proto::wire::enrol::Chain;
use crate::proto::wire::{Enrol, Enrolled, enrolled};

impl Authority {
    /// Answers a node that shows a join token and no certificate. It gets the token's roles, for [`ENROLLED_LIFETIME`].
    pub fn enrol(&self, enrol: &Enrol, now: Wall) -> Enrolled {
        answer(
            self.verify_token(&enrol.token, now)
                .map_err(ClusterError::from)
                .and_then(|roles| self.chain(enrol, roles, &enrol.name, now)),
        )
    }

    /// Answers a node that shows a valid certificate: it gets a new one for the same key, with the same name and roles.
    /// The token is not looked at, so that one that has expired does not throw out those who came with it.
    pub fn renew(&self, enrol: &Enrol, shown: &Certified, now: Wall) -> Enrolled {
        answer(self.chain(enrol, shown.roles, &shown.name, now).and_then(|chain| {
            let made = chain.certificates.first().ok_or(ClusterError::Answer)?;
            let made = Certified::read(&made.as_slice().into())?;
            if made.id == shown.id { Ok(chain) } else { Err(ClusterError::OtherKey) }
        }))
    }

    fn chain(&self, enrol: &Enrol, roles: Roles, name: &str, now: Wall) -> Result<Chain, ClusterError> {
        let chain = self.issue(&enrol.csr, roles, name, now, ENROLLED_LIFETIME)?;
        Ok(Chain { certificates: chain.iter().map(|certificate| certificate.to_vec()).collect() })
    }
}

fn answer(chain: Result<Chain, ClusterError>) -> Enrolled {
    let kind = match chain {
        Ok(chain) => enrolled::Kind::Chain(chain),
        Err(error) => enrolled::Kind::Refused(error.to_string()),
    };
    Enrolled { kind: Some(kind) }
}
