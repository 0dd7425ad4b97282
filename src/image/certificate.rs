//! Why a server's certificate is not taken, in words that say what to do.

use rustls::{CertificateError, Error};

/// What was wrong with it, if that is what an error is about.
pub(super) fn refused(err: &ureq::Error) -> Option<String> {
    let tls = match err {
        ureq::Error::Rustls(err) => err,
        ureq::Error::Io(err) => err.get_ref()?.downcast_ref::<Error>()?,
        _ => return None,
    };
    match tls {
        Error::InvalidCertificate(err) => Some(in_words(err)),
        // What the platform's verifier says where it finds none.
        Error::General(why) if why.contains("CA certificates") => Some(
            "this host has no CA certificates to compare it with; install ca-certificates, or what has \
             them here"
                .to_owned(),
        ),
        _ => None,
    }
}

fn in_words(err: &CertificateError) -> String {
    match err {
        CertificateError::UnknownIssuer => {
            "it was issued by an authority that this host does not trust; \
             a company's own CA has to be among the host's certificates"
                .to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is not for {}, but for {}",
            expected.to_str(),
            listed(presented)
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or the clock of this host is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, or the clock of this host is wrong".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        other => format!("it is bad ({other})"),
    }
}

/// Names as a server gives them, which may be many, and anything.
fn listed(names: &[String]) -> String {
    let clean = |name: &String| -> String {
        // As rustls shows it.
        let bare = name.strip_prefix("DnsName(\"");
        let bare = bare.and_then(|name| name.strip_suffix("\")"));
        let visible = bare.unwrap_or(name).chars().filter(char::is_ascii_graphic);
        visible.take(100).collect()
    };
    match names {
        [] => "no name at all".to_owned(),
        [some @ .., _] if some.len() > 3 => {
            let some: Vec<String> = names.iter().take(3).map(clean).collect();
            format!("{} and {} more", some.join(", "), names.len() - 3)
        }
        _ => names.iter().map(clean).collect::<Vec<_>>().join(", "),
    }
}
