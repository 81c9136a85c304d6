//! An operator's session with a hub: what the hub shows is held against what this machine has verified before.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use holdfast_pki::authority::{Act, AuthorityPin, TrustedAuthority};
use holdfast_pki::clock::Clock;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::signing_key::{SigningKey, needs_passphrase};
use holdfast_policy::release::Manifest;
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use holdfast_proto::v1::operator_client::OperatorClient;
use holdfast_proto::{SLICE_BYTES_MAX, SLICE_CHUNK_BYTES_MAX, v1};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{Signing, connect, output};
use crate::operator_dir::{Context, OperatorDir, SeenRelease};

/// The largest answer of a hub: a page of 500 nodes with their reports.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Whoever signs is told this long before the authority ends.
const EXPIRY_WARNING_SECS: u64 = 60 * 86_400;

/// An operator's session with a hub.
#[derive(Debug)]
pub(super) struct Session {
    dir: OperatorDir,
    pub(super) context: Context,
    pub(super) authority: TrustedAuthority,
    pub(super) client: OperatorClient<Channel>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The fleet's release, as operators signed it.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) manifest: Verified<Manifest>,
    pub(super) slices: Vec<Slice>,
}

impl Session {
    /// Connects, and walks the authority from the pinned version to the newest one that the hub has.
    pub(super) async fn open(dir: OperatorDir, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut context = dir.context()?;
        let channel = connect::connect(&dir, &context, clock.clone()).await?;
        let authority = walk(&mut context, channel.clone()).await?;
        if context.authority != authority.pin() {
            context.authority = authority.pin();
            dir.write_context(&context)?;
        }
        let left = authority
            .document()
            .expires_secs
            .saturating_sub(clock.unix_secs());
        if left < EXPIRY_WARNING_SECS {
            output::remark(&format!(
                "warning: the authority expires in {} days; sign a new version",
                left / 86_400
            ));
        }
        let client = OperatorClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        Ok(Self {
            dir,
            context,
            authority,
            client,
            clock,
        })
    }

    /// The current release with all its slices, verified; none if nothing was released yet.
    ///
    /// A release below the highest that this machine has seen is an error, not an answer.
    pub(super) async fn release(&mut self) -> anyhow::Result<Option<Release>> {
        let reply = self
            .client
            .get_release(v1::GetReleaseRequest { generation: None })
            .await?
            .into_inner();
        let Some(envelope) = reply.manifest else {
            if let Some(seen) = &self.context.highest {
                bail!(
                    "the hub shows no release, but this machine has seen {}: was an old backup restored?",
                    seen.generation
                );
            }
            return Ok(None);
        };
        let envelope = Envelope::try_from(envelope)?;
        let manifest: Verified<Manifest> = self
            .authority
            .verify(&envelope, &Act::Release, self.clock.unix_secs())
            .context("the hub's release is not what operators signed")?;
        let generation = manifest.value().generation();
        if let Some(seen) = &self.context.highest
            && (generation < seen.generation
                || (generation == seen.generation && manifest.digest() != seen.manifest))
        {
            bail!(
                "the hub shows release {generation} ({}), but this machine has seen {} ({}): was an old backup restored?",
                manifest.digest().short(),
                seen.generation,
                seen.manifest.short()
            );
        }
        self.remember(&manifest)?;
        let slices = self.slices(&manifest).await?;
        Ok(Some(Release { manifest, slices }))
    }

    /// The slices of an earlier release, verified; none if the hub does not have it.
    pub(super) async fn earlier_slices(
        &mut self,
        generation: Generation,
    ) -> anyhow::Result<Option<Vec<Slice>>> {
        let request = v1::GetReleaseRequest {
            generation: Some(generation.into()),
        };
        let Some(envelope) = self.client.get_release(request).await?.into_inner().manifest else {
            return Ok(None);
        };
        let manifest: Verified<Manifest> = self
            .authority
            .verify(
                &Envelope::try_from(envelope)?,
                &Act::Release,
                self.clock.unix_secs(),
            )
            .with_context(|| format!("release {generation} is not what operators signed"))?;
        Ok(Some(self.slices(&manifest).await?))
    }

    async fn slices(&mut self, manifest: &Verified<Manifest>) -> anyhow::Result<Vec<Slice>> {
        let mut slices = Vec::new();
        for wanted in &manifest.value().slices {
            slices.push(self.slice(wanted.digest).await?);
        }
        Ok(slices)
    }

