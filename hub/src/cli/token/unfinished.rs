//! Tokens on their way: `tokens/<grant id>` in the context, readable by its owner alone, from before the grant leaves this
//! machine until the token was printed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::UniqueId;

use crate::operator_dir::ContextDir;

fn path(dir: &ContextDir, grant: &UniqueId) -> PathBuf {
    dir.path().join("tokens").join(grant.to_string())
}

/// Keeps a token whose grant is not known to be in force.
pub(super) fn keep(dir: &ContextDir, grant: &UniqueId, token: &JoinToken) -> anyhow::Result<()> {
    let path = path(dir, grant);
    let files = dir.files();
    files
        .create_dir(path.parent().expect("below tokens/"))
        .and_then(|()| files.write_atomic(&path, token.to_text().as_bytes(), 0o600))
        .with_context(|| format!("cannot keep the token's secret in {}", path.display()))
}

/// The token that is kept for `grant`.
pub(super) fn kept(dir: &ContextDir, grant: &UniqueId) -> anyhow::Result<JoinToken> {
    let path = path(dir, grant);
    match dir.files().read(&path) {
        Ok(bytes) => {
            let text = zeroize::Zeroizing::new(bytes);
            let token = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            token.with_context(|| format!("{} holds no token", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "this machine keeps no secret for grant {grant}: a token is finished where it was created, and once"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Forgets a token: it was printed, or its grant will never be.
pub(super) fn forget(dir: &ContextDir, grant: &UniqueId) -> anyhow::Result<()> {
    let path = path(dir, grant);
    dir.files().remove(&path).with_context(|| {
        format!(
            "cannot remove {}, which holds a token's secret: delete it",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::authority::AuthorityPin;
    use holdfast_pki::envelope::Envelope;
    use holdfast_pki::files::SystemFiles;
    use holdfast_proto::ids::Digest;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    #[test]
    fn a_token_is_kept_for_its_owner_alone_until_it_is_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ContextDir::new(
            "lab".parse().unwrap(),
            temp.path().to_owned(),
            Arc::new(SystemFiles),
        );
        let grant = UniqueId::from([7; 16]);
        let token = JoinToken {
            trust_domain: "lab.example".parse().unwrap(),
            hubs: vec!["hub:8443".to_owned()],
            node_roots: [Digest::of(b"root")].into(),
            authority: AuthorityPin {
                version: 1,
                digest: Digest::of(b"authority"),
            },
            grant: Envelope::unsigned(b"{}".to_vec()),
            secret: vec![7; 32],
        };
        assert!(kept(&dir, &grant).is_err());
        keep(&dir, &grant, &token).unwrap();
        let mode = std::fs::metadata(path(&dir, &grant))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(kept(&dir, &grant).unwrap().secret, token.secret);
        forget(&dir, &grant).unwrap();
        assert!(kept(&dir, &grant).is_err());
    }
}
