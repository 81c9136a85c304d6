//! Where the signing key's passphrase comes from.

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::Signing;

/// The passphrase from its file, or from the terminal: twice, if it is new.
pub(super) fn ask(signing: &Signing, new: bool) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = &signing.passphrase_file {
        let text = Zeroizing::new(
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the passphrase from {}", path.display()))?,
        );
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            bail!(
                "the first line of {} is empty: it should be the passphrase",
                path.display()
            );
        }
        return Ok(Zeroizing::new(line.to_owned()));
    }
    let prompt_for = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .context("there is no terminal to ask for the passphrase on: give --passphrase-file")
    };
    let passphrase = prompt_for(if new {
        "New passphrase for the signing key: "
    } else {
        "Passphrase of the signing key: "
    })?;
    if new {
        if passphrase.is_empty() {
            bail!("the passphrase is empty; to keep the key in the clear say so with --kdf none");
        }
        if *prompt_for("Again: ")? != *passphrase {
            bail!("the two passphrases differ; nothing was made");
        }
    }
    Ok(passphrase)
}
