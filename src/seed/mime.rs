//! Two parts of user-data as one MIME message (RFC 2046).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::UserData;

/// How cloud-init joins the second part to the first: lists are appended, mappings joined key by key;
/// what both have stays as the first has it. Without it, a list of the second replaces the first one's.
const MERGE: &str = "dict(recurse_list)+list(append)+str()";

/// The whole user-data first, so that what it says goes first, and then the cloud-config `typed`.
///
/// What has parts itself cannot be joined: `config` refuses that.
pub(super) fn joined(whole: &UserData, typed: &str) -> String {
    let boundary = boundary(&[whole.text(), typed]);
    let kind = whole.part().unwrap_or("text/plain");
    let parts = [
        part(kind, None, whole.text()),
        part("text/cloud-config", Some(MERGE), typed),
    ];
    let mut message =
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for part in parts {
        let _ = write!(message, "\n--{boundary}\n{part}");
    }
    let _ = write!(message, "\n--{boundary}--\n");
    message
}

fn part(kind: &str, merge: Option<&str>, text: &str) -> String {
    let merge = merge.map_or_else(String::new, |merge| format!("Merge-Type: {merge}\n"));
    // Python makes escapes of what is not ASCII in a part that is not encoded.
    if text.is_ascii() {
        return format!(
            "Content-Type: {kind}; charset=\"us-ascii\"\nContent-Transfer-Encoding: 7bit\n{merge}\n{text}"
        );
    }
    let encoded = STANDARD.encode(text);
    let mut lines = String::new();
    for line in encoded.as_bytes().chunks(76) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    format!(
        "Content-Type: {kind}; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n{merge}\n{lines}"
    )
}

/// A boundary that is in none of the parts, and always the same for them.
fn boundary(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    format!("nkudo-{}", hex::encode(&digest[..12]))
}
