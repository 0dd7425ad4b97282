//! POSIX access control lists in the kernel's form: the value of `system.posix_acl_access`.
//!
//! acl(5) has the meaning, linux/posix_acl_xattr.h the layout: a version, then entries of tag,
//! permissions and id, sorted by tag and id, all little-endian.

#![deny(clippy::disallowed_methods)]

use std::ops::RangeInclusive;

/// What systemd gives to units with `DynamicUser=` (systemd.exec(5), and
/// https://systemd.io/UIDS-GIDS).
pub(super) const DYNAMIC_UIDS: RangeInclusive<u32> = 61184..=65519;

pub(super) const READ: u16 = 4;
pub(super) const WRITE: u16 = 2;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u16,
    id: u32,
    permissions: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its access control list is not in the form that this kernel is known to have")]
pub(super) struct BadAcl;

impl Acl {
    /// The list of a file that has none but its mode.
    pub(super) fn of_mode(mode: u32) -> Self {
        let entry = |tag, shift: u32| Entry {
            tag,
            id: NO_ID,
            permissions: u16::try_from((mode >> shift) & 7).unwrap_or(0),
        };
        Self(vec![
            entry(USER_OBJ, 6),
            entry(GROUP_OBJ, 3),
            entry(OTHER, 0),
        ])
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, BadAcl> {
        let (version, entries) = bytes.split_first_chunk::<4>().ok_or(BadAcl)?;
        if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(8) {
            return Err(BadAcl);
        }
        let entry = |bytes: &[u8]| Entry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            permissions: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Ok(Self(entries.chunks_exact(8).map(entry).collect()))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut entries = self.0.clone();
        entries.sort_unstable();
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in entries {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    /// Gives a user these permissions. Nobody else's change.
    pub(super) fn grant(&mut self, uid: u32, permissions: u16) {
        // A mask that is widened for the new entry would give others what it kept from them, so
        // first they lose for good what they did not have anyway.
        if let Some(mask) = self.0.iter().find(|entry| entry.tag == MASK).copied() {
            for entry in &mut self.0 {
                if is_masked(entry.tag) {
                    entry.permissions &= mask.permissions;
                }
            }
        }
        self.0.retain(|entry| entry.tag != USER || entry.id != uid);
        self.0.push(Entry {
            tag: USER,
            id: uid,
            permissions,
        });
        self.set_mask();
    }

    /// Takes the entries of these users away.
    pub(super) fn revoke(&mut self, uids: RangeInclusive<u32>) {
        let before = self.0.len();
        self.0
            .retain(|entry| entry.tag != USER || !uids.contains(&entry.id));
        if self.0.len() != before {
            self.set_mask();
        }
    }

    /// What others may, whoever they are.
    pub(super) fn others(&self) -> u16 {
        let other = self.0.iter().find(|entry| entry.tag == OTHER);
        other.map_or(0, |entry| entry.permissions)
    }

    /// The mask is what all it applies to have together: it takes nothing from anybody. Without
    /// named users and groups there is none, and the list is as good as a mode again.
    fn set_mask(&mut self) {
        self.0.retain(|entry| entry.tag != MASK);
        let named = |entry: &Entry| matches!(entry.tag, USER | GROUP);
        if !self.0.iter().any(named) {
            return;
        }
        let union = self
            .0
            .iter()
            .filter(|entry| is_masked(entry.tag))
            .fold(0, |union, entry| union | entry.permissions);
        self.0.push(Entry {
            tag: MASK,
            id: NO_ID,
            permissions: union,
        });
    }
}

fn is_masked(tag: u16) -> bool {
    matches!(tag, USER | GROUP_OBJ | GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_and_its_revocation_leave_a_file_as_it_was() {
        let plain = Acl::of_mode(0o600);
        let mut acl = plain.clone();
        acl.grant(61200, READ | WRITE);
        assert_ne!(acl, plain);
        acl.revoke(DYNAMIC_UIDS);
        assert_eq!(acl, plain);
    }

    #[test]
    fn bytes_are_read_back_as_they_were() {
        let mut acl = Acl::of_mode(0o640);
        acl.grant(61200, READ | WRITE);
        acl.grant(1000, READ);
        let bytes = acl.to_bytes();
        // Two entries of users, the mask, and the three of the mode.
        assert_eq!(bytes.len(), 4 + 6 * 8);
        let again = Acl::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(Acl::from_bytes(&bytes[..5]), Err(BadAcl));
        assert_eq!(Acl::from_bytes(&[1, 0, 0, 0]), Err(BadAcl));
    }

    #[test]
    fn a_narrow_mask_gives_nobody_more_when_it_is_widened() {
        // chmod g= on a file whose list lets user 1000 read and write: the mask is empty.
        let mut acl = Acl::of_mode(0o600);
        acl.grant(1000, READ | WRITE);
        for entry in &mut acl.0 {
            if entry.tag == MASK {
                entry.permissions = 0;
            }
        }
        acl.grant(61200, READ | WRITE);
        let user = |uid| {
            let found = acl.0.iter().find(|e| e.tag == USER && e.id == uid);
            found.map(|entry| entry.permissions)
        };
        assert_eq!(user(1000), Some(0));
        assert_eq!(user(61200), Some(READ | WRITE));
    }

    #[test]
    fn other_users_entries_stay() {
        let mut acl = Acl::of_mode(0o600);
        acl.grant(1000, READ);
        acl.grant(61200, READ | WRITE);
        acl.grant(65519, READ | WRITE);
        acl.revoke(DYNAMIC_UIDS);
        let users: Vec<u32> = acl
            .0
            .iter()
            .filter(|e| e.tag == USER)
            .map(|e| e.id)
            .collect();
        assert_eq!(users, [1000]);
    }
}
