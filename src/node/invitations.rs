//! Invitations: each lets one peer in who shows its token, and ends.
//!
//! The file that they are kept in is the home's, tickets that hold tokens are [`super::ticket`]'s.

use reknit_core::Millis;
use serde::{Deserialize, Serialize};

use super::home::{File, hex};
use super::{Grants, Home, HomeError};
use crate::transport::PeerId;

/// What a peer is told that shows an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// What it may by it.
    pub may: Grants,
    /// Whether it had taken it up before.
    pub again: bool,
}

/// An invitation that was not taken up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The hash of its token.
    pub token_hash: [u8; 32],
    /// What whoever takes it up may do here.
    pub may: Grants,
    /// When it ends.
    pub expires: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationEntry {
    token_hash: String,
    may: Vec<String>,
    expires_ms: i64,
    /// Who has taken it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taker: Option<String>,
}

impl Home {
    /// Keeps an invitation until it is taken up or ends.
    ///
    /// # Errors
    /// As for [`Home::add_peer`].
    pub fn invite(&self, invitation: &Invitation) -> Result<(), HomeError> {
        self.change(|file| {
            file.invitation.push(InvitationEntry {
                token_hash: hex(&invitation.token_hash),
                may: invitation.may.names(),
                expires_ms: invitation.expires as i64,
                taker: None,
            });
            Ok(())
        })
    }

    /// Whether an invitation is open at `now` that nobody has taken up.
    ///
    /// # Errors
    /// As for [`Home::peers`].
    pub fn awaits_anyone(&self, now: Millis) -> Result<bool, HomeError> {
        let awaits = |entry: &InvitationEntry| entry.taker.is_none() && entry.expires_ms as u64 > now;
        Ok(self.read()?.invitation.iter().any(awaits))
    }

    /// Lets a peer take up the invitation of this token: it is added, and the invitation is nobody else's. Until it ends the same
    /// peer is told the same when it shows it again, for the answer may have been lost.
    ///
    /// # Errors
    /// As for [`Home::add_peer`].
    pub fn take_up(&self, token: &[u8], peer: PeerId, now: Millis) -> Result<Option<Welcome>, HomeError> {
        let hash = hex(blake3::hash(token).as_bytes());
        let open = |entry: &InvitationEntry| entry.token_hash == hash && entry.expires_ms as u64 > now;
        let known = self.read()?;
        match known.invitation.iter().find(|entry| open(entry)) {
            // A token of nobody's costs no writing, nor does one that is shown again.
            None => return Ok(None),
            Some(entry) if entry.taker.is_some() => {
                let may = self.told_again(&known, entry, (peer, now))?;
                return Ok(may.map(|may| Welcome { may, again: true }));
            }
            Some(_) => {}
        }
        // Looked at again where nobody else can take it up.
        self.change(|file| {
            let Some(at) = file.invitation.iter().position(open) else { return Ok(None) };
            if file.invitation[at].taker.is_some() {
                let may = self.told_again(file, &file.invitation[at], (peer, now))?;
                return Ok(may.map(|may| Welcome { may, again: true }));
            }
            let may = self.rights_named(&file.invitation[at].may)?;
            self.grant_in(file, peer, &may)?;
            file.invitation[at].taker = Some(peer.to_string());
            file.invitation.retain(|entry| entry.expires_ms as u64 > now);
            Ok(Some(Welcome { may, again: false }))
        })
    }

    /// What is told a peer that shows an invitation which was taken up: nothing, unless it is the one that did. It gets nothing by
    /// that, so what was taken away from it since stays so.
    fn told_again(
        &self,
        file: &File,
        entry: &InvitationEntry,
        (peer, now): (PeerId, Millis),
    ) -> Result<Option<Grants>, HomeError> {
        let lines = self.lines_of(file)?;
        let taker: Option<PeerId> = entry.taker.as_deref().and_then(|taker| taker.parse().ok());
        // It may come by another of its keys.
        let same = taker.is_some_and(|taker| lines.line(peer.0).contains(&taker.0));
        if !same || lines.ended(&peer.0, now) {
            return Ok(None);
        }
        let invited = self.rights_named(&entry.may)?;
        let may = self.granted(file, &lines, peer)?.map(|granted| granted.both(&invited));
        Ok(may.filter(|may| !may.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::node::KnownPeer;
    use crate::node::home::SuccessionEntry;
    use reknit_core::message::Rights;

    #[test]
    fn whoever_took_up_an_invitation_is_told_so_again_and_gets_nothing_by_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("opened");
        let [bob, carol, dora] = [1, 2, 3].map(|byte| PeerId([byte; 32]));
        // As releases before wrote it.
        let hash = hex(blake3::hash(b"token").as_bytes());
        let invited = format!("token_hash = \"{hash}\"\nmay = [\"read\", \"write\"]\nexpires_ms = 100\n");
        fs::write(home.peers_file(), format!("[[invitation]]\n{invited}")).expect("written");
        let welcome = |peer, now| home.take_up(b"token", peer, now).expect("read");
        let shows = |peer, now| welcome(peer, now).map(|welcome| welcome.may);
        let (both, read): (Grants, Grants) = (Rights::READ.and(Rights::WRITE).into(), Rights::READ.into());
        assert!(home.awaits_anyone(50).expect("read"));
        let told = |again| Some(Welcome { may: both.clone(), again });
        assert_eq!([bob, bob, carol].map(|peer| welcome(peer, 50)), [told(false), told(true), None]);
        assert!(!home.awaits_anyone(50).expect("read"));
        assert_eq!((shows(bob, 150), home.grants(carol).expect("read")), (None, None));
        // What was taken away since stays so.
        home.add_peer(&KnownPeer { peer: bob, may: read.clone(), name: None }).expect("changed");
        assert_eq!(shows(bob, 50), Some(read.clone()));
        assert_eq!(home.grants(bob).expect("read"), Some(read.clone()));
        // It is the same by a newer key, and no more by the old one once that is over.
        let next = SuccessionEntry { old: bob.to_string(), new: dora.to_string(), until_ms: 60 };
        home.change(|file| {
            file.succession.push(next);
            Ok(())
        })
        .expect("written");
        assert_eq!(
            [(bob, 50), (dora, 50), (bob, 70), (dora, 70)].map(|(peer, now)| shows(peer, now).is_some()),
            [true, true, false, true]
        );
        assert!(home.remove_peer(dora).expect("removed"));
        assert_eq!(
            [bob, dora].map(|peer| (shows(peer, 50), home.grants(peer).expect("read"))),
            [(None, None), (None, None)]
        );
    }
}
