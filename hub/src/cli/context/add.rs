//! `holdfast context add`: how a person begins in a fleet.
//!
//! What is trusted comes by another way than the hub: the version and digest of the authority, told by an admin. The keys
//! are made here. What goes back to the admin is a request, whose fingerprint both compare.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use holdfast_pki::access::OperatorRequest;
use holdfast_pki::authority::{AuthorityPin, TrustedAuthority};
use holdfast_pki::clock::SystemClock;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files::{Files as _, SystemFiles};
use holdfast_pki::random::SystemRandom;
use holdfast_pki::tls;
use holdfast_proto::ids::Name;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use serde_json::json;

use crate::cli::signer::NewKey;
use crate::cli::{Ending, Format, Operator, connect, output};
use crate::operator_dir::{Context, ContextDir};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    holdfast context add lab --hub hub.lab.example:8443 --operator bob \\\n    \
    --authority 3:9f2c...e1 --request bob.request\n\n\
    An admin tells VERSION:DIGEST (`holdfast authority show --pin`) by another way than the hub, takes the request,\n\
    compares the fingerprint with you, and adds you: `holdfast authority add bob.request --role operator`.")]
pub(in crate::cli) struct Add {
    /// What to call the fleet here
    name: Name,
    /// A hub's address; may be given several times
    #[arg(long = "hub", value_name = "HOST:PORT", required = true)]
    hubs: Vec<String>,
    /// The authority's version and digest, as an admin told them
    #[arg(long, value_name = "VERSION:DIGEST", value_parser = pin)]
    authority: AuthorityPin,
    /// The name to sign under
    #[arg(long = "operator", value_name = "NAME")]
    operator_name: Name,
    /// Where the request for the admin goes; '-' is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    request: PathBuf,
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    operator: Operator,
}

fn pin(text: &str) -> Result<AuthorityPin, String> {
    let wanted = || "VERSION:DIGEST wanted, as `holdfast authority show --pin` prints it".to_owned();
    let (version, digest) = text.split_once(':').ok_or_else(wanted)?;
    Ok(AuthorityPin {
        version: u64::from_str(version).map_err(|_| wanted())?,
        digest: digest.parse().map_err(|_| wanted())?,
    })
}

impl Add {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let dir = self.operator.dir()?;
        if dir.names()?.contains(&self.name) {
            bail!(
                "there is a context '{0}' already: choose another name, or forget it with its keys (`holdfast context \
                 remove {0} --yes`)",
                self.name
            );
        }
        if self.request_file().is_some_and(Path::exists) {
            bail!(
                "{} is there already: give another --request",
                self.request.display()
            );
        }
        let chain = self.fetch_authority().await?;
        let authority = TrustedAuthority::from_pin(&chain[0], &self.authority)?.walk(&chain)?;
        // The address is tried as it will be used: pinned to the roots that the authority names.
        connect::connect(
            &self.hubs,
            connect::pinned(&authority, None, Arc::new(SystemClock))?,
        )
        .await?;

        let place = dir.context(&self.name);
        let parent = place.path().parent().expect("below contexts/");
        SystemFiles
            .create_dir(dir.path())
            .context("cannot make the operator's directory")?;
        SystemFiles
            .create_dir(parent)
            .context("cannot make the operator's directory")?;
        // Made beside its place and renamed: a context is there whole or not at all.
        let part = parent.join(format!(".{}.{}", self.name, std::process::id()));
        let made = self
            .make(&part, &authority, &chain)
            .and_then(|request| self.put_in_place(&part, &place, request));
        let request = match made {
            Ok(request) => request,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&part);
                return Err(error);
            }
        };
        if dir.current()?.is_none() {
            dir.set_current(&self.name)?;
        }
        self.tell(&request);
        Ok(Ending::Done)
    }

    /// The file that the request is to be written to; none for standard output.
    fn request_file(&self) -> Option<&Path> {
        Some(self.request.as_path()).filter(|path| *path != Path::new("-"))
    }

    /// Writes the request, and then puts the context in place: one without a request would be of no use.
    fn put_in_place(&self, part: &Path, place: &ContextDir, request: Envelope) -> anyhow::Result<Envelope> {
        if let Some(path) = self.request_file() {
            SystemFiles
                .write_atomic(path, to_text(&request).as_bytes(), 0o644)
                .with_context(|| format!("cannot write the request {}: nothing was made", path.display()))?;
        }
        SystemFiles
            .rename(part, place.path())
            .with_context(|| format!("cannot put {} in place", place.path().display()))?;
        Ok(request)
    }

    /// The versions of the authority from the pinned one on. Believed for their digests alone.
    async fn fetch_authority(&self) -> anyhow::Result<Vec<Envelope>> {
        let channel = connect::connect(&self.hubs, tls::stranger_config()?).await?;
        let request = v1::GetAuthorityRequest {
            after_version: self.authority.version.saturating_sub(1),
        };
        let reply = EnrollmentClient::new(channel)
            .get_authority(request)
            .await?
            .into_inner();
        let chain: Vec<Envelope> = reply
            .versions
            .into_iter()
            .map(Envelope::try_from)
            .collect::<Result<_, _>>()?;
        if chain.is_empty() {
            bail!("the hub has no authority version {}", self.authority.version);
        }
        Ok(chain)
    }

    /// Makes the key and the context in `part`; the signed request.
    fn make(
        &self,
        part: &Path,
        authority: &TrustedAuthority,
        chain: &[Envelope],
    ) -> anyhow::Result<Envelope> {
        SystemFiles
            .create_dir(part)
            .with_context(|| format!("cannot make {}", part.display()))?;
        let dir = ContextDir::new(self.name.clone(), part.to_owned(), Arc::new(SystemFiles));
        let new = self.key.make(&self.operator.signing, &SystemRandom)?;
        let signing = new.keep(&dir)?;
        let signer = &new.signer;
        let trust_domain = authority.document().trust_domain.clone();
        let request = OperatorRequest {
            kind: OperatorRequest::KIND.to_owned(),
            format: OperatorRequest::FORMAT,
            trust_domain: trust_domain.clone(),
            name: self.operator_name.clone(),
            algorithm: signer.algorithm(),
            public: signer.public(),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&request).expect("a struct of texts"));
        signer.sign(OperatorRequest::KIND, &mut envelope)?;
        dir.write_authority_chain(chain)?;
        dir.write_context(&Context {
            format: 1,
            operator: self.operator_name.clone(),
            signing,
            trust_domain,
            hubs: self.hubs.clone(),
            authority: authority.pin(),
            highest: None,
        })?;
        Ok(envelope)
    }

    fn tell(&self, request: &Envelope) {
        let fingerprint = request.digest();
        match (self.operator.output, self.request_file()) {
            (Format::Json, _) => output::json(json!({ "request": request, "fingerprint": fingerprint })),
            (Format::Table, None) => output::say(&to_text(request)),
            (Format::Table, Some(path)) => output::say(&format!("request written to {}", path.display())),
        }
        output::remark(&format!("fingerprint of the request: {fingerprint}"));
        output::remark(&format!(
            "next: give the request to an admin, who compares this fingerprint with you and runs\n  \
             holdfast authority add REQUEST --role ROLE\nthen: holdfast context login --context {}",
            self.name
        ));
    }
}

fn to_text(request: &Envelope) -> String {
    serde_json::to_string(request).expect("texts and bytes")
}