    /// Remembers the highest release seen.
    pub(super) fn remember(&mut self, manifest: &Verified<Manifest>) -> anyhow::Result<()> {
        let seen = SeenRelease {
            generation: manifest.value().generation(),
            manifest: manifest.digest(),
        };
        if self.context.highest.as_ref() != Some(&seen) {
            self.context.highest = Some(seen);
            self.dir.write_context(&self.context)?;
        }
        Ok(())
    }

    async fn slice(&mut self, digest: Digest) -> anyhow::Result<Slice> {
        let request = v1::GetSliceRequest {
            digest: digest.to_string(),
        };
        let mut chunks = self.client.read_slice(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.bytes);
            if bytes.len() > SLICE_BYTES_MAX {
                bail!("the hub sends more than a slice holds");
            }
        }
        if Digest::of(&bytes) != digest {
            bail!(
                "the hub sent another slice than the one asked for ({})",
                digest.short()
            );
        }
        Ok(Slice::parse(&bytes)?)
    }

    /// Uploads a slice.
    pub(super) async fn write_slice(&mut self, digest: Digest, bytes: &[u8]) -> anyhow::Result<()> {
        let total = bytes.len() as u64;
        let part = |chunk: &[u8]| v1::WriteSliceRequest {
            digest: digest.to_string(),
            total,
            bytes: chunk.to_vec().into(),
        };
        let parts: Vec<_> = bytes.chunks(SLICE_CHUNK_BYTES_MAX).map(part).collect();
        self.client.write_slice(tokio_stream::iter(parts)).await?;
        Ok(())
    }

    /// Every node that is not removed, by name.
    pub(super) async fn nodes(&mut self) -> anyhow::Result<Vec<v1::Node>> {
        let mut nodes = Vec::new();
        let mut page_after = String::new();
        loop {
            let request = v1::ListNodesRequest {
                page_after,
                page_size: 0,
            };
            let page = self.client.list_nodes(request).await?.into_inner();
            nodes.extend(page.nodes);
            page_after = page.next_page_after;
            if page_after.is_empty() {
                return Ok(nodes);
            }
        }
    }

    /// Opens the operator's signing key, asking for its passphrase if it must.
    pub(super) fn signing_key(&self, signing: &Signing) -> anyhow::Result<SigningKey> {
        let file = self.dir.signing_key_file()?;
        let passphrase = if needs_passphrase(&file)? {
            Some(ask_passphrase(signing, false)?)
        } else {
            None
        };
        Ok(SigningKey::from_file(
            &file,
            passphrase.as_deref().map(String::as_str),
        )?)
    }
}

async fn walk(context: &mut Context, channel: Channel) -> anyhow::Result<TrustedAuthority> {
    let mut client = EnrollmentClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    let AuthorityPin { version, .. } = context.authority;
    let mut after = version.saturating_sub(1);
    let mut trusted: Option<TrustedAuthority> = None;
    loop {
        let reply = client
            .get_authority(v1::GetAuthorityRequest { after_version: after })
            .await?
            .into_inner();
        let versions: Vec<Envelope> = reply
            .versions
            .into_iter()
            .map(Envelope::try_from)
            .collect::<Result<_, _>>()?;
        let held = match (trusted.take(), versions.first()) {
            (Some(held), _) => held,
            (None, Some(first)) => TrustedAuthority::from_pin(first, &context.authority)?,
            (None, None) => {
                bail!("the hub does not have authority version {version}, which this machine has verified")
            }
        };
        let walked = held.walk(&versions)?;
        if walked.document().version == after || versions.is_empty() {
            return Ok(walked);
        }
        after = walked.document().version;
        trusted = Some(walked);
    }
}

/// The passphrase from its file, or from the terminal: twice, if it is new.
pub(super) fn ask_passphrase(signing: &Signing, new: bool) -> anyhow::Result<Zeroizing<String>> {
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
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .context("there is no terminal to ask for the passphrase on: give --passphrase-file")
    };
    let passphrase = ask(if new {
        "New passphrase for the signing key: "
    } else {
        "Passphrase of the signing key: "
    })?;
    if new {
        if passphrase.is_empty() {
            bail!("the passphrase is empty; to keep the key in the clear say so with --kdf none");
        }
        if *ask("Again: ")? != *passphrase {
            bail!("the two passphrases differ; nothing was made");
        }
    }
    Ok(passphrase)
}
